import type { CompiledLimit, CompiledPenalty, CompiledRule } from './documents.ts';
import { subjectOf } from './hash.ts';
import { effectiveHealth } from './health.ts';
import { matches, type RequestFacts } from './match.ts';
import type { Algorithm, FailurePolicy } from './schema/rate-limit-policy.ts';
import type { HealthMode } from './schema/system-health.ts';
import type { DomainIndex, IndexedPolicy } from './snapshot.ts';

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
  /** Capacity and refill while NORMAL. */
  readonly normalCapacity: number;
  readonly normalRefill: number;
  readonly tier: string | undefined;
  readonly mode: HealthMode;
  /** When the mode ends (microseconds, Redis' clock), if that is known. */
  readonly modeUntilMicros: number | undefined;
};

/** How a rule ended: judged, or not run because nothing that it waits for came about. */
export type RuleOutcome = 'Admitted' | 'Denied' | 'NotRun' | 'Forgiven';

/** One rule that applies to a request, with the numbers that hold for it now. */
export type SelectedRule = {
  readonly policy: string;
  readonly rule: string;
  /** 0 = enforced, otherwise the group of shadow rules that it is charged with. */
  readonly group: number;
  /** Index into the penalties of the selection, of the one that governs it. */
  readonly penalty: number | undefined;
  /** Whether that penalty, in THROTTLE, cuts its limits. */
  readonly throttled: boolean;
  /** What it says while Redis cannot decide. */
  readonly failurePolicy: FailurePolicy;
  /** It runs if one of these holds, or if there are none. Indexes are of rules before it. */
  readonly after: readonly { readonly rule: number; readonly outcome: 'Admitted' | 'Denied' | 'NotRun' }[];
  readonly limits: readonly SelectedLimit[];
};

/** The penalty of one policy, for one request. */
export type SelectedPenalty = {
  readonly policy: string;
  readonly subject: string;
  /** Who it is, for people. */
  readonly text: string;
  readonly penalty: CompiledPenalty;
};

export type Selection = {
  readonly rules: readonly SelectedRule[];
  readonly penalties: readonly SelectedPenalty[];
  /** Rules (and penalties) that could not be judged, because the request lacks what they match or count by. */
  readonly missing: readonly { readonly policy: string; readonly rule: string; readonly input: string }[];
};

/** What is known of the request and of the selection while it is made. */
type Selecting = {
  readonly domain: DomainIndex;
  readonly context: RequestContext;
  readonly nowMicros: number;
  readonly rules: SelectedRule[];
  readonly penalties: SelectedPenalty[];
  readonly missing: { policy: string; rule: string; input: string }[];
  /** Where each rule of the policy in hand stands in `rules`. */
  readonly positions: Map<string, number>;
};

const MAX_TEXT_BYTES = 256;

/** What stands at the end of a text that was cut. */
const CUT = '...';

/** Groups of different policies are different groups. */
const GROUPS_PER_POLICY = 1_000;

/** The rules that apply to a request, each after those that it waits for. Time is that of Redis, in microseconds. */
export function selectRules(domain: DomainIndex, context: RequestContext, nowMicros: number): Selection {
  const selecting: Selecting = {
    domain,
    context,
    nowMicros,
    rules: [],
    penalties: [],
    missing: [],
    positions: new Map(),
  };
  for (const [index, policy] of domain.policies.entries()) selectOfPolicy(selecting, policy, index);
  const { rules, penalties, missing } = selecting;
  return { rules, penalties, missing };
}

function selectOfPolicy(selecting: Selecting, policy: IndexedPolicy, policyIndex: number): void {
  selecting.positions.clear();
  const first = selecting.rules.length;
  for (const rule of policy.rules) selectRule(selecting, policy, rule, policyIndex);
  const hasEnforced = selecting.rules.slice(first).some((rule) => rule.group === 0);
  if (policy.penalty === undefined || !hasEnforced) return;
  const penalty = selectPenalty(selecting, policy, policy.penalty);
  if (penalty === undefined) return;
  const index = selecting.penalties.push(penalty) - 1;
  for (let i = first; i < selecting.rules.length; i += 1) {
    const rule = selecting.rules[i];
    if (rule !== undefined && rule.group === 0) selecting.rules[i] = { ...rule, penalty: index };
  }
}

