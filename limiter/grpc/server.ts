// The gRPC door: Envoy's rate limit service, with health and reflection.
import { type sendUnaryData, Server, ServerCredentials, type ServerUnaryCall, status } from '@grpc/grpc-js';
import type { DoorParts } from '../door.ts';
import type { DoorSettings } from '../door-settings.ts';
import { BadRlsRequest } from '../rls/request.ts';
import { shouldRateLimit } from '../rls/should-rate-limit.ts';
import { addressOfPeer } from '../trust.ts';
import { Health } from './health.ts';
import { toMessage, toRlsRequest } from './messages.ts';
import { HEALTH_SERVICE, loadProtocol, RATE_LIMIT_SERVICE, serviceOf } from './protocol.ts';
import { addReflection } from './reflection.ts';

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

const MAX_MESSAGE_BYTES = 262_144;
const HEALTH_MILLIS = 1_000;

export function createGrpcDoor(parts: DoorParts, isServing: () => boolean, options: GrpcOptions): GrpcDoor {
  const protocol = loadProtocol();
  const server = new Server({
    'grpc.max_receive_message_length': MAX_MESSAGE_BYTES,
    'grpc.max_concurrent_streams': 1_000,
    'grpc.max_connection_age_ms': options.maxConnectionAgeMillis,
    'grpc.max_connection_age_grace_ms': 10_000,
    'grpc.keepalive_time_ms': 30_000,
    'grpc.keepalive_timeout_ms': 10_000,
    // Statistics of its own for each call, which nobody can ask for here: a tenth of what grpc-js takes.
    'grpc.enable_channelz': 0,
  });
  const health = new Health([RATE_LIMIT_SERVICE], isServing);
  server.addService(serviceOf(protocol, RATE_LIMIT_SERVICE), {
    ShouldRateLimit: (call: ServerUnaryCall<unknown, object>, callback: sendUnaryData<object>) => {
      void answer(parts, call, callback);
    },
  });
  server.addService(serviceOf(protocol, HEALTH_SERVICE), health.implementation);
  addReflection(server, protocol);
  const telling = setInterval(() => health.tell(), HEALTH_MILLIS);
  return {
    listen: (host, port) => bind(server, credentialsOf(options.tls), host, port),
    tellHealth: () => health.tell(),
    close: async (patienceMillis) => {
      clearInterval(telling);
      health.tell();
      health.close();
      await shutDown(server, patienceMillis);
    },
  };
}

/** Never rejects, and always calls back: grpc-js would leave the caller waiting. */
async function answer(
  parts: DoorParts,
  call: ServerUnaryCall<unknown, object>,
  callback: sendUnaryData<object>,
): Promise<void> {
  const snapshot = parts.snapshot();
  if (snapshot === undefined) {
    callback({ code: status.UNAVAILABLE, details: 'no configuration is loaded yet' });
    return;
  }
  try {
    const peerIP = addressOfPeer(call.getPeer());
    const caller = { peerIP, isTrusted: parts.trustedCallers.has(peerIP) };
    const answered = await shouldRateLimit(parts, snapshot, toRlsRequest(call.request), caller);
    callback(null, toMessage(answered));
  } catch (error) {
    if (error instanceof BadRlsRequest) {
      parts.metrics.countRefused(error.code);
      callback({ code: status.INVALID_ARGUMENT, details: error.message });
      return;
    }
    parts.log.error({ event: 'request_failed', door: 'grpc', err: error });
    callback({ code: status.INTERNAL, details: 'the limiter failed; see its log' });
  }
}

function credentialsOf(tls: DoorSettings['tls']): ServerCredentials {
  if (tls === undefined) return ServerCredentials.createInsecure();
  const pair = { cert_chain: Buffer.from(tls.cert), private_key: Buffer.from(tls.key) };
  return ServerCredentials.createSsl(null, [pair]);
}

function bind(server: Server, credentials: ServerCredentials, host: string, port: number): Promise<void> {
  const address = host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
  return new Promise((resolve, reject) => {
    server.bindAsync(address, credentials, (error) => {
      if (error === null) resolve();
      else reject(error);
    });
  });
}

function shutDown(server: Server, patienceMillis: number): Promise<void> {
  return new Promise((resolve) => {
    const impatience = setTimeout(() => server.forceShutdown(), patienceMillis);
    server.tryShutdown(() => {
      clearTimeout(impatience);
      resolve();
    });
  });
}
