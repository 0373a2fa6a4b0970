// A connection over which calls are made, by frames of its own: node:http2 and grpc-js as clients cost more than the
// servers that are measured. It speaks what unary calls need, and trusts the server to speak HTTP/2.
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';

const [DATA, HEADERS, RESET, SETTINGS, PING, GOAWAY, WINDOW_UPDATE] = [0, 1, 3, 4, 6, 7, 8];
const [END_STREAM, ACK, END_HEADERS] = [0x1, 0x1, 0x4];
const FRAME_HEAD_BYTES = 9;
/** Of gRPC: not compressed, then the length of the message. */
const MESSAGE_HEAD_BYTES = 5;
const MAX_WINDOW = 0x7fff_ffff;
const DEFAULT_WINDOW = 65_535;
const INITIAL_WINDOW_SIZE = 4;
/** The window of the connection is opened anew when so much of it was used. */
const TOP_UP_BYTES = 2 ** 29;

const PREFACE = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 'latin1');
/** POST and http, by their numbers in HPACK's static table. */
const [METHOD_POST, SCHEME_HTTP] = [0x83, 0x86];
const [AUTHORITY_NAME, PATH_NAME, CONTENT_TYPE_NAME] = [1, 4, 31];

type Waiting = {
  readonly resolve: (code: string) => void;
  readonly reject: (error: Error) => void;
  /** The first two bytes of the answer's message, in hexadecimal. */
  code: string;
};

export class GrpcSession {
  readonly #socket: Socket;
  readonly #fields: Buffer;
  readonly #waiting = new Map<number, Waiting>();
  #nextId = 1;
  #rest: Buffer = Buffer.alloc(0);
  #received = 0;
  #unsent: Buffer[] = [];

  private constructor(socket: Socket, path: string) {
    this.#socket = socket;
    this.#fields = fieldsOf(path);
    socket.on('data', (chunk: Buffer) => this.#receive(chunk));
    socket.on('error', (error) => this.#fail(error));
    socket.on('close', () => this.#fail(new Error('the connection was closed')));
  }

  static async open(port: number, path: string): Promise<GrpcSession> {
    const socket = connect({ port, host: '127.0.0.1', noDelay: true });
    await once(socket, 'connect');
    const session = new GrpcSession(socket, path);
    const setting = Buffer.alloc(6);
    setting.writeUInt16BE(INITIAL_WINDOW_SIZE, 0);
    setting.writeUInt32BE(MAX_WINDOW, 2);
    session.#write(PREFACE, frame(SETTINGS, 0, 0, setting), windowUpdate(MAX_WINDOW - DEFAULT_WINDOW));
    return session;
  }

  /**
   * Makes a call; resolves with the first two bytes of the answer's message, in hexadecimal, '' if there was none: a call
   * that goes wrong has none.
   */
  call(message: Buffer): Promise<string> {
    const { promise, resolve, reject } = Promise.withResolvers<string>();
    const id = this.#nextId;
    this.#nextId += 2;
    this.#waiting.set(id, { resolve, reject, code: '' });
    this.#write(frame(HEADERS, END_HEADERS, id, this.#fields), frame(DATA, END_STREAM, id, message));
    return promise;
  }

  close(): void {
    this.#waiting.clear();
    this.#socket.destroy();
  }

  /** All of one turn of the event loop together. */
  #write(...frames: readonly Buffer[]): void {
    if (this.#unsent.length === 0) setImmediate(() => this.#flush());
    this.#unsent.push(...frames);
  }

  #flush(): void {
    const unsent = this.#unsent;
    this.#unsent = [];
    if (this.#socket.writable) this.#socket.write(Buffer.concat(unsent));
  }

  #receive(chunk: Buffer): void {
    const bytes = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk]);
    let at = 0;
    while (bytes.length - at >= FRAME_HEAD_BYTES) {
      const end = at + FRAME_HEAD_BYTES + bytes.readUIntBE(at, 3);
      if (end > bytes.length) break;
      const [type = 0, flags = 0] = bytes.subarray(at + 3, at + 5);
      this.#onFrame(type, flags, bytes.readUInt32BE(at + 5), bytes.subarray(at + FRAME_HEAD_BYTES, end));
      at = end;
    }
    this.#rest = bytes.subarray(at);
  }

  #onFrame(type: number, flags: number, id: number, payload: Buffer): void {
    const waiting = this.#waiting.get(id);
    switch (type) {
      case DATA:
        this.#opened(payload.length);
        if (waiting?.code === '') {
          waiting.code = payload.toString('hex', MESSAGE_HEAD_BYTES, MESSAGE_HEAD_BYTES + 2);
        }
        break;
      case SETTINGS:
        if ((flags & ACK) === 0) this.#write(frame(SETTINGS, ACK, 0, Buffer.alloc(0)));
        break;
      case PING:
        if ((flags & ACK) === 0) this.#write(frame(PING, ACK, 0, payload));
        break;
      case RESET:
        waiting?.reject(new Error(`the call was reset: ${payload.toString('hex')}`));
        this.#waiting.delete(id);
        break;
      case GOAWAY:
        this.#fail(new Error(`the server goes away: ${payload.toString('latin1', 8)}`));
        break;
      default:
    }
    if ((type === HEADERS || type === DATA) && (flags & END_STREAM) !== 0) {
      waiting?.resolve(waiting.code);
      this.#waiting.delete(id);
    }
  }

  #opened(bytes: number): void {
    this.#received += bytes;
    if (this.#received < TOP_UP_BYTES) return;
    this.#write(windowUpdate(this.#received));
    this.#received = 0;
  }

  #fail(error: Error): void {
    for (const { reject } of this.#waiting.values()) reject(error);
    this.#waiting.clear();
  }
}

/** The message of a call, as DATA carries it. */
export function framed(message: Uint8Array): Buffer {
  const head = Buffer.alloc(MESSAGE_HEAD_BYTES);
  head.writeUInt32BE(message.length, 1);
  return Buffer.concat([head, message]);
}

function frame(type: number, flags: number, id: number, payload: Buffer): Buffer {
  const bytes = Buffer.allocUnsafe(FRAME_HEAD_BYTES + payload.length);
  bytes.writeUIntBE(payload.length, 0, 3);
  bytes[3] = type;
  bytes[4] = flags;
  bytes.writeUInt32BE(id, 5);
  payload.copy(bytes, FRAME_HEAD_BYTES);
  return bytes;
}

function windowUpdate(bytes: number): Buffer {
  const payload = Buffer.alloc(4);
  payload.writeUInt32BE(bytes);
  return frame(WINDOW_UPDATE, 0, 0, payload);
}

/** Neither Huffman nor the dynamic table: every text is below 127 bytes, and goes as it is. */
function fieldsOf(path: string): Buffer {
  const text = (value: string): number[] => [value.length, ...Buffer.from(value, 'latin1')];
  const indexed = (index: number): number[] => (index < 15 ? [index] : [15, index - 15]);
  return Buffer.from([
    METHOD_POST,
    SCHEME_HTTP,
    ...indexed(PATH_NAME),
    ...text(path),
    ...indexed(AUTHORITY_NAME),
    ...text('bench'),
    ...indexed(CONTENT_TYPE_NAME),
    ...text('application/grpc'),
    // A name of its own.
    0,
    ...text('te'),
    ...text('trailers'),
  ]);
}
