import type { ConsumerSpec } from './schema/consumer.ts';
import type { Problem } from './schema/fields.ts';
import type { ResourceKind } from './schema/kinds.ts';
import type { RateLimitDomainSpec } from './schema/rate-limit-domain.ts';
import type { RateLimitOverrideSpec } from './schema/rate-limit-override.ts';
import type { RateLimitPolicySpec } from './schema/rate-limit-policy.ts';
import type { SystemHealthSpec } from './schema/system-health.ts';

export type { Problem };

/** What identifies one state of one object. `namespace` is empty for cluster-scoped kinds. */
export type Metadata = {
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
  readonly generation: number;
  /** RFC 3339; older objects win conflicts. */
  readonly creationTimestamp: string;
  readonly labels?: Readonly<Record<string, string>>;
};

/** An object as a source delivers it: nothing is known of its spec yet. */
export type RawResource = {
  readonly kind: ResourceKind;
  readonly metadata: Metadata;
  readonly spec: unknown;
  /** The status as stored, for comparison with the one that it should have. */
  readonly status?: unknown;
};

type Valid<K extends ResourceKind, S> = { readonly kind: K; readonly metadata: Metadata; readonly spec: S };

export type ValidPolicy = Valid<'RateLimitPolicy', RateLimitPolicySpec>;
export type ValidDomain = Valid<'RateLimitDomain', RateLimitDomainSpec>;
export type ValidOverride = Valid<'RateLimitOverride', RateLimitOverrideSpec>;
export type ValidHealth = Valid<'SystemHealth', SystemHealthSpec>;
export type ValidConsumer = Valid<'Consumer', ConsumerSpec>;
export type ValidResource = ValidPolicy | ValidDomain | ValidOverride | ValidHealth | ValidConsumer;

/** `kind/namespace/name`: one text per object, in every map and manifest. */
export function idOf(resource: { kind: ResourceKind; metadata: { namespace: string; name: string } }): string {
  return `${resource.kind}/${resource.metadata.namespace}/${resource.metadata.name}`;
}

/** Whether objects of a namespace may belong to a domain: its own name, or its own name, a dot and anything. */
export function ownsDomain(namespace: string, domain: string): boolean {
  return domain === namespace || domain.startsWith(`${namespace}.`);
}

export function domainOf(policy: ValidPolicy): string {
  return policy.spec.domain ?? policy.metadata.namespace;
}
