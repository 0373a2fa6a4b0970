// The protocol files beside package.json, loaded once: what gRPC speaks here, and what its reflection shows.
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { loadSync, type PackageDefinition, type ServiceDefinition } from '@grpc/proto-loader';

const RATE_LIMIT_FILE = 'envoy/service/ratelimit/v3/rls.proto';
const HEALTH_FILE = 'grpc/health/v1/health.proto';

export const RATE_LIMIT_SERVICE = 'envoy.service.ratelimit.v3.RateLimitService';
export const HEALTH_SERVICE = 'grpc.health.v1.Health';

/** Between the bytes of a method's messages and plain objects. */
export type Codec = {
  /** Throws if these are no message. */
  decode(bytes: Buffer): unknown;
  encode(message: object): Uint8Array;
};

export function loadProtocol(): PackageDefinition {
  const folder = dirname(fileURLToPath(import.meta.resolve('#proto/README.md')));
  return loadSync(
    [RATE_LIMIT_FILE, HEALTH_FILE].map((file) => join(folder, file)),
    {
      includeDirs: [folder],
      keepCase: true,
      longs: Number,
      enums: Number,
      defaults: true,
    },
  );
}

/** A service of the protocol. Throws if it is not there. */
export function serviceOf(protocol: PackageDefinition, name: string): ServiceDefinition {
  const service = protocol[name];
  if (service === undefined || 'format' in service) throw new Error(`there is no service ${name} in the protocol`);
  return service;
}

/** What a method's requests and answers are. Throws if it is not there. */
export function codecOf(protocol: PackageDefinition, service: string, method: string): Codec {
  const definition = serviceOf(protocol, service)[method];
  if (definition === undefined) throw new Error(`there is no method ${method} in ${service}`);
  return { decode: definition.requestDeserialize, encode: definition.responseSerialize };
}
