import {
  type CompiledLimit,
  type CompiledPenalty,
  type CompiledRule,
  FORMAT,
  type HealthDocument,
  type PolicyDocument,
} from './documents.ts';
import { fieldOf } from './hash.ts';
import { inOrder } from './rule-order.ts';
import { domainOf, type ValidHealth, type ValidPolicy } from './resource.ts';
import type { Penalty } from './schema/penalty.ts';
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

/** Whole policies in shadow are one group, single rules one each. */
function groupOf(policy: ValidPolicy, rule: Rule): number {
  if (policy.spec.mode === 'Shadow') return 1;
  return rule.mode === 'Shadow' ? 1 + policy.spec.rules.indexOf(rule) : 0;
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
    ...(spec.scope?.tiers === undefined ? {} : { tiers: spec.scope.tiers }),
  };
}

function compileRule(policy: ValidPolicy, rule: Rule): CompiledRule {
  const compile = (limits: readonly Limit[]): CompiledLimit[] =>
    limits.map((limit) => compileLimit(policy, rule, limit));
  return {
    name: rule.name,
    group: groupOf(policy, rule),
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
