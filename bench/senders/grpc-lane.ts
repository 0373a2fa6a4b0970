import { once } from 'node:events';
import { type ClientHttp2Session, connect } from 'node:http2';
import { loadProtocol, serviceOf } from '../../limiter/grpc/protocol.ts';
import { RATE_LIMIT_SERVICE } from '../../limiter/grpc/services.ts';
import type { Load } from './load.ts';
import type { Answer, Lane } from './own-sender.ts';

const METHOD = 'ShouldRateLimit';
/** Like Envoy, which has one connection for each of its workers: calls share few connections. */
const SESSIONS = 4;
/** Of gRPC: not compressed, then the length of the message. */
const HEAD_BYTES = 5;

const definition = serviceOf(loadProtocol(), RATE_LIMIT_SERVICE)[METHOD];
if (definition === undefined) throw new Error(`no method ${METHOD}`);
const { path, requestSerialize } = definition;
const sessions: ClientHttp2Session[] = [];
let opened = 0;

/** The message of a call, as the lanes expect it. */
export const toRequest = (message: object): string => requestSerialize(message).toString('base64');

/** One call at a time, on node:http2 itself: grpc-js as client would cost more than the server that is measured. */
export class GrpcLane implements Lane {
  readonly #session: ClientHttp2Session;
  readonly #messages = new Map<string, Buffer>();
  readonly #expected: string;

  private constructor(session: ClientHttp2Session, load: Load) {
    this.#session = session;
    this.#expected = load.fragments[0] ?? '';
  }

  static async open(load: Load): Promise<GrpcLane> {
    const index = opened++ % SESSIONS;
    const session = (sessions[index] ??= connect(`http://127.0.0.1:${load.port}`));
    if (session.connecting) await once(session, 'connect');
    return new GrpcLane(session, load);
  }

  send(request: string): Promise<Answer> {
    const { promise, resolve, reject } = Promise.withResolvers<Answer>();
    const stream = this.#session.request({
      ':method': 'POST',
      ':path': path,
      'content-type': 'application/grpc',
      te: 'trailers',
    });
    let [status, first] = ['none', ''];
    // Field 1 of the answer is its code: one byte 0x08 and one of the value, right behind the head.
    stream.on('data', (chunk: Buffer) => {
      if (first === '') first = chunk.subarray(HEAD_BYTES, HEAD_BYTES + 2).toString('hex');
    });
    stream.on('trailers', (trailers) => (status = String(trailers['grpc-status'])));
    stream.on('response', (headers) => {
      if (headers['grpc-status'] !== undefined) status = String(headers['grpc-status']);
    });
    stream.on('error', reject);
    stream.on('close', () => {
      const isRefused = status !== '0';
      const problem = isRefused || first !== this.#expected ? `status ${status}, answer ${first}` : undefined;
      resolve({ isRefused, problem });
    });
    stream.end(this.#frame(request));
    return promise;
  }

  close(): void {
    this.#session.destroy();
  }

  #frame(request: string): Buffer {
    const known = this.#messages.get(request);
    if (known !== undefined) return known;
    const message = Buffer.from(request, 'base64');
    const head = Buffer.alloc(HEAD_BYTES);
    head.writeUInt32BE(message.length, 1);
    const frame = Buffer.concat([head, message]);
    this.#messages.set(request, frame);
    return frame;
  }
}
