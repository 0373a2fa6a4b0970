// Resources, documents and requests of tests: each begins as the least that is valid, and tells only what a test is about.
import { compileDomain, compileHealth, compileOverride, compilePolicy } from '../../policy/compile.ts';
import type {
  Document,
  DomainDocument,
  HealthDocument,
  OverrideDocument,
  PolicyDocument,
} from '../../policy/documents.ts';
import type { Metadata, RawResource, ValidHealth, ValidPolicy } from '../../policy/resource.ts';
import type { Match } from '../../policy/schema/match.ts';
import type { RateLimitDomainSpec } from '../../policy/schema/rate-limit-domain.ts';
import type { RateLimitOverrideSpec } from '../../policy/schema/rate-limit-override.ts';
import type { Penalty } from '../../policy/schema/penalty.ts';
import type { Limit } from '../../policy/schema/limit.ts';
import type { RateLimitPolicySpec, Rule } from '../../policy/schema/rate-limit-policy.ts';
import type { SystemHealthSpec } from '../../policy/schema/system-health.ts';
import { selectRules } from '../../policy/select.ts';
import type { RequestContext, Selection } from '../../policy/selection.ts';
import { buildSnapshot } from '../../policy/build-snapshot.ts';
import type { ConfigurationIdentity, DomainIndex, Snapshot } from '../../policy/snapshot.ts';

export type Tier = NonNullable<RateLimitPolicySpec['tiers']>[number];

/** Immutable: each step gives another builder. */
export type PolicyBuilder = {
  named(name: string): PolicyBuilder;
  inNamespace(namespace: string): PolicyBuilder;
  forDomain(domain: string): PolicyBuilder;
  withTier(name: string, tier?: Partial<Tier>): PolicyBuilder;
  withRule(rule?: Partial<Rule>): PolicyBuilder;
  withPenalty(penalty?: Partial<Penalty>): PolicyBuilder;
  withExemption(name: string, match: Match): PolicyBuilder;
  labelled(labels: Readonly<Record<string, string>>): PolicyBuilder;
  inShadow(): PolicyBuilder;
  /** As a source delivers it. */
  raw(): RawResource;
  build(): ValidPolicy;
  document(): PolicyDocument;
};

export function aLimit(limit: Partial<Limit> = {}): Limit {
  return { windowSeconds: 60, requests: 10, ...limit };
}

/** Counts by consumer, 10 a minute; `limitsFrom` takes the place of these limits. */
export function aRule(rule: Partial<Rule> = {}): Rule {
  const limits = rule.limitsFrom === undefined ? { limits: [aLimit()] } : {};
  return { name: 'per-consumer', countBy: ['consumer'], algorithm: 'TokenBucket', ...limits, ...rule };
}

/** Warns consumers from the first violation on, for a minute. */
export function aPenalty(penalty: Partial<Penalty> = {}): Penalty {
  return { countBy: ['consumer'], warn: { violations: 1, forSeconds: 60 }, ...penalty };
}

/** payments/limits, for the domain "payments", with one rule unless others are given. */
export function aPolicy(): PolicyBuilder {
  return policyBuilder(metadataOf('payments', 'limits'), { rules: [] });
}

function policyBuilder(metadata: Metadata, spec: RateLimitPolicySpec): PolicyBuilder {
  const build = (): ValidPolicy => {
    const rules = spec.rules.length === 0 ? [aRule()] : spec.rules;
    return { kind: 'RateLimitPolicy', metadata, spec: { ...spec, rules } };
  };
  return {
    named: (name) => policyBuilder({ ...metadata, name }, spec),
    inNamespace: (namespace) => policyBuilder({ ...metadata, namespace }, spec),
    forDomain: (domain) => policyBuilder(metadata, { ...spec, domain }),
    withTier: (name, tier = {}) =>
      policyBuilder(metadata, { ...spec, tiers: [...(spec.tiers ?? []), { name, limits: [aLimit()], ...tier }] }),
    withRule: (rule = {}) => policyBuilder(metadata, { ...spec, rules: [...spec.rules, aRule(rule)] }),
    withPenalty: (penalty = {}) => policyBuilder(metadata, { ...spec, penalty: aPenalty(penalty) }),
    withExemption: (name, match) =>
      policyBuilder(metadata, { ...spec, exemptions: [...(spec.exemptions ?? []), { name, match }] }),
    labelled: (labels) => policyBuilder({ ...metadata, labels }, spec),
    inShadow: () => policyBuilder(metadata, { ...spec, mode: 'Shadow' }),
    raw: build,
    build,
    document: () => compilePolicy(build()),
  };
}

/** A DEGRADED that covers everything and has no end. */
export function aHealth(spec: Partial<SystemHealthSpec> = {}): ValidHealth {
  return {
    kind: 'SystemHealth',
    metadata: metadataOf('', 'incident'),
    spec: { mode: 'DEGRADED', reason: 'database overload', ...spec },
  };
}

export function aHealthDocument(spec: Partial<SystemHealthSpec> = {}): HealthDocument {
  return compileHealth(aHealth(spec));
}

/** Blocks the consumer key:acme in payments/limits, from 2026 to 2027; `action` and the rest take the place of that. */
export function anOverrideDocument(spec: Partial<RateLimitOverrideSpec> = {}, name = 'override'): OverrideDocument {
  return compileOverride({
    kind: 'RateLimitOverride',
    metadata: metadataOf('payments', name),
    spec: {
      policyRef: { name: 'limits' },
      subject: { consumer: 'key:acme' },
      action: 'Block',
      startsAt: '2026-01-01T00:00:00Z',
      expiresAt: '2027-01-01T00:00:00Z',
      ...spec,
    },
  });
}

export function aDomainDocument(spec: RateLimitDomainSpec = {}, name = 'payments'): DomainDocument {
  return compileDomain({ kind: 'RateLimitDomain', metadata: metadataOf('payments', name), spec });
}

export function metadataOf(namespace: string, name: string): Metadata {
  return { namespace, name, uid: `uid-${name}`, generation: 1, creationTimestamp: '2026-01-01T00:00:00Z' };
}

const FIRST_REVISION: ConfigurationIdentity = { incarnation: 'first', epoch: 1, revision: 1, manifest: 'm' };

export function snapshotOf(documents: readonly Document[]): Snapshot {
  return buildSnapshot(FIRST_REVISION, documents);
}

/** What a limiter would decide a domain by, if these documents were in force. */
export function indexOf(documents: readonly Document[], domain = 'payments'): DomainIndex {
  return domainOf(snapshotOf(documents), domain);
}

/** What it would select for a request to that domain. */
export function selectAmong(
  documents: readonly Document[],
  request: RequestContext,
  nowMicros = 0,
  domain = 'payments',
): Selection {
  const snapshot = snapshotOf(documents);
  return selectRules(domainOf(snapshot, domain), request, nowMicros, snapshot);
}

function domainOf({ domains }: Snapshot, domain: string): DomainIndex {
  const index = domains.get(domain);
  if (index === undefined) throw new RangeError(`no document is of the domain ${domain}`);
  return index;
}
