// What a connection reads: each frame by its kind (RFC 9113, section 6).
import { type Calls, MAX_FIELDS_BYTES } from './calls.ts';
import { CODE, ConnectionFault } from './faults.ts';
import {
  FLAG,
  FRAME,
  MAX_FRAME_BYTES,
  MAX_WINDOW_BYTES,
  pingFrame,
  resetFrame,
  SETTING,
  SETTINGS_ACK,
  windowUpdateFrame,
} from './frames.ts';
import type { FrameSink } from './frame-reader.ts';
import { HpackDecoder } from './hpack.ts';

/** How much a peer may send on its connection, and on each stream, before it is told that it may send more. */
export const WINDOW_BYTES = 1_048_576;

/** Of a compressed block of fields; and of the frames that it may be cut into, which can be empty. */
const MAX_BLOCK_BYTES = 2 * MAX_FIELDS_BYTES;
const MAX_BLOCK_FRAMES = 16;
const PRIORITY_BYTES = 5;
const PING_BYTES = 8;
const SETTING_BYTES = 6;
/** A change of settings changes the windows of all streams. */
const SETTINGS_COST = 10;

type Block = { readonly streamId: number; readonly isEnd: boolean; parts: Buffer[]; bytes: number };

export class Inbound implements FrameSink {
  /** Whether it has begun with its settings, as it must. */
  hasSettings = false;
  readonly #calls: Calls;
  readonly #onPong: (data: Buffer) => void;
  readonly #decoder = new HpackDecoder();
  #block: Block | undefined;
  #receivedBytes = 0;

  constructor(calls: Calls, onPong: (data: Buffer) => void) {
    this.#calls = calls;
    this.#onPong = onPong;
  }

  /** Whether a block of fields has begun and not ended. */
  get isAmidBlock(): boolean {
    return this.#block !== undefined;
  }

  onFrame(type: number, flags: number, streamId: number, payload: Buffer): void {
    if (!this.hasSettings && (type !== FRAME.settings || (flags & FLAG.ack) !== 0)) {
      throw protocolFault('the first frame must be SETTINGS');
    }
    if (this.#block !== undefined && (type !== FRAME.continuation || streamId !== this.#block.streamId)) {
      throw protocolFault('fields must not be interrupted');
    }
    switch (type) {
      case FRAME.data:
        return this.#onData(flags, streamId, payload);
      case FRAME.headers:
        return this.#onHeaders(flags, streamId, payload);
      case FRAME.priority:
        return this.#onPriority(streamId, payload);
      case FRAME.resetStream:
        return this.#onReset(streamId, payload);
      case FRAME.settings:
        return this.#onSettings(flags, streamId, payload);
      case FRAME.pushPromise:
        throw protocolFault('a client promises nothing');
      case FRAME.ping:
        return this.#onPing(flags, streamId, payload);
      case FRAME.goaway:
        return this.#onGoaway(streamId, payload);
      case FRAME.windowUpdate:
        return this.#onWindowUpdate(streamId, payload);
      case FRAME.continuation:
        return this.#onContinuation(flags, payload);
      default:
        // Whatever else there may be is ignored.
        this.#calls.spend(1);
    }
  }

  #onData(flags: number, streamId: number, payload: Buffer): void {
    this.#mustBeOfStream(streamId);
    // All of it counts, padding too, and whether or not its stream is open.
    this.#receivedBytes += payload.length;
    if (this.#receivedBytes > WINDOW_BYTES) throw flowFault('more than the window of the connection');
    if (this.#receivedBytes > WINDOW_BYTES / 2) {
      this.#calls.outbound.control(windowUpdateFrame(0, this.#receivedBytes));
      this.#receivedBytes = 0;
    }
    const data = (flags & FLAG.padded) === 0 ? payload : withoutPadding(payload);
    const isEnd = (flags & FLAG.endStream) !== 0;
    if (data.length === 0 && !isEnd) this.#calls.spend(1);
    const call = this.#calls.get(streamId);
    if (call === undefined || call.hasEnded) {
      this.#onDataTooLate(streamId);
      return;
    }
    call.receivedBytes += payload.length;
    if (call.receivedBytes > WINDOW_BYTES) {
      this.#calls.reset(call, CODE.flowControlError);
      return;
    }
    if (!isEnd && call.receivedBytes > WINDOW_BYTES / 2) {
      this.#calls.outbound.control(windowUpdateFrame(streamId, call.receivedBytes));
      call.receivedBytes = 0;
    }
    this.#calls.receive(call, data, isEnd);
  }

