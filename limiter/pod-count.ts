/** Longer than every pod takes to be counted again after Redis came back: its heartbeat, and how long one is fresh. */
const SETTLED_MILLIS = 10_000;

/**
 * How many pods share the work, as last agreed through Redis: the divisor of what each admits alone without it.
 *
 * More pods are believed at once, fewer only after ten seconds without a failed heartbeat: a Redis that comes back
 * empty, or after long, at first knows of few, and if it goes away again each of these would take too much.
 */
export class PodCount {
  readonly #monotonicMillis: () => number;
  #agreed: number | undefined;
  /** Since when fewer were seen each time, and the most of these. */
  #fewer: { readonly sinceMillis: number; readonly most: number } | undefined;

  constructor(monotonicMillis: () => number) {
    this.#monotonicMillis = monotonicMillis;
  }

  /** Undefined if Redis never answered. */
  get agreed(): number | undefined {
    return this.#agreed;
  }

  /** A heartbeat found so many, this one included. */
  seen(pods: number): void {
    if (this.#agreed === undefined || pods >= this.#agreed) {
      this.#agreed = pods;
      this.#fewer = undefined;
      return;
    }
    const now = this.#monotonicMillis();
    this.#fewer = { sinceMillis: this.#fewer?.sinceMillis ?? now, most: Math.max(pods, this.#fewer?.most ?? 0) };
    if (now - this.#fewer.sinceMillis < SETTLED_MILLIS) return;
    this.#agreed = this.#fewer.most;
    this.#fewer = undefined;
  }

  /** A heartbeat failed. */
  lost(): void {
    this.#fewer = undefined;
  }
}
