// What a connection writes: control frames and answers, in their order, as far as the peer's windows allow.
import { Call } from './call.ts';
import { CODE, ConnectionFault } from './faults.ts';
import {
  DEFAULT_WINDOW_BYTES,
  FLAG,
  FRAME,
  FRAME_HEAD_BYTES,
  MAX_FRAME_BYTES,
  MAX_WINDOW_BYTES,
  writeFrameHead,
} from './frames.ts';
import { MESSAGE_HEAD_BYTES } from './messages-in.ts';
import { NO_TABLE, RESPONSE_FIELDS } from './responses.ts';
import type { Scratch } from './scratch.ts';

const HEADERS = (FRAME.headers << 8) | FLAG.endHeaders;
const LAST_HEADERS = HEADERS | FLAG.endStream;
const DATA = FRAME.data << 8;
const NO_FIELDS = Buffer.alloc(0);

export class Outbound {
  /** Of streams that begin now. */
  initialWindow = DEFAULT_WINDOW_BYTES;
  #window = DEFAULT_WINDOW_BYTES;
  /** At most as many calls as are open; frames are bounded by what the peer may send without reading. */
  #queue: (Buffer | Call)[] = [];
  /** Calls that could go on if the connection's window were larger. */
  #starved: Call[] = [];
  #prefix = NO_TABLE;
  readonly #onWritten: (call: Call) => void;
  readonly #wantsFlush: () => void;

  /** `onWritten` is told of each call whose answer is written to its end; `wantsFlush` that there is something to write. */
  constructor(onWritten: (call: Call) => void, wantsFlush: () => void) {
    this.#onWritten = onWritten;
    this.#wantsFlush = wantsFlush;
  }

  /** Whether there are answers that wait for the connection's window. */
  get isStarved(): boolean {
    return this.#starved.length > 0;
  }

  control(frame: Buffer): void {
    this.#queue.push(frame);
    this.#wantsFlush();
  }

  add(call: Call): void {
    if (call.isQueued) return;
    call.isQueued = true;
    this.#queue.push(call);
    this.#wantsFlush();
  }

  /** Throws ConnectionFault. */
  widen(bytes: number): void {
    this.#window += bytes;
    if (this.#window > MAX_WINDOW_BYTES) throw new ConnectionFault(CODE.flowControlError, 'a window that is too large');
    if (this.#starved.length > 0) this.#wantsFlush();
  }

  /** Writes all that can be written. */
  flush(out: Scratch): void {
    if (this.#starved.length > 0) {
      this.#queue.push(...this.#starved);
      this.#starved = [];
    }
    // It may grow meanwhile.
    for (const one of this.#queue) {
      if (one instanceof Call) this.#writeCall(one, out);
      else out.append(one);
    }
    this.#queue = [];
  }

  #writeCall(call: Call, out: Scratch): void {
    call.isQueued = false;
    if (call.isOver) return;
    if (call.message !== undefined) this.#writeMessage(call, call.message, out);
    while (call.unsent !== undefined) {
      if (!this.#writeUnsent(call, call.unsent, out)) return;
    }
    call.stalledMillis = undefined;
    // It may have been reset just now, for what it would have left unsent.
    if (!call.isAnswered || call.isOver) return;
    const fields = call.refusal ?? call.trailers ?? NO_FIELDS;
    const isAllOfIt = call.hasSentFields || call.refusal !== undefined;
    this.#writeFields(out, call.id, LAST_HEADERS, isAllOfIt ? [fields] : [RESPONSE_FIELDS, fields]);
    this.#onWritten(call);
  }

  /** In one frame if it fits; else it becomes part of what is unsent. */
  #writeMessage(call: Call, message: Uint8Array, out: Scratch): void {
    if (!call.hasSentFields) {
      this.#writeFields(out, call.id, HEADERS, [RESPONSE_FIELDS]);
      call.hasSentFields = true;
    }
    const length = MESSAGE_HEAD_BYTES + message.length;
    if (length > Math.min(this.#window, call.sendWindow, MAX_FRAME_BYTES)) {
      call.keepMessage();
      return;
    }
    this.#writeDataHead(call, length, out);
    const { bytes } = out;
    bytes[out.length] = 0;
    bytes.writeUInt32BE(message.length, out.length + 1);
    bytes.set(message, out.length + MESSAGE_HEAD_BYTES);
    out.length += length;
    call.message = undefined;
  }

  /** False if nothing can be written now. */
  #writeUnsent(call: Call, unsent: Buffer, out: Scratch): boolean {
    const length = Math.min(unsent.length, this.#window, call.sendWindow, MAX_FRAME_BYTES);
    if (length <= 0) {
      call.stalledMillis ??= performance.now();
      // One that waits for its own window comes back when that is widened.
      call.isQueued = call.sendWindow > 0;
      if (call.isQueued) this.#starved.push(call);
      return false;
    }
    this.#writeDataHead(call, length, out);
    unsent.copy(out.bytes, out.length, 0, length);
    out.length += length;
    call.wrote(length);
    return true;
  }

  #writeDataHead(call: Call, length: number, out: Scratch): void {
    out.reserve(FRAME_HEAD_BYTES + length);
    writeFrameHead(out.bytes, out.length, length, DATA);
    out.bytes.writeUInt32BE(call.id, out.length + 5);
    out.length += FRAME_HEAD_BYTES;
    this.#window -= length;
    call.sendWindow -= length;
  }

  #writeFields(out: Scratch, streamId: number, kind: number, blocks: readonly Buffer[]): void {
    let length = this.#prefix.length;
    for (const block of blocks) length += block.length;
    out.reserve(FRAME_HEAD_BYTES + length);
    writeFrameHead(out.bytes, out.length, length, kind);
    out.bytes.writeUInt32BE(streamId, out.length + 5);
    out.length += FRAME_HEAD_BYTES;
    out.append(this.#prefix);
    for (const block of blocks) out.append(block);
    this.#prefix = NO_FIELDS;
  }
}
