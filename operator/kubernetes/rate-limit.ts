import { setTimeout as pause } from 'node:timers/promises';

/** A token bucket for our own calls: those who come too early wait for their turn, in the order in which they came. */
export class RateLimit {
  readonly #perSecond: number;
  readonly #burst: number;
  readonly #monotonicMillis: () => number;
  /** When the bucket would be full again; each call moves it on by its share. */
  #fullAtMillis = 0;

  constructor(perSecond: number, burst: number, monotonicMillis: () => number = () => performance.now()) {
    this.#perSecond = perSecond;
    this.#burst = burst;
    this.#monotonicMillis = monotonicMillis;
  }

  /** Resolves when the call may be sent, with the seconds that it waited; rejects when the signal aborts. */
  async take(signal: AbortSignal): Promise<number> {
    const now = this.#monotonicMillis();
    const millisEach = 1000 / this.#perSecond;
    this.#fullAtMillis = Math.max(this.#fullAtMillis, now) + millisEach;
    const waitMillis = this.#fullAtMillis - now - this.#burst * millisEach;
    if (waitMillis <= 0) return 0;
    await pause(waitMillis, undefined, { signal });
    return waitMillis / 1000;
  }
}
