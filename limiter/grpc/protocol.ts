// The protocol files beside package.json: what gRPC's reflection shows, and what clients of the tests speak.
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { loadSync, type PackageDefinition, type ServiceDefinition } from '@grpc/proto-loader';

const RATE_LIMIT_FILE = 'envoy/service/ratelimit/v3/rls.proto';
const HEALTH_FILE = 'grpc/health/v1/health.proto';

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
