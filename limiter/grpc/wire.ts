// The wire format of protocol buffers, as far as the messages here need it. By hand, because a general decoder makes an
// object of every field first and an encoder takes one: both together took a seventh of a call's processor time.

/** Bytes that are no message. */
export class BadMessage extends Error {
  override readonly name = 'BadMessage';
  readonly code = 'BAD_MESSAGE';
  readonly transient = false;
}

export const WIRE = { varint: 0, fixed64: 1, bytes: 2, group: 3, groupEnd: 4, fixed32: 5 } as const;

const MAX_VARINT_BYTES = 10;
/** Of groups, which no message here has: they are skipped. */
const MAX_DEPTH = 32;

/** A field's tag: its number and how it is written. */
export const tag = (field: number, wire: number): number => (field << 3) | wire;

export class WireReader {
  readonly #bytes: Buffer;
  at: number;
  end: number;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
    this.at = 0;
    this.end = bytes.length;
  }

  /** The next field's tag; 0 at the end of the message. */
  tag(): number {
    if (this.at >= this.end) return 0;
    const next = this.uint32();
    if (next >>> 3 === 0) throw new BadMessage('a field has the number 0');
    return next;
  }

  /** Its lowest 32 bits, whatever comes. */
  uint32(): number {
    let value = 0;
    for (let index = 0; index < MAX_VARINT_BYTES; index += 1) {
      const byte = this.#byte();
      if (index < 5) value |= (byte & 0x7f) << (index * 7);
      if (byte < 0x80) return value >>> 0;
    }
    throw new BadMessage('an integer that does not end');
  }

  /** Its lowest 64 bits; exact as far as numbers are. */
  uint64(): number {
    let value = 0;
    let unit = 1;
    for (let index = 0; index < MAX_VARINT_BYTES; index += 1) {
      const byte = this.#byte();
      value += (index < MAX_VARINT_BYTES - 1 ? byte & 0x7f : byte & 1) * unit;
      unit *= 128;
      if (byte < 0x80) return value;
    }
    throw new BadMessage('an integer that does not end');
  }

  text(): string {
    const start = this.enter();
    const text = this.#bytes.toString('utf8', this.at, this.end);
    this.at = this.end;
    this.end = start;
    return text;
  }

  /** Goes into a message within; what it returns is to be given to leave(). */
  enter(): number {
    const length = this.uint32();
    const outerEnd = this.end;
    if (length > outerEnd - this.at) throw new BadMessage('a part is longer than its message');
    this.end = this.at + length;
    return outerEnd;
  }

  leave(outerEnd: number): void {
    this.at = this.end;
    this.end = outerEnd;
  }

  /** Passes over a field that nobody knows. */
  skip(fieldTag: number, depth = 0): void {
    switch (fieldTag & 7) {
      case WIRE.varint:
        this.uint32();
        return;
      case WIRE.fixed64:
        this.#pass(8);
        return;
      case WIRE.bytes:
        this.#pass(this.uint32());
        return;
      case WIRE.fixed32:
        this.#pass(4);
        return;
      case WIRE.group:
        this.#skipGroup(fieldTag, depth);
        return;
      default:
        throw new BadMessage(`a field is written in a way that there is not: ${fieldTag & 7}`);
    }
  }

  #skipGroup(fieldTag: number, depth: number): void {
    if (depth > MAX_DEPTH) throw new BadMessage('groups within groups');
    const last = tag(fieldTag >>> 3, WIRE.groupEnd) >>> 0;
    for (let next = this.tag(); next !== last; next = this.tag()) {
      if (next === 0) throw new BadMessage('a group that does not end');
      this.skip(next, depth + 1);
    }
  }

  #pass(length: number): void {
    if (length > this.end - this.at) throw new BadMessage('a part is longer than its message');
    this.at += length;
  }

  #byte(): number {
    if (this.at >= this.end) throw new BadMessage('a message that ends too early');
    const byte = this.#bytes[this.at] ?? 0;
    this.at += 1;
    return byte;
  }
}

