import {
  type CompiledLimit,
  type CompiledPenalty,
  type CompiledRule,
  type Document,
  type DomainDocument,
  FORMAT,
  type HealthDocument,
  type LimitNumbers,
  type OverrideDocument,
  type PolicyDocument,
} from './documents.ts';
import { fieldOf } from './hash.ts';
import { inOrder } from './rule-order.ts';
import { IPV6_PREFIX_LENGTH } from './ip.ts';
import {
  domainOf,
  type ValidDomain,
  type ValidHealth,
  type ValidOverride,
  type ValidPolicy,
  type ValidResource,
} from './resource.ts';
import type { LabelSelector } from './schema/label-selector.ts';
import type { Limit } from './schema/limit.ts';
import type { Penalty } from './schema/penalty.ts';
import { MAX_COST, type Rule } from './schema/rate-limit-policy.ts';
import type { RateLimitDomainSpec } from './schema/rate-limit-domain.ts';
import type { RateLimitOverrideSpec } from './schema/rate-limit-override.ts';

/** The document of a valid object; undefined for kinds that have none. */
export function compileResource(resource: ValidResource): Document | undefined {
  switch (resource.kind) {
    case 'RateLimitPolicy':
      return compilePolicy(resource);
    case 'RateLimitDomain':
      return compileDomain(resource);
    case 'RateLimitOverride':
      return compileOverride(resource);
    case 'SystemHealth':
      return compileHealth(resource);
    case 'Consumer':
      // Keys are looked up one by one; pods do not load all consumers.
      return undefined;
  }
}

/** The compiled form of a valid policy: the same spec gives the same document, byte by byte. */
export function compilePolicy(policy: ValidPolicy): PolicyDocument {
  const { spec, metadata } = policy;
  const tiers = spec.tiers ?? [];
  const defaultTier = tiers.find((tier) => tier.default === true)?.name;
  return {
    format: FORMAT,
    requires: [],
    kind: 'RateLimitPolicy',
    namespace: metadata.namespace,
    name: metadata.name,
    domain: domainOf(policy),
    tiers: tiers.map((tier) => tier.name),
    ...(defaultTier === undefined ? {} : { defaultTier }),
    labels: inOrderOfKeys(metadata.labels ?? {}),
    exemptions: spec.exemptions ?? [],
    rules: inOrder(spec.rules).map((rule) => compileRule(policy, rule)),
    // A policy in shadow punishes nobody.
    ...(spec.penalty === undefined || spec.mode === 'Shadow' ? {} : { penalty: compilePenalty(spec.penalty) }),
  };
}

function compilePenalty(penalty: Penalty): CompiledPenalty {
  const { mode, countBy, tolerancePercent, violationWindowSeconds, minSecondsPerStep, ...states } = penalty;
  return {
    enforced: mode !== 'Shadow',
    countBy: countBy.toSorted(),
    tolerancePercent: tolerancePercent ?? 100,
    violationWindowSeconds: violationWindowSeconds ?? 600,
    minSecondsPerStep: minSecondsPerStep ?? 10,
    ...states,
  };
}

/** The same labels give the same text. */
function inOrderOfKeys(labels: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(Object.entries(labels).toSorted(([one], [other]) => (one < other ? -1 : 1)));
}

/** Whole policies in shadow are one group, single rules one each. */
function shadowGroupOf(policy: ValidPolicy, rule: Rule): number {
  return policy.spec.mode === 'Shadow' ? 1 : 1 + policy.spec.rules.indexOf(rule);
}

/** The penalty of one consumer must not halve a pool that others share. */
function isThrottled(policy: ValidPolicy, rule: Rule): boolean {
  return policy.spec.penalty?.countBy.every((axis) => rule.countBy.includes(axis)) ?? false;
}

export function compileHealth(health: ValidHealth): HealthDocument {
  const { spec, metadata } = health;
  return {
    format: FORMAT,
    requires: [],
    kind: 'SystemHealth',
    name: metadata.name,
    mode: spec.mode,
    ...(spec.reason === undefined ? {} : { reason: spec.reason }),
    ...(spec.expiresAt === undefined ? {} : { expiresAtMicros: Date.parse(spec.expiresAt) * 1000 }),
    ...(spec.scope?.domains === undefined ? {} : { domains: spec.scope.domains }),
    ...(spec.scope?.policySelector === undefined ? {} : { policySelector: selectorOf(spec.scope.policySelector) }),
    ...(spec.scope?.tiers === undefined ? {} : { tiers: spec.scope.tiers }),
  };
}

function selectorOf({ matchLabels, ...rest }: LabelSelector): LabelSelector {
  return matchLabels === undefined ? rest : { matchLabels: inOrderOfKeys(matchLabels), ...rest };
}

export function compileDomain({ spec, metadata }: ValidDomain): DomainDocument {
  return {
    format: FORMAT,
    requires: [],
    kind: 'RateLimitDomain',
    namespace: metadata.namespace,
    domain: metadata.name,
    ...identityOf(spec.identity),
    ipBlock: {
      invalidKeys: spec.ipBlock?.invalidKeys ?? 10,
      withinSeconds: spec.ipBlock?.withinSeconds ?? 60,
      forSeconds: spec.ipBlock?.forSeconds ?? 900,
      enforced: spec.ipBlock?.mode !== 'Shadow',
    },
    ...(spec.partitionBy === undefined ? {} : { partitionBy: spec.partitionBy }),
    grants: (spec.grants ?? []).map((grant) => grant.namespace),
  };
}

