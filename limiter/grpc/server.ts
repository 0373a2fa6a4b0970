// The gRPC door: Envoy's rate limit service, with health and reflection.
import type { DoorParts } from '../door.ts';
import type { DoorSettings } from '../door-settings.ts';
import { BadRlsRequest } from '../rls/request.ts';
import { shouldRateLimit } from '../rls/should-rate-limit.ts';
import { addressIn } from '../trust.ts';
import { Turn } from '../turn.ts';
import { Health } from './health.ts';
import type { Call } from './http2/call.ts';
import type { Method } from './http2/method.ts';
import { Http2Server } from './http2/server.ts';
import { answerMessage, readRequest } from './messages.ts';
import { reflectionMethods } from './reflection.ts';
import { RATE_LIMIT_SERVICE } from './services.ts';
import { status } from './status.ts';
import { BadMessage } from './wire.ts';

export type GrpcOptions = {
  /** After so long a connection is closed gently, so that callers spread over new pods. */
  readonly maxConnectionAgeMillis: number;
  readonly tls: DoorSettings['tls'];
};

export type GrpcDoor = {
  listen(host: string, port: number): Promise<void>;
  /** Tells watchers of the health service what has changed. */
  tellHealth(): void;
  /** Finishes what is under way; after so many milliseconds cuts it off. */
  close(patienceMillis: number): Promise<void>;
};

const HEALTH_MILLIS = 1_000;

export function createGrpcDoor(parts: DoorParts, isServing: () => boolean, options: GrpcOptions): GrpcDoor {
  const health = new Health([RATE_LIMIT_SERVICE], isServing);
  const asking = new Turn<Asking>(({ call, message }) => void answer(parts, call, message));
  const server = new Http2Server({
    ...options,
    methods: new Map<string, Method>([
      [
        `/${RATE_LIMIT_SERVICE}/ShouldRateLimit`,
        { isUnary: true, receive: (call, message) => asking.add({ call, message }) },
      ],
      ...health.methods,
      ...reflectionMethods(),
    ]),
    identify: (address) => {
      const peerIP = address === undefined ? undefined : addressIn(address);
      return { peerIP, isTrusted: parts.trustedCallers.has(peerIP) };
    },
    onError: (error) => parts.log.error({ event: 'connection_failed', door: 'grpc', err: error }),
  });
  const telling = setInterval(() => health.tell(), HEALTH_MILLIS);
  return {
    listen: (host, port) => server.listen(host, port),
    tellHealth: () => health.tell(),
    close: async (patienceMillis) => {
      clearInterval(telling);
      health.tell();
      health.close();
      await server.close(patienceMillis);
    },
  };
}

type Asking = { readonly call: Call; readonly message: Buffer };

/** Never rejects, and always ends the call. */
async function answer(parts: DoorParts, call: Call, message: Buffer): Promise<void> {
  const snapshot = parts.snapshot();
  if (snapshot === undefined) {
    call.end(status.UNAVAILABLE, 'no configuration is loaded yet');
    return;
  }
  try {
    const answered = await shouldRateLimit(parts, snapshot, readRequest(message), call.host.peer);
    call.answer(answerMessage(answered));
  } catch (error) {
    if (error instanceof BadRlsRequest) {
      parts.metrics.countRefused(error.code);
      call.end(status.INVALID_ARGUMENT, error.message);
      return;
    }
    if (error instanceof BadMessage) {
      call.end(status.INTERNAL, 'the message cannot be decoded');
      return;
    }
    parts.log.error({ event: 'request_failed', door: 'grpc', err: error });
    call.end(status.INTERNAL, 'the limiter failed; see its log');
  }
}
