/** Time as Redis has it, estimated between replies on the monotonic clock of this process. */
export class RedisClock {
  readonly #monotonicMillis: () => number;
  #offsetMicros: number | undefined;

  constructor(monotonicMillis: () => number = () => performance.now()) {
    this.#monotonicMillis = monotonicMillis;
  }

  monotonicMillis(): number {
    return this.#monotonicMillis();
  }

  /** Redis said `redisMicros` in a reply to what was sent at `sentAtMillis` of the monotonic clock. */
  observe(redisMicros: number, sentAtMillis: number): void {
    const midpointMillis = (sentAtMillis + this.#monotonicMillis()) / 2;
    this.#offsetMicros = redisMicros - midpointMillis * 1000;
  }

  /** Microseconds since 1970. Before Redis ever answered, by the clock of this machine: nothing better is known. */
  nowMicros(): number {
    if (this.#offsetMicros === undefined) return Date.now() * 1000;
    return Math.floor(this.#monotonicMillis() * 1000 + this.#offsetMicros);
  }
}