  #onDataTooLate(streamId: number): void {
    if (streamId > this.#calls.lastId && streamId <= this.#calls.maxId) throw protocolFault('DATA before HEADERS');
    if (this.#calls.isRemembered(streamId) || streamId > this.#calls.maxId) return;
    this.#calls.spend(1);
    const call = this.#calls.get(streamId);
    if (call === undefined) this.#calls.outbound.control(resetFrame(streamId, CODE.streamClosed));
    else this.#calls.reset(call, CODE.streamClosed);
  }

  #onHeaders(flags: number, streamId: number, payload: Buffer): void {
    this.#mustBeOfStream(streamId);
    let block = (flags & FLAG.padded) === 0 ? payload : withoutPadding(payload);
    if ((flags & FLAG.priority) !== 0) {
      if (block.length < PRIORITY_BYTES) throw frameSizeFault('HEADERS');
      checkPriority(streamId, block);
      block = block.subarray(PRIORITY_BYTES);
    }
    const isEnd = (flags & FLAG.endStream) !== 0;
    if ((flags & FLAG.endHeaders) === 0) {
      this.#block = { streamId, isEnd, parts: [Buffer.from(block)], bytes: block.length };
    } else {
      this.#calls.onFields(streamId, this.#decoder.decode(block, MAX_FIELDS_BYTES), isEnd);
    }
  }

