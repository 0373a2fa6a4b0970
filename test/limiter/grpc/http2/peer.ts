// The other end of a connection, frame by frame: what no client library would send.
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';
import { gunzipSync } from 'node:zlib';
import { FRAME, PREFACE } from '../../../../limiter/grpc/http2/frames.ts';
import { HpackDecoder } from '../../../../limiter/grpc/http2/hpack.ts';
import type { Method } from '../../../../limiter/grpc/http2/method.ts';
import { Http2Server, type Http2ServerOptions } from '../../../../limiter/grpc/http2/server.ts';
import { eventually } from '../../../harness/eventually.ts';
import { freePort } from '../../../harness/redis.ts';

export type Frame = {
  readonly type: number;
  readonly flags: number;
  readonly streamId: number;
  readonly payload: Buffer;
};

const HEAD_BYTES = 9;
const LIMIT = 65_536;

export const ECHO = '/test.Echo/Unary';
export const ECHO_STREAM = '/test.Echo/Stream';
export const SLOW = '/test.Echo/Slow';

export type EchoServer = {
  readonly port: number;
  /** Answers the calls of SLOW that have come so far. */
  release(): void;
  /** How many of them have come. */
  slowCalls(): number;
  readonly errors: readonly unknown[];
  close(patienceMillis?: number): Promise<void>;
};

/** A server whose methods say what they hear. */
export async function startEcho(options: Partial<Http2ServerOptions> = {}): Promise<EchoServer> {
  const errors: unknown[] = [];
  let [waiting, slowCalls]: [(() => void)[], number] = [[], 0];
  const methods = new Map<string, Method>([
    [ECHO, { isUnary: true, receive: (call, message) => call.answer(message) }],
    [
      ECHO_STREAM,
      {
        isUnary: false,
        receive: (call, message) => call.write(Buffer.from(message)),
        finish: (call) => call.succeed(),
      },
    ],
    [
      SLOW,
      {
        isUnary: true,
        receive: (call, message) => {
          const copy = Buffer.from(message);
          slowCalls += 1;
          waiting.push(() => call.answer(copy));
        },
      },
    ],
  ]);
  const server = new Http2Server({
    methods,
    identify: (peerIP) => ({ peerIP, isTrusted: true }),
    maxConnectionAgeMillis: 3_600_000,
    tls: undefined,
    onError: (error) => void errors.push(error),
    ...options,
  });
  const port = await freePort();
  await server.listen('127.0.0.1', port);
  return {
    port,
    errors,
    slowCalls: () => slowCalls,
    release: () => {
      for (const answer of waiting) answer();
      waiting = [];
    },
    close: (patienceMillis = 0) => server.close(patienceMillis),
  };
}

export function frame(
  type: number,
  flags: number,
  streamId: number,
  payload: Uint8Array | readonly number[] = [],
): Buffer {
  const head = Buffer.alloc(HEAD_BYTES);
  head.writeUIntBE(payload.length, 0, 3);
  head[3] = type;
  head[4] = flags;
  head.writeUInt32BE(streamId, 5);
  return Buffer.concat([head, Buffer.from(payload)]);
}

export const uint32 = (value: number): number[] => [...Buffer.from(value.toString(16).padStart(8, '0'), 'hex')];

export const setting = (id: number, value: number): Buffer => frame(FRAME.settings, 0, 0, [0, id, ...uint32(value)]);

function hpackText(text: string): Buffer {
  const bytes = Buffer.from(text, 'latin1');
  if (bytes.length < 127) return Buffer.concat([Buffer.from([bytes.length]), bytes]);
  const length = [127];
  let rest = bytes.length - 127;
  for (; rest >= 128; rest = Math.floor(rest / 128)) length.push((rest % 128) + 128);
  return Buffer.concat([Buffer.from([...length, rest]), bytes]);
}

/** Fields, none of them from a table or put into one. */
export const block = (fields: readonly (readonly [name: string, value: string])[]): Buffer =>
  Buffer.concat(fields.flatMap(([name, value]) => [Buffer.from([0]), hpackText(name), hpackText(value)]));

export const requestFields = (path = ECHO): [name: string, value: string][] => [
  [':method', 'POST'],
  [':scheme', 'http'],
  [':path', path],
  [':authority', 'test'],
  ['content-type', 'application/grpc'],
  ['te', 'trailers'],
];

export const requestHead = (streamId: number, path = ECHO): Buffer =>
  frame(FRAME.headers, 0x4, streamId, block(requestFields(path)));

export function grpcMessage(message: Uint8Array, isCompressed = false): Buffer {
  const head = Buffer.alloc(5);
  head[0] = isCompressed ? 1 : 0;
  head.writeUInt32BE(message.length, 1);
  return Buffer.concat([head, message]);
}

export const data = (streamId: number, payload: Uint8Array, isEnd = true): Buffer =>
  frame(FRAME.data, isEnd ? 0x1 : 0, streamId, payload);

/** A whole call in two frames. */
export const request = (streamId: number, message: Uint8Array, path = ECHO): Buffer =>
  Buffer.concat([requestHead(streamId, path), data(streamId, grpcMessage(message))]);

/** What a stream was answered. */
export type Answer = {
  readonly fields: ReadonlyMap<string, string>;
  readonly messages: readonly string[];
  readonly resetCode: number | undefined;
};

