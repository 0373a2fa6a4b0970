const LEAST_BYTES = 65_536;
/** One that has grown larger than this is not kept. */
const MAX_KEPT_BYTES = 1_048_576;

/** Where what is to be written is put together: one for all connections, as each is written at once. */
export class Scratch {
  bytes: Buffer = Buffer.allocUnsafeSlow(LEAST_BYTES);
  length = 0;

  /** Makes room for so many bytes more. */
  reserve(length: number): void {
    const needed = this.length + length;
    if (needed <= this.bytes.length) return;
    const bytes = Buffer.allocUnsafeSlow(Math.max(needed, this.bytes.length * 2));
    this.bytes.copy(bytes, 0, 0, this.length);
    this.bytes = bytes;
  }

  append(bytes: Buffer): void {
    this.reserve(bytes.length);
    bytes.copy(this.bytes, this.length);
    this.length += bytes.length;
  }

  /** What was put together. */
  written(): Buffer {
    return this.bytes.subarray(0, this.length);
  }

  /** Begins anew, in other memory if what was put together is still read. */
  reset(isStillRead: boolean): void {
    this.length = 0;
    if (isStillRead || this.bytes.length > MAX_KEPT_BYTES) this.bytes = Buffer.allocUnsafeSlow(LEAST_BYTES);
  }
}
