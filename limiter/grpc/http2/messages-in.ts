// Puts together what a call sends: messages of five bytes of head and so many bytes, cut into frames anywhere.
import type { Allowance } from './allowance.ts';

export const MESSAGE_HEAD_BYTES = 5;
export const MAX_MESSAGE_BYTES = 262_144;

const LEAST_BYTES = 512;
const NOTHING = Buffer.alloc(0);

export type Message = { readonly isCompressed: boolean; readonly bytes: Buffer };

export class MessagesIn {
  readonly #allowance: Allowance;
  #bytes: Buffer = NOTHING;
  #length = 0;

  constructor(allowance: Allowance) {
    this.#allowance = allowance;
  }

  /** Whether there is something that was not taken as a message. */
  get hasRest(): boolean {
    return this.#length > 0;
  }

  get isNextTooLarge(): boolean {
    return this.#length >= MESSAGE_HEAD_BYTES && this.#bytes.readUInt32BE(1) > MAX_MESSAGE_BYTES;
  }

  /** False if there is no room for it. */
  add(payload: Buffer): boolean {
    const length = this.#length + payload.length;
    if (length > this.#bytes.length && !this.#grow(length)) return false;
    payload.copy(this.#bytes, this.#length);
    this.#length = length;
    return true;
  }

  /** The next message, if all of it is there. */
  next(): Message | undefined {
    if (this.#length < MESSAGE_HEAD_BYTES) return undefined;
    const end = MESSAGE_HEAD_BYTES + this.#bytes.readUInt32BE(1);
    if (this.#length < end) return undefined;
    const isCompressed = this.#bytes[0] !== 0;
    const bytes = Buffer.from(this.#bytes.subarray(MESSAGE_HEAD_BYTES, end));
    this.#bytes.copyWithin(0, end, this.#length);
    this.#length -= end;
    return { isCompressed, bytes };
  }

  release(): void {
    this.#allowance.giveBack(this.#bytes.length);
    this.#bytes = NOTHING;
    this.#length = 0;
  }

  /** By doubling: frames may come byte by byte. */
  #grow(length: number): boolean {
    const capacity = Math.max(LEAST_BYTES, 2 ** Math.ceil(Math.log2(length)));
    if (!this.#allowance.take(capacity - this.#bytes.length)) return false;
    const bytes = Buffer.allocUnsafeSlow(capacity);
    this.#bytes.copy(bytes, 0, 0, this.#length);
    this.#bytes = bytes;
    return true;
  }
}
