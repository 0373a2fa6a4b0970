/** Work of which each step takes less than a millisecond, whatever the whole takes: others may have a turn in between. */
export type Steps<T> = Generator<undefined, T, undefined>;

/** All steps, one right after the other. */
export function atOnce<T>(steps: Steps<T>): T {
  for (;;) {
    const step = steps.next();
    if (step.done === true) return step.value;
  }
}
