import type { CompiledLimit } from './documents.ts';
import { subjectOf } from './hash.ts';
import { effectiveHealth } from './health.ts';
import { matches, type RequestFacts } from './match.ts';
import type { Algorithm } from './schema/rate-limit-policy.ts';
import type { HealthMode } from './schema/system-health.ts';
import type { DomainIndex, IndexedRule } from './snapshot.ts';

/** Everything about a request that rules may match or count by. */
export type RequestContext = RequestFacts & {
  /** With its source: `key:acme`, `caller:user:123`, `ip:203.0.113.9`. */
  readonly consumer?: string | undefined;
  readonly tenant?: string | undefined;
  /** Canonical; an IPv6 address stands for its /64. */
  readonly clientIP?: string | undefined;
  readonly tier?: string | undefined;
  readonly descriptors?: ReadonlyMap<string, string> | undefined;
  readonly attributes?: ReadonlyMap<string, string> | undefined;
};

/** One limit that applies to a request, with the numbers that hold for it now. */
export type SelectedLimit = {
  readonly policy: string;
  readonly rule: string;
  readonly algorithm: Algorithm;
  readonly subject: string;
  readonly field: string;
  readonly windowSeconds: number;
  /** Most requests at once, now. */
  readonly capacity: number;
  /** Requests per window, now. */
  readonly refill: number;
  /** The capacity while NORMAL. */
  readonly normalCapacity: number;
  readonly tier: string | undefined;
  readonly mode: HealthMode;
  /** When the mode ends (microseconds, Redis' clock), if that is known. */
  readonly modeUntilMicros: number | undefined;
};

export type Selection = {
  readonly limits: readonly SelectedLimit[];
  /** Rules that could not be judged, because the request lacks what they match or count by. */
  readonly missing: readonly { readonly policy: string; readonly rule: string; readonly input: string }[];
};

/** The limits of all rules that apply to a request. Time is that of Redis, in microseconds. */
export function selectLimits(domain: DomainIndex, context: RequestContext, nowMicros: number): Selection {
  const limits: SelectedLimit[] = [];
  const missing: { policy: string; rule: string; input: string }[] = [];
  for (const indexed of domain.rules) {
    const matched = matches(indexed.rule.match, context);
    if (matched.kind === 'not-matched') continue;
    const subject =
      matched.kind === 'matched' ? subjectFor(indexed, context, matched.route) : { missing: matched.input };
    if (typeof subject === 'string') addLimits(limits, domain, indexed, { subject, context, nowMicros });
    else missing.push({ policy: indexed.policy.id, rule: indexed.rule.name, input: subject.missing });
  }
  return { limits, missing };
}

function addLimits(
  limits: SelectedLimit[],
  domain: DomainIndex,
  { policy, rule }: IndexedRule,
  request: { subject: string; context: RequestContext; nowMicros: number },
): void {
  const asked = request.context.tier;
  const tier = asked !== undefined && policy.tiers.has(asked) ? asked : (policy.defaultTier ?? asked);
  const compiled = limitsOf(rule.limits, tier);
  if (compiled.length === 0) return;
  const health = effectiveHealth(domain.healths, tier, request.nowMicros);
  const isDegraded = health.mode === 'DEGRADED';
  for (const limit of compiled) {
    limits.push({
      policy: policy.id,
      rule: rule.name,
      algorithm: rule.algorithm,
      subject: request.subject,
      field: limit.field,
      windowSeconds: limit.windowSeconds,
      capacity: isDegraded ? limit.degraded : limit.capacity,
      refill: isDegraded ? limit.degraded : limit.requests,
      normalCapacity: limit.capacity,
      tier,
      mode: health.mode,
      modeUntilMicros: health.untilMicros,
    });
  }
}

function limitsOf(limits: IndexedRule['rule']['limits'], tier: string | undefined): readonly CompiledLimit[] {
  if (Array.isArray(limits)) return limits;
  return tier !== undefined && Object.hasOwn(limits, tier) ? (limits[tier] ?? []) : [];
}

function subjectFor(
  { rule }: IndexedRule,
  context: RequestContext,
  route: string | undefined,
): string | { readonly missing: string } {
  const parts: string[] = [];
  for (const axis of rule.countBy) {
    const value = axisValue(axis, context, route);
    if (value === undefined) return { missing: axis };
    parts.push(axis, value);
  }
  return subjectOf(parts);
}

function axisValue(axis: string, context: RequestContext, route: string | undefined): string | undefined {
  switch (axis) {
    case 'consumer':
      return context.consumer;
    case 'tenant':
      return context.tenant;
    case 'clientIP':
      return context.clientIP;
    case 'route':
      return route;
    case 'method':
      return context.method;
    case 'global':
      return '';
    default:
      return keyedAxisValue(axis, context);
  }
}

function keyedAxisValue(axis: string, context: RequestContext): string | undefined {
  const colon = axis.indexOf(':');
  const key = axis.slice(colon + 1);
  switch (axis.slice(0, colon)) {
    case 'header':
      return context.headers?.get(key);
    case 'descriptor':
      return context.descriptors?.get(key);
    default:
      return context.attributes?.get(key);
  }
}
