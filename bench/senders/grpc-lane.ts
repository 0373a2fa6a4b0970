import { loadProtocol, serviceOf } from '../../limiter/grpc/protocol.ts';
import { RATE_LIMIT_SERVICE } from '../../limiter/grpc/services.ts';
import { framed, GrpcSession } from './grpc-session.ts';
import type { Load } from './load.ts';
import type { Answer, Lane } from './own-sender.ts';

const METHOD = 'ShouldRateLimit';
/** Like Envoy, which has one connection for each of its workers: calls share few connections. */
const SESSIONS = 4;

const definition = serviceOf(loadProtocol(), RATE_LIMIT_SERVICE)[METHOD];
if (definition === undefined) throw new Error(`no method ${METHOD}`);
const { path, requestSerialize } = definition;
const sessions: Promise<GrpcSession>[] = [];
let opened = 0;

/** The message of a call, as the lanes expect it. */
export const toRequest = (message: object): string => requestSerialize(message).toString('base64');

/** One call at a time. */
export class GrpcLane implements Lane {
  readonly #session: GrpcSession;
  readonly #messages = new Map<string, Buffer>();
  readonly #expected: string;

  private constructor(session: GrpcSession, load: Load) {
    this.#session = session;
    this.#expected = load.fragments[0] ?? '';
  }

  static async open(load: Load): Promise<GrpcLane> {
    const index = opened++ % SESSIONS;
    return new GrpcLane(await (sessions[index] ??= GrpcSession.open(load.port, path)), load);
  }

  /** Field 1 of the answer is its code: one byte 0x08 and one of the value. */
  async send(request: string): Promise<Answer> {
    const code = await this.#session.call(this.#framed(request));
    return {
      isRefused: code === '',
      problem: code === this.#expected ? undefined : `the answer begins with "${code}"`,
    };
  }

  close(): void {
    this.#session.close();
  }

  #framed(request: string): Buffer {
    let message = this.#messages.get(request);
    if (message === undefined) this.#messages.set(request, (message = framed(Buffer.from(request, 'base64'))));
    return message;
  }
}
