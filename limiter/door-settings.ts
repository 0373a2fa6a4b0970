import type { HeaderFamily } from './rate-limit-headers.ts';
import { PRIVATE_NETWORKS } from './trust.ts';

/** How the limiter's doors behave. */
export type DoorSettings = {
  /** Port of Envoy's rate limit service; undefined = none. */
  readonly grpcPort: number | undefined;
  /** Networks whose words about consumers, tenants, tiers, addresses and costs are believed. */
  readonly trustedCallers: readonly string[];
  /** Networks whose X-Forwarded-* headers are believed. */
  readonly trustedProxyCIDRs: readonly string[];
  /** Networks that may ask the port for operators for more than probes and metrics. */
  readonly opsAllowed: readonly string[];
  /** How clients of gateways are told of their limits. */
  readonly headerFamilies: readonly HeaderFamily[];
  /** The same for what Envoy is asked to add; it makes X-RateLimit-* by itself. */
  readonly rlsHeaderFamilies: readonly HeaderFamily[];
  /** After so long a gRPC connection is closed gently, so that callers spread over new pods. */
  readonly grpcMaxConnectionAgeMillis: number;
  /** How long requests are still answered after the pod says that it is not ready any more. */
  readonly drainMillis: number;
  /** PEM, for the HTTP and gRPC ports; undefined = without TLS. The port for operators never has it. */
  readonly tls: { readonly cert: string; readonly key: string } | undefined;
};

export const DOOR_DEFAULTS: DoorSettings = {
  grpcPort: undefined,
  trustedCallers: PRIVATE_NETWORKS,
  trustedProxyCIDRs: PRIVATE_NETWORKS,
  opsAllowed: ['127.0.0.0/8', '::1/128'],
  headerFamilies: ['x-ratelimit', 'ietf'],
  rlsHeaderFamilies: ['ietf'],
  grpcMaxConnectionAgeMillis: 300_000,
  drainMillis: 0,
  tls: undefined,
};