/** What holds for a domain of which nothing is said. */
export function defaultDomain(domain: string): DomainDocument {
  const metadata = { namespace: '', name: domain, uid: '', generation: 0, creationTimestamp: '' };
  return compileDomain({ kind: 'RateLimitDomain', metadata, spec: {} });
}

type Identity = Pick<DomainDocument, 'sources' | 'onMissing' | 'onInvalidKey' | 'ipv6PrefixLength'>;

function identityOf(identity: RateLimitDomainSpec['identity']): Identity {
  const sources = identity?.sources ?? [{ type: 'ApiKey' }, { type: 'Caller' }, { type: 'ClientIP' }];
  return {
    sources: sources.map((source) =>
      source.type === 'ApiKey' ? { ...source, name: source.name ?? 'x-api-key' } : source,
    ),
    onMissing: identity?.onMissing ?? 'ClientIP',
    onInvalidKey: identity?.onInvalidKey ?? 'Deny',
    ipv6PrefixLength: identity?.ipv6PrefixLength ?? IPV6_PREFIX_LENGTH,
  };
}

export function compileOverride({ spec, metadata }: ValidOverride): OverrideDocument {
  return {
    format: FORMAT,
    requires: [],
    kind: 'RateLimitOverride',
    namespace: metadata.namespace,
    name: metadata.name,
    policy: `${metadata.namespace}/${spec.policyRef.name}`,
    subject: subjectOf(spec.subject),
    ...(spec.rules === undefined ? {} : { rules: spec.rules }),
    action: spec.action,
    limits: (spec.limits ?? []).map(numbersOf),
    percent: spec.percent ?? 100,
    ...(spec.reason === undefined ? {} : { reason: spec.reason }),
    startsAtMicros: spec.startsAt === undefined ? 0 : Date.parse(spec.startsAt) * 1000,
    expiresAtMicros: Date.parse(spec.expiresAt) * 1000,
  };
}

function subjectOf(subject: RateLimitOverrideSpec['subject']): OverrideDocument['subject'] {
  if (subject.consumer !== undefined) return { axis: 'consumer', value: subject.consumer };
  if (subject.tenant !== undefined) return { axis: 'tenant', value: subject.tenant };
  return { axis: 'clientIP', value: subject.clientIP ?? '' };
}

/** A limit with what was left out filled in. */
export function numbersOf(limit: Limit): LimitNumbers {
  return {
    windowSeconds: limit.windowSeconds,
    requests: limit.requests,
    capacity: limit.burst ?? limit.requests,
    degraded: limit.degraded ?? limit.requests,
  };
}

function compileRule(policy: ValidPolicy, rule: Rule): CompiledRule {
  const compile = (limits: readonly Limit[]): CompiledLimit[] =>
    limits.map((limit) => compileLimit(policy, rule, limit));
  return {
    name: rule.name,
    group: policy.spec.mode === 'Shadow' || rule.mode === 'Shadow' ? shadowGroupOf(policy, rule) : 0,
    shadowGroup: shadowGroupOf(policy, rule),
    enforcePercent: rule.enforcePercent ?? 100,
    isShown: rule.headers !== 'Hide',
    cost: {
      default: rule.cost?.default ?? 1,
      max: rule.cost?.max ?? MAX_COST,
      ...(rule.cost?.header === undefined ? {} : { header: rule.cost.header }),
    },
    throttled: isThrottled(policy, rule),
    failurePolicy: rule.failurePolicy ?? 'LocalFallback',
    after: rule.after ?? [],
    ...(rule.match === undefined ? {} : { match: rule.match }),
    countBy: rule.countBy.toSorted(),
    algorithm: rule.algorithm,
    limits:
      rule.limits === undefined
        ? Object.fromEntries((policy.spec.tiers ?? []).map((tier) => [tier.name, compile(tier.limits)]))
        : compile(rule.limits),
  };
}

/**
 * The counter's identity is the policy, rule, window and algorithm (and, in its key, domain and subject): never the
 * tier, never the numbers. So an edit, a change of tier or DEGRADED acts on the counters that are there.
 */
function compileLimit(policy: ValidPolicy, rule: Rule, limit: Limit): CompiledLimit {
  const { namespace, name } = policy.metadata;
  return {
    field: counterField(`${namespace}/${name}`, rule, limit.windowSeconds),
    ...numbersOf(limit),
  };
}

/** The field of a limit in the hashes of its subjects. `policy` is `namespace/name`. */
export function counterField(
  policy: string,
  rule: { readonly name: string; readonly algorithm: string },
  windowSeconds: number,
): string {
  const [namespace = '', name = ''] = policy.split('/');
  return fieldOf([namespace, name, rule.name, String(windowSeconds), rule.algorithm]);
}

/** Every field name of a document with the rule and window that it stands for. */
export function counterFields(document: PolicyDocument): Map<string, string> {
  const fields = new Map<string, string>();
  for (const rule of document.rules) {
    for (const limit of Array.isArray(rule.limits) ? rule.limits : Object.values(rule.limits).flat()) {
      fields.set(
        limit.field,
        `${document.namespace}/${document.name}, rule ${rule.name}, window ${limit.windowSeconds}`,
      );
    }
  }
  return fields;
}
