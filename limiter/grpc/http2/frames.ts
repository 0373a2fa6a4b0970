// Frames of HTTP/2 (RFC 9113, sections 4 and 6): their numbers, and those that we write besides calls.
import type { Code } from './faults.ts';

export const FRAME = {
  data: 0,
  headers: 1,
  priority: 2,
  resetStream: 3,
  settings: 4,
  pushPromise: 5,
  ping: 6,
  goaway: 7,
  windowUpdate: 8,
  continuation: 9,
} as const;

export const FLAG = { endStream: 0x1, ack: 0x1, endHeaders: 0x4, padded: 0x8, priority: 0x20 } as const;

export const SETTING = {
  headerTableSize: 1,
  enablePush: 2,
  maxConcurrentStreams: 3,
  initialWindowSize: 4,
  maxFrameSize: 5,
  maxHeaderListSize: 6,
} as const;

export const FRAME_HEAD_BYTES = 9;
/** What RFC 9113 lets everybody send; we ask for no more, and send no more. */
export const MAX_FRAME_BYTES = 16_384;
/** Of a window before SETTINGS or WINDOW_UPDATE say otherwise. */
export const DEFAULT_WINDOW_BYTES = 65_535;
export const MAX_WINDOW_BYTES = 0x7fff_ffff;
/** The highest number of a stream: GOAWAY with it only announces that there will be another. */
export const MAX_STREAM_ID = 0x7fff_ffff;

export const PREFACE = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 'latin1');

export function writeFrameHead(into: Buffer, at: number, length: number, typeAndFlags: number): void {
  into.writeUInt32BE(length * 0x100 + (typeAndFlags >> 8), at);
  into[at + 4] = typeAndFlags & 0xff;
}

function frame(type: number, flags: number, streamId: number, payload: readonly number[]): Buffer {
  const bytes = Buffer.alloc(FRAME_HEAD_BYTES + payload.length);
  bytes.writeUIntBE(payload.length, 0, 3);
  bytes[3] = type;
  bytes[4] = flags;
  bytes.writeUInt32BE(streamId, 5);
  bytes.set(payload, FRAME_HEAD_BYTES);
  return bytes;
}

const uint16 = (value: number): number[] => [(value >>> 8) & 0xff, value & 0xff];
const uint32 = (value: number): number[] => [...uint16(value >>> 16), ...uint16(value)];

export function settingsFrame(settings: readonly (readonly [id: number, value: number])[]): Buffer {
  return frame(
    FRAME.settings,
    0,
    0,
    settings.flatMap(([id, value]) => [...uint16(id), ...uint32(value)]),
  );
}

export const SETTINGS_ACK = frame(FRAME.settings, FLAG.ack, 0, []);

/** Eight bytes of data, as they came if it acknowledges. */
export const pingFrame = (data: Uint8Array, isAck: boolean): Buffer =>
  frame(FRAME.ping, isAck ? FLAG.ack : 0, 0, [...data]);

export const windowUpdateFrame = (streamId: number, bytes: number): Buffer =>
  frame(FRAME.windowUpdate, 0, streamId, uint32(bytes));

export const resetFrame = (streamId: number, code: Code): Buffer => frame(FRAME.resetStream, 0, streamId, uint32(code));

export const goawayFrame = (lastStreamId: number, code: Code, reason = ''): Buffer =>
  frame(FRAME.goaway, 0, 0, [...uint32(lastStreamId), ...uint32(code), ...Buffer.from(reason)]);
