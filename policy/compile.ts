import {
  type CompiledLimit,
  type CompiledRule,
  FORMAT,
  type HealthDocument,
  type PolicyDocument,
} from './documents.ts';
import { fieldOf } from './hash.ts';
import { domainOf, type ValidHealth, type ValidPolicy } from './resource.ts';
import type { Limit, Rule } from './schema/rate-limit-policy.ts';

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
    rules: spec.rules.map((rule) => compileRule(policy, rule)),
  };
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
    ...(spec.scope?.tiers === undefined ? {} : { tiers: spec.scope.tiers }),
  };
}

function compileRule(policy: ValidPolicy, rule: Rule): CompiledRule {
  const compile = (limits: readonly Limit[]): CompiledLimit[] =>
    limits.map((limit) => compileLimit(policy, rule, limit));
  return {
    name: rule.name,
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
    field: fieldOf([namespace, name, rule.name, String(limit.windowSeconds), rule.algorithm]),
    windowSeconds: limit.windowSeconds,
    requests: limit.requests,
    capacity: limit.burst ?? limit.requests,
    degraded: limit.degraded ?? limit.requests,
  };
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
