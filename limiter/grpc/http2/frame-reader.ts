// Splits what arrives into frames, wherever the network has cut it.
import { CODE, ConnectionFault } from './faults.ts';
import { FRAME_HEAD_BYTES, MAX_FRAME_BYTES, PREFACE } from './frames.ts';

export type FrameSink = {
  /** The payload is a view of what arrived: whoever keeps a part of it for long copies it. */
  onFrame(type: number, flags: number, streamId: number, payload: Buffer): void;
};

const NOTHING = Buffer.alloc(0);

export class FrameReader {
  readonly #sink: FrameSink;
  #rest: Buffer = NOTHING;
  #isGreeted = false;

  constructor(sink: FrameSink) {
    this.#sink = sink;
  }

  /** Whether the peer has said that it speaks HTTP/2. */
  get isGreeted(): boolean {
    return this.#isGreeted;
  }

  /** Whether a frame has begun and not ended. */
  get isAmidFrame(): boolean {
    return this.#rest.length > 0;
  }

  /** Throws ConnectionFault, after which nothing may be read any more. */
  read(chunk: Buffer): void {
    const bytes = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk]);
    let at = this.#isGreeted ? 0 : this.#greet(bytes);
    while (this.#isGreeted && bytes.length - at >= FRAME_HEAD_BYTES) {
      const lengthAndType = bytes.readUInt32BE(at);
      const length = lengthAndType >>> 8;
      if (length > MAX_FRAME_BYTES) {
        throw new ConnectionFault(
          CODE.frameSizeError,
          `a frame of ${length} bytes: must be at most ${MAX_FRAME_BYTES}`,
        );
      }
      const start = at + FRAME_HEAD_BYTES;
      if (bytes.length - start < length) break;
      const streamId = bytes.readUInt32BE(at + 5) & 0x7fff_ffff;
      at = start + length;
      this.#sink.onFrame(lengthAndType & 0xff, bytes[start - 5] ?? 0, streamId, bytes.subarray(start, at));
    }
    // A copy: a view would keep alive all that arrived with it.
    this.#rest = at === bytes.length ? NOTHING : Buffer.from(bytes.subarray(at));
  }

  /** How much of it was the preface. */
  #greet(bytes: Buffer): number {
    const length = Math.min(bytes.length, PREFACE.length);
    if (bytes.compare(PREFACE, 0, length, 0, length) !== 0) {
      throw new ConnectionFault(CODE.protocolError, 'no preface of HTTP/2');
    }
    if (length < PREFACE.length) return 0;
    this.#isGreeted = true;
    return length;
  }
}