  #onContinuation(flags: number, payload: Buffer): void {
    const block = this.#block;
    if (block === undefined) throw protocolFault('CONTINUATION of nothing');
    block.parts.push(Buffer.from(payload));
    block.bytes += payload.length;
    if (block.bytes > MAX_BLOCK_BYTES || block.parts.length > MAX_BLOCK_FRAMES) {
      throw new ConnectionFault(CODE.enhanceYourCalm, 'fields without an end');
    }
    if ((flags & FLAG.endHeaders) === 0) return;
    this.#block = undefined;
    const fields = this.#decoder.decode(Buffer.concat(block.parts), MAX_FIELDS_BYTES);
    this.#calls.onFields(block.streamId, fields, block.isEnd);
  }

  #onPriority(streamId: number, payload: Buffer): void {
    this.#mustBeOfStream(streamId);
    if (payload.length !== PRIORITY_BYTES) throw frameSizeFault('PRIORITY');
    checkPriority(streamId, payload);
    this.#calls.spend(1);
  }

  #onReset(streamId: number, payload: Buffer): void {
    this.#mustHaveBegun(streamId);
    if (payload.length !== 4) throw frameSizeFault('RST_STREAM');
    const call = this.#calls.get(streamId);
    if (call === undefined) this.#calls.spend(1);
    else this.#calls.onReset(call);
  }

  #onSettings(flags: number, streamId: number, payload: Buffer): void {
    if (streamId !== 0) throw protocolFault('SETTINGS are of the connection');
    if ((flags & FLAG.ack) !== 0) {
      if (payload.length > 0) throw frameSizeFault('SETTINGS');
      this.#calls.spend(1);
      return;
    }
    if (payload.length % SETTING_BYTES !== 0) throw frameSizeFault('SETTINGS');
    this.#calls.spend(SETTINGS_COST);
    this.hasSettings = true;
    let initialWindow = this.#calls.outbound.initialWindow;
    for (let at = 0; at < payload.length; at += SETTING_BYTES) {
      const [id, value] = [payload.readUInt16BE(at), payload.readUInt32BE(at + 2)];
      checkSetting(id, value);
      if (id === SETTING.initialWindowSize) initialWindow = value;
    }
    // Of several changes the last counts.
    const change = initialWindow - this.#calls.outbound.initialWindow;
    this.#calls.outbound.initialWindow = initialWindow;
    if (change !== 0) this.#calls.widenAll(change);
    this.#calls.outbound.control(SETTINGS_ACK);
  }

  #onPing(flags: number, streamId: number, payload: Buffer): void {
    if (streamId !== 0) throw protocolFault('PING is of the connection');
    if (payload.length !== PING_BYTES) throw frameSizeFault('PING');
    this.#calls.spend(1);
    if ((flags & FLAG.ack) === 0) this.#calls.outbound.control(pingFrame(payload, true));
    else this.#onPong(payload);
  }

  /** The peer begins no more; it closes when what it has begun is answered. */
  #onGoaway(streamId: number, payload: Buffer): void {
    if (streamId !== 0) throw protocolFault('GOAWAY is of the connection');
    if (payload.length < 8) throw frameSizeFault('GOAWAY');
    this.#calls.spend(1);
  }

  #onWindowUpdate(streamId: number, payload: Buffer): void {
    if (payload.length !== 4) throw frameSizeFault('WINDOW_UPDATE');
    const bytes = payload.readUInt32BE(0) & MAX_WINDOW_BYTES;
    if (streamId === 0) {
      if (bytes === 0) throw protocolFault('a window cannot grow by nothing');
      // What lets an answer go on brings something, however little.
      if (!this.#calls.outbound.isStarved) this.#calls.spend(1);
      this.#calls.outbound.widen(bytes);
      return;
    }
    this.#mustHaveBegun(streamId);
    const call = this.#calls.get(streamId);
    if (call?.unsent === undefined) this.#calls.spend(1);
    if (call === undefined) return;
    if (bytes === 0) this.#calls.reset(call, CODE.protocolError);
    else if (call.sendWindow + bytes > MAX_WINDOW_BYTES) this.#calls.reset(call, CODE.flowControlError);
    else this.#calls.widen(call, bytes);
  }

  #mustBeOfStream(streamId: number): void {
    if (streamId === 0) throw protocolFault('a frame of a stream has the number of the connection');
  }

  #mustHaveBegun(streamId: number): void {
    this.#mustBeOfStream(streamId);
    if (streamId > this.#calls.lastId && streamId <= this.#calls.maxId) {
      throw protocolFault(`stream ${streamId} has not begun`);
    }
  }
}

function checkSetting(id: number, value: number): void {
  if (id === SETTING.enablePush && value > 1) throw protocolFault('ENABLE_PUSH is 0 or 1');
  if (id === SETTING.initialWindowSize && value > MAX_WINDOW_BYTES) throw flowFault('INITIAL_WINDOW_SIZE is too large');
  if (id === SETTING.maxFrameSize && (value < MAX_FRAME_BYTES || value > 0xff_ffff)) {
    throw protocolFault('MAX_FRAME_SIZE is out of range');
  }
}

/** All that is looked at: priorities have no effect, as RFC 9113 allows. */
function checkPriority(streamId: number, priority: Buffer): void {
  if ((priority.readUInt32BE(0) & 0x7fff_ffff) === streamId) throw protocolFault('a stream cannot depend on itself');
}

function withoutPadding(payload: Buffer): Buffer {
  const [padding] = payload;
  if (padding === undefined) throw frameSizeFault('a padded frame');
  if (padding >= payload.length) throw protocolFault('more padding than payload');
  return payload.subarray(1, payload.length - padding);
}

const protocolFault = (message: string): ConnectionFault => new ConnectionFault(CODE.protocolError, message);
const flowFault = (message: string): ConnectionFault => new ConnectionFault(CODE.flowControlError, message);
const frameSizeFault = (frame: string): ConnectionFault =>
  new ConnectionFault(CODE.frameSizeError, `${frame} has the wrong length`);