function selectRule(selecting: Selecting, policy: IndexedPolicy, rule: CompiledRule, policyIndex: number): void {
  const { context, missing, positions, rules } = selecting;
  const matched = matches(rule.match, context);
  if (matched.kind === 'not-matched') return;
  const parts =
    matched.kind === 'matched' ? axisValues(rule.countBy, context, matched.route) : { missing: matched.input };
  if ('missing' in parts) {
    missing.push({ policy: policy.id, rule: rule.name, input: parts.missing });
    return;
  }
  const group = rule.group === 0 ? 0 : policyIndex * GROUPS_PER_POLICY + rule.group;
  const after = conditionsOf(selecting, rule, group);
  if (after === 'never') return;
  const limits = limitsFor(selecting, policy, rule, subjectOf(parts));
  if (limits.length === 0) return;
  positions.set(rule.name, rules.length);
  rules.push({
    policy: policy.id,
    rule: rule.name,
    group,
    penalty: undefined,
    throttled: rule.throttled,
    failurePolicy: rule.failurePolicy,
    after,
    limits,
  });
}

/**
 * What is left of a rule's conditions once it is known which rules apply: one that does not, or that is in another group,
 * is NotMatched for good. `never` if the rule cannot run.
 */
function conditionsOf(
  { positions, rules }: Selecting,
  rule: CompiledRule,
  group: number,
): SelectedRule['after'] | 'never' {
  if (rule.after.length === 0) return [];
  const open: { rule: number; outcome: 'Admitted' | 'Denied' | 'NotRun' }[] = [];
  for (const condition of rule.after) {
    const position = positions.get(condition.rule);
    const isNotMatched = condition.outcome === 'NotMatched';
    if (position === undefined || rules[position]?.group !== group) {
      if (isNotMatched) return [];
      continue;
    }
    open.push({ rule: position, outcome: condition.outcome === 'NotMatched' ? 'NotRun' : condition.outcome });
  }
  return open.length === 0 ? 'never' : open;
}

function selectPenalty(
  selecting: Selecting,
  policy: IndexedPolicy,
  penalty: CompiledPenalty,
): SelectedPenalty | undefined {
  const parts = axisValues(penalty.countBy, selecting.context, undefined);
  if ('missing' in parts) {
    selecting.missing.push({ policy: policy.id, rule: '(penalty)', input: parts.missing });
    return undefined;
  }
  return { policy: policy.id, subject: subjectOf([policy.id, ...parts]), text: textOf(parts), penalty };
}

/** `consumer=key:acme`, cut between two characters to what the hash may hold. */
function textOf(parts: readonly string[]): string {
  const pairs: string[] = [];
  for (let i = 0; i < parts.length; i += 2) pairs.push(`${parts[i]}=${parts[i + 1]}`);
  const text = pairs.join(' ').toWellFormed();
  // No character takes more than three bytes for each of its UTF-16 units.
  if (text.length * 3 <= MAX_TEXT_BYTES) return text;
  const bytes = Buffer.from(text);
  if (bytes.length <= MAX_TEXT_BYTES) return text;
  let end = MAX_TEXT_BYTES - CUT.length;
  while (isInsideCharacter(bytes[end])) end -= 1;
  return `${bytes.toString('utf8', 0, end)}${CUT}`;
}

/** Whether a byte of UTF-8 continues a character. */
function isInsideCharacter(byte: number | undefined): boolean {
  return byte !== undefined && byte >= 0x80 && byte < 0xc0;
}

function limitsFor(
  { domain, context, nowMicros }: Selecting,
  policy: IndexedPolicy,
  rule: CompiledRule,
  subject: string,
): SelectedLimit[] {
  const asked = context.tier;
  const tier = asked !== undefined && policy.tiers.has(asked) ? asked : (policy.defaultTier ?? asked);
  const compiled = limitsOf(rule.limits, tier);
  if (compiled.length === 0) return [];
  const health = effectiveHealth(domain.healths, tier, nowMicros);
  const isDegraded = health.mode === 'DEGRADED';
  return compiled.map((limit) => ({
    policy: policy.id,
    rule: rule.name,
    algorithm: rule.algorithm,
    subject,
    field: limit.field,
    windowSeconds: limit.windowSeconds,
    capacity: isDegraded ? limit.degraded : limit.capacity,
    refill: isDegraded ? limit.degraded : limit.requests,
    normalCapacity: limit.capacity,
    normalRefill: limit.requests,
    tier,
    mode: health.mode,
    modeUntilMicros: health.untilMicros,
  }));
}

function limitsOf(limits: CompiledRule['limits'], tier: string | undefined): readonly CompiledLimit[] {
  if (Array.isArray(limits)) return limits;
  return tier !== undefined && Object.hasOwn(limits, tier) ? (limits[tier] ?? []) : [];
}

/** Names and values of axes, in order of the names. */
function axisValues(
  axes: readonly string[],
  context: RequestContext,
  route: string | undefined,
): readonly string[] | { readonly missing: string } {
  const parts: string[] = [];
  for (const axis of axes) {
    const value = axisValue(axis, context, route);
    if (value === undefined) return { missing: axis };
    parts.push(axis, value);
  }
  return parts;
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
