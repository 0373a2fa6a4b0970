/** Work of which each step takes less than a millisecond, whatever the whole takes: others may have a turn in between. */
export type Steps<T> = Generator<undefined, T, undefined>;

/** All steps, one right after the other. */
export function atOnce<T>(steps: Steps<T>): T {
  for (;;) {
    const step = steps.next();
    if (step.done === true) return step.value;
  }
}

/** Items of which many are dealt with in one step. */
const AT_ONCE = 64;

/** Does what takes a microsecond or so with each item: a step for every few of them. */
export function* withEach<T>(items: Iterable<T>, work: (item: T) => void): Steps<void> {
  let count = 0;
  for (const item of items) {
    work(item);
    count += 1;
    if (count % AT_ONCE === 0) yield;
  }
}