const LEAST_BYTES = 4_096;
/** Below, a loop over characters is faster than a call out of JavaScript. */
const SHORT_TEXT = 24;
const MAX_UTF8_BYTES = 3;
const MAX_FIELD_BYTES = 16;

/** Writes one message after the other into the same memory. */
export class WireWriter {
  #bytes: Buffer = Buffer.allocUnsafeSlow(LEAST_BYTES);
  #at = 0;

  /** Begins a message. What is left of one that was not taken, as something failed meanwhile, is no part of it. */
  restart(): void {
    this.#at = 0;
  }

  /** A field that is 0 need not be there. */
  uint32(field: number, value: number): void {
    if (value === 0) return;
    this.#reserve(MAX_FIELD_BYTES);
    this.#varint(tag(field, WIRE.varint));
    this.#varint(value);
  }

  uint64(field: number, value: number): void {
    if (value === 0) return;
    this.#reserve(MAX_FIELD_BYTES);
    this.#varint(tag(field, WIRE.varint));
    let rest = value;
    for (; rest >= 2 ** 32; rest = Math.floor(rest / 128)) this.#bytes[this.#at++] = (rest % 128) | 0x80;
    this.#varint(rest);
  }

  double(field: number, value: number): void {
    this.#reserve(MAX_FIELD_BYTES);
    this.#varint(tag(field, WIRE.fixed64));
    this.#at = this.#bytes.writeDoubleLE(value, this.#at);
  }

  /** Of a `oneof` also if it is empty. */
  text(field: number, value: string): void {
    this.#reserve(MAX_FIELD_BYTES + value.length * MAX_UTF8_BYTES);
    this.#varint(tag(field, WIRE.bytes));
    const start = this.#at;
    if (value.length >= SHORT_TEXT || !this.#ascii(value)) {
      this.#at = start + 1;
      this.#at += this.#bytes.write(value, this.#at, 'utf8');
    }
    this.#putLength(start);
  }

  /** Begins a message within; what it returns is to be given to end(). */
  begin(field: number): number {
    this.#reserve(MAX_FIELD_BYTES);
    this.#varint(tag(field, WIRE.bytes));
    this.#at += 1;
    return this.#at - 1;
  }

  end(start: number): void {
    this.#reserve(MAX_FIELD_BYTES);
    this.#putLength(start);
  }

  /** What was written. */
  take(): Buffer {
    const message = Buffer.from(this.#bytes.subarray(0, this.#at));
    if (this.#bytes.length > LEAST_BYTES) this.#bytes = Buffer.allocUnsafeSlow(LEAST_BYTES);
    return message;
  }

  /** False if it is none; then nothing of it counts. */
  #ascii(value: string): boolean {
    this.#at += 1;
    for (let index = 0; index < value.length; index += 1) {
      const code = value.charCodeAt(index);
      if (code >= 0x80) return false;
      this.#bytes[this.#at++] = code;
    }
    return true;
  }

  /** One byte was left for the length of what follows it; most often that is enough. */
  #putLength(start: number): void {
    const end = this.#at;
    const length = end - start - 1;
    let more = 0;
    for (let rest = length >>> 7; rest > 0; rest >>>= 7) more += 1;
    if (more > 0) this.#bytes.copyWithin(start + 1 + more, start + 1, end);
    this.#at = start;
    this.#varint(length);
    this.#at = end + more;
  }

  #varint(value: number): void {
    let rest = value;
    for (; rest >= 0x80; rest >>>= 7) this.#bytes[this.#at++] = (rest & 0x7f) | 0x80;
    this.#bytes[this.#at++] = rest;
  }

  #reserve(length: number): void {
    const needed = this.#at + length;
    if (needed <= this.#bytes.length) return;
    const bytes = Buffer.allocUnsafeSlow(Math.max(needed, this.#bytes.length * 2));
    this.#bytes.copy(bytes, 0, 0, this.#at);
    this.#bytes = bytes;
  }
}
