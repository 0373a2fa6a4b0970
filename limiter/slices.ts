import type { Steps } from '../policy/steps.ts';

/** How a long work shares the event loop with requests. */
export type Turns = {
  readonly monotonicMillis: () => number;
  /** Lets whoever waits have a turn. */
  readonly rest: () => Promise<void>;
};

/**
 * How long requests may wait for one slice. The way of a request leads through the event loop twice (to Redis, and back),
 * so it meets two or three of them.
 */
export const SLICE_MILLIS = 2;

/** After the sockets were read, and what came was answered or sent on. */
export const restOneTurn = (): Promise<void> => new Promise((resolve) => void setImmediate(resolve));

/** Does all steps, a slice in each turn of the event loop. Begins with a rest, so that two works do not make one slice. */
export async function inSlices<T>(steps: Steps<T>, { monotonicMillis, rest }: Turns): Promise<T> {
  for (;;) {
    await rest();
    const endMillis = monotonicMillis() + SLICE_MILLIS;
    do {
      const step = steps.next();
      if (step.done === true) return step.value;
    } while (monotonicMillis() < endMillis);
  }
}
