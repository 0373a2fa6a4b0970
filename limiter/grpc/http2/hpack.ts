// Reads blocks of compressed fields (RFC 7541). One decoder for each connection: its table grows with what it has read.
import { CODE, ConnectionFault } from './faults.ts';
import { type Field, fieldOf } from './field.ts';
import { decodeHuffman } from './huffman.ts';
import { STATIC_FIELDS } from './static-fields.ts';

/** What RFC 7541 gives a peer that is told nothing else. */
const MAX_TABLE_BYTES = 4_096;
/** No length and no index can be more: a block is never so long. */
const MAX_INTEGER = 0x00ff_ffff;
const MAX_INTEGER_BYTES = 4;

const staticFields = STATIC_FIELDS.map(([name, value]) => fieldOf(name, value));

export class HpackDecoder {
  /** The oldest first. */
  readonly #table: Field[] = [];
  #tableBytes = 0;
  #maxTableBytes = MAX_TABLE_BYTES;
  #block: Buffer = Buffer.alloc(0);
  #at = 0;

  /**
   * The fields of a block; undefined if they are more than so many bytes, as RFC 9113 counts them. A block must be read
   * in any case, as the next ones depend on it. Throws ConnectionFault: after a block that cannot be read none can.
   */
  decode(block: Buffer, maxListBytes: number): Field[] | undefined {
    this.#block = block;
    this.#at = 0;
    const fields: Field[] = [];
    let listBytes = 0;
    let isStart = true;
    while (this.#at < block.length) {
      const first = block[this.#at] ?? 0;
      if ((first & 0xe0) === 0x20) {
        if (!isStart) throw fault('a change of the table amid fields');
        this.#resize(this.#integer(5));
        continue;
      }
      isStart = false;
      const field = this.#field(first);
      listBytes += field.bytes;
      // What is too much is read and not kept: a field of one byte may name one of 4 KiB.
      if (listBytes <= maxListBytes) fields.push(field);
    }
    return listBytes <= maxListBytes ? fields : undefined;
  }

  #field(first: number): Field {
    if (first >= 0x80) return this.#indexed(this.#integer(7));
    const isKept = first >= 0x40;
    const nameIndex = this.#integer(isKept ? 6 : 4);
    const name = nameIndex === 0 ? this.#string() : this.#indexed(nameIndex).name;
    const field = fieldOf(name, this.#string());
    if (isKept) this.#keep(field);
    return field;
  }

  #indexed(index: number): Field {
    const field =
      index <= staticFields.length
        ? staticFields[index - 1]
        : this.#table[this.#table.length - (index - staticFields.length)];
    if (field === undefined) throw fault(`there is no field ${index}`);
    return field;
  }

  #keep(field: Field): void {
    this.#table.push(field);
    this.#tableBytes += field.bytes;
    this.#evict();
  }

  #resize(bytes: number): void {
    if (bytes > MAX_TABLE_BYTES) throw fault(`a table of ${bytes} bytes: must be at most ${MAX_TABLE_BYTES}`);
    this.#maxTableBytes = bytes;
    this.#evict();
  }

  /** One that is larger than the table empties it, and is not in it. */
  #evict(): void {
    while (this.#tableBytes > this.#maxTableBytes) this.#tableBytes -= this.#table.shift()?.bytes ?? 0;
  }

  /** With so many bits in its first byte. */
  #integer(bits: number): number {
    const mask = (1 << bits) - 1;
    let value = this.#byte() & mask;
    if (value < mask) return value;
    for (let shift = 0; shift < MAX_INTEGER_BYTES * 7; shift += 7) {
      const byte = this.#byte();
      value += (byte & 0x7f) << shift;
      if (value > MAX_INTEGER) break;
      if (byte < 0x80) return value;
    }
    throw fault('an integer that is too large');
  }

  #string(): string {
    const isHuffman = (this.#block[this.#at] ?? 0) >= 0x80;
    const length = this.#integer(7);
    const start = this.#at;
    const end = start + length;
    if (end > this.#block.length) throw fault('a text that ends after its block');
    this.#at = end;
    if (!isHuffman) return this.#block.toString('latin1', start, end);
    const text = decodeHuffman(this.#block, start, end);
    if (text === undefined) throw fault('a text that is no Huffman code');
    return text;
  }

  #byte(): number {
    const byte = this.#block[this.#at];
    if (byte === undefined) throw fault('a block that ends too early');
    this.#at += 1;
    return byte;
  }
}

const fault = (message: string): ConnectionFault => new ConnectionFault(CODE.compressionError, message);
