import { Client, credentials, type ServiceError } from '@grpc/grpc-js';
import type { MethodDefinition } from '@grpc/proto-loader';
import { loadProtocol, serviceOf } from '../../limiter/grpc/protocol.ts';
import { HEALTH_SERVICE, RATE_LIMIT_SERVICE } from '../../limiter/grpc/services.ts';

export type Status = {
  readonly code: number;
  readonly current_limit: { readonly name: string; readonly requests_per_unit: number; readonly unit: number } | null;
  readonly limit_remaining: number;
  readonly duration_until_reset: { readonly seconds: number; readonly nanos: number } | null;
};

export type Response = {
  readonly overall_code: number;
  readonly statuses: readonly Status[];
  readonly response_headers_to_add: readonly { readonly key: string; readonly value: string }[];
  readonly dynamic_metadata: { readonly fields: Readonly<Record<string, unknown>> } | null;
};

export type RlsClient = {
  shouldRateLimit(request: object): Promise<Response>;
  health(service?: string): Promise<{ readonly status: number }>;
  readonly client: Client;
  close(): void;
};

/** A gRPC client of the limiter, on a connection of its own. */
export function rlsClient(address: string): RlsClient {
  const protocol = loadProtocol();
  const client = new Client(address, credentials.createInsecure(), { 'grpc.use_local_subchannel_pool': 1 });
  const call = (service: string, method: string) => {
    const definition = (serviceOf(protocol, service) as Record<string, MethodDefinition<object, object>>)[method];
    if (definition === undefined) throw new Error(`no method ${method}`);
    return (request: object) =>
      new Promise<never>((resolve, reject) => {
        client.makeUnaryRequest(
          definition.path,
          definition.requestSerialize,
          definition.responseDeserialize,
          request,
          { deadline: Date.now() + 30_000 },
          (error: ServiceError | null, response) => (error === null ? resolve(response as never) : reject(error)),
        );
      });
  };
  const shouldRateLimit = call(RATE_LIMIT_SERVICE, 'ShouldRateLimit');
  const health = call(HEALTH_SERVICE, 'Check');
  return {
    shouldRateLimit,
    health: (service = '') => health({ service }),
    client,
    close: () => client.close(),
  };
}

/** A descriptor of these entries. */
export const descriptor = (entries: Readonly<Record<string, string>>, more: object = {}): object => ({
  entries: Object.entries(entries).map(([key, value]) => ({ key, value })),
  ...more,
});

/** The plain values of a Struct. */
export function plainFields(struct: Response['dynamic_metadata']): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(struct?.fields ?? {}).map(([name, value]) => {
      const { stringValue, numberValue } = Object(value);
      return [name, stringValue ?? numberValue];
    }),
  );
}
