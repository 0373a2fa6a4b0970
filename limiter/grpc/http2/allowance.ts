/** So many bytes may be held at once, by one connection or by all of them together. */
export class Allowance {
  readonly #maxBytes: number;
  readonly #whole: Allowance | undefined;
  #bytes = 0;

  constructor(maxBytes: number, whole?: Allowance) {
    this.#maxBytes = maxBytes;
    this.#whole = whole;
  }

  /** False, and nothing is taken, if that were too much. */
  take(bytes: number): boolean {
    if (this.#bytes + bytes > this.#maxBytes) return false;
    if (this.#whole?.take(bytes) === false) return false;
    this.#bytes += bytes;
    return true;
  }

  giveBack(bytes: number): void {
    this.#bytes -= bytes;
    this.#whole?.giveBack(bytes);
  }
}