export class Peer {
  readonly socket: Socket;
  readonly frames: Frame[] = [];
  isClosed = false;
  readonly #decoder = new HpackDecoder();
  readonly #fields = new Map<number, Map<string, string>>();
  #bytes = Buffer.alloc(0);

  private constructor(socket: Socket) {
    this.socket = socket;
    socket.on('error', () => undefined);
    socket.on('data', (chunk) => this.#read(chunk));
    socket.on('close', () => (this.isClosed = true));
  }

  /** Greets as a client does, unless it is told not to. */
  static async connect(
    port: number,
    greeting: Buffer = Buffer.concat([PREFACE, frame(FRAME.settings, 0, 0)]),
  ): Promise<Peer> {
    const socket = connect(port, '127.0.0.1');
    const peer = new Peer(socket);
    await once(socket, 'connect');
    socket.write(greeting);
    return peer;
  }

  send(...frames: readonly Uint8Array[]): void {
    if (!this.isClosed) this.socket.write(Buffer.concat(frames));
  }

  /** Of this type, on this stream. */
  of(type: number, streamId?: number): Frame[] {
    return this.frames.filter((one) => one.type === type && (streamId === undefined || one.streamId === streamId));
  }

  async until(type: number, streamId?: number): Promise<Frame> {
    return eventually(() => {
      const [found] = this.of(type, streamId);
      if (found === undefined) throw new Error(`no frame ${type} of ${streamId}: ${JSON.stringify(this.frames)}`);
      return Promise.resolve(found);
    });
  }

  /** The code of the GOAWAY that ends it, once it has closed. */
  async fault(): Promise<number | undefined> {
    await this.closed();
    return this.of(FRAME.goaway).at(-1)?.payload.readUInt32BE(4);
  }

  closed(): Promise<void> {
    return eventually(() => {
      if (!this.isClosed) throw new Error(`it is still open: ${JSON.stringify(this.frames)}`);
      return Promise.resolve();
    });
  }

  /** Once the stream has ended, by its last fields or a reset. */
  async answer(streamId: number): Promise<Answer> {
    return eventually(() => {
      const resetCode = this.of(FRAME.resetStream, streamId)[0]?.payload.readUInt32BE(0);
      const hasEnded = this.of(FRAME.headers, streamId).some(({ flags }) => (flags & 0x1) !== 0);
      if (!hasEnded && resetCode === undefined) throw new Error(`stream ${streamId} has not ended`);
      const bytes = Buffer.concat(this.of(FRAME.data, streamId).map(({ payload }) => payload));
      const fields = this.#fields.get(streamId) ?? new Map<string, string>();
      return Promise.resolve({ fields, messages: messagesIn(bytes), resetCode });
    });
  }

  /** A call and its answer, so that it is known that everything before was read. */
  async stillServes(streamId: number): Promise<boolean> {
    this.send(request(streamId, Buffer.from('still there')));
    return (await this.answer(streamId)).messages[0] === 'still there';
  }

  close(): void {
    this.socket.destroy();
  }

  #read(chunk: Buffer): void {
    this.#bytes = Buffer.concat([this.#bytes, chunk]);
    while (this.#bytes.length >= HEAD_BYTES) {
      const end = HEAD_BYTES + this.#bytes.readUIntBE(0, 3);
      if (this.#bytes.length < end) return;
      const [type = 0, flags = 0] = this.#bytes.subarray(3, 5);
      const one = {
        type,
        flags,
        streamId: this.#bytes.readUInt32BE(5),
        payload: this.#bytes.subarray(HEAD_BYTES, end),
      };
      this.#bytes = this.#bytes.subarray(end);
      this.frames.push(one);
      if (type === FRAME.headers) this.#readFields(one);
    }
  }

  #readFields({ streamId, payload }: Frame): void {
    const fields = this.#fields.get(streamId) ?? new Map<string, string>();
    for (const { name, value } of this.#decoder.decode(payload, LIMIT) ?? []) fields.set(name, value);
    this.#fields.set(streamId, fields);
  }
}

/** Asks for answers of 16 kB, which it does not read, until nobody reads what it asks; how often it has asked. */
export async function askUntilStuck(peer: Peer): Promise<number> {
  peer.socket.pause();
  const message = Buffer.alloc(16_000, 'm');
  let [asked, waiting, isStuckFor] = [0, 0, 0];
  // If nothing held it back, 300 MB would be answered.
  while (asked < 20_000 && isStuckFor < 20) {
    isStuckFor = peer.socket.writableLength === waiting ? isStuckFor + 1 : 0;
    for (; peer.socket.writableLength < 1_048_576; asked += 1) peer.send(request(2 * asked + 1, message));
    waiting = peer.socket.writableLength;
    await pause(25);
  }
  return asked;
}

function messagesIn(bytes: Buffer): string[] {
  const messages: string[] = [];
  for (let at = 0; at < bytes.length;) {
    const end = at + 5 + bytes.readUInt32BE(at + 1);
    const message = bytes.subarray(at + 5, end);
    messages.push((bytes[at] === 1 ? gunzipSync(message) : message).toString('latin1'));
    at = end;
  }
  return messages;
}
