import type { CompiledLimit, CompiledPenalty, LimitNumbers, OverrideDocument } from './documents.ts';
import { type EffectiveLimit, effectiveLimit } from './effective-limits.ts';
import { stableShare, subjectOf } from './hash.ts';
import { type EffectiveHealth, effectiveHealth } from './health.ts';
import { matches, type MatchResult, type RequestFacts } from './match.ts';
import { activeOverrides, overrideFor } from './override.ts';
import type { OverrideAction } from './schema/rate-limit-override.ts';
import type { Algorithm, FailurePolicy } from './schema/rate-limit-policy.ts';
import type { HealthMode } from './schema/system-health.ts';
import type { DomainIndex, IndexedExemption, IndexedPolicy, IndexedRule } from './snapshot.ts';
import { axisValues, subjectText } from './subject.ts';

/** Everything about a request that rules may match or count by. */
export type RequestContext = RequestFacts & {
  /** As the domain counts it: an IPv6 address stands for its network. */
  readonly clientIP?: string | undefined;
  readonly tier?: string | undefined;
  readonly descriptors?: ReadonlyMap<string, string> | undefined;
  /** What a trusted caller says that the request takes. */
  readonly cost?: number | undefined;
  /** Whether a header may say what the request takes. */
  readonly hasTrustedHeaders?: boolean | undefined;
  /** Limits that were agreed with the consumer. */
  readonly negotiated?: readonly NegotiatedLimits[] | undefined;
};

export type NegotiatedLimits = {
  /** `namespace/name` */
  readonly policy: string;
  readonly rule: string;
  readonly limits: readonly LimitNumbers[];
};

/** One limit that applies to a request, with the numbers that hold for it now. */
export type SelectedLimit = EffectiveLimit & {
  readonly policy: string;
  readonly rule: string;
  readonly algorithm: Algorithm;
  readonly subject: string;
  readonly field: string;
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
  /** What the request takes from each of its limits. */
  readonly cost: number;
  /** Whether answers may speak of its limits. */
  readonly isShown: boolean;
  /** What it says while Redis cannot decide. */
  readonly failurePolicy: FailurePolicy;
  /**
   * It runs if one of these holds, or if there are none. Indexes are of rules before it; of itself, NotRun means that it
   * runs whatever becomes of the others, whose denials it may still forgive.
   */
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

/** An override that changes what becomes of a request. */
export type AppliedOverride = {
  readonly policy: string;
  readonly rule: string;
  readonly override: string;
  readonly action: OverrideAction;
  readonly reason: string | undefined;
  readonly expiresAtMicros: number;
};

export type Selection = {
  readonly rules: readonly SelectedRule[];
  readonly penalties: readonly SelectedPenalty[];
  /** Rules (and penalties) that could not be judged, because the request lacks what they match or count by. */
  readonly missing: readonly { readonly policy: string; readonly rule: string; readonly input: string }[];
  /** Policies that leave the request alone. */
  readonly exemptions: readonly { readonly policy: string; readonly exemption: string }[];
  readonly overrides: readonly AppliedOverride[];
  /** Of the overrides that block it, the one that does so for longest. */
  readonly blockedBy: AppliedOverride | undefined;
};

/** Why a rule is or is not among those selected; for explanations. */
export type RuleNote =
  | { readonly kind: 'applies' }
  | { readonly kind: 'not-matched'; readonly by: string }
  | { readonly kind: 'input-missing'; readonly input: string }
  | { readonly kind: 'exempt'; readonly exemption: string }
  | { readonly kind: 'overridden'; readonly override: string; readonly action: 'Exempt' | 'Block' }
  | { readonly kind: 'no-limits'; readonly tier: string | undefined }
  | { readonly kind: 'cannot-run' };

/** Is told about every rule of the domain, in order. */
export type SelectionTrace = (policy: IndexedPolicy, rule: IndexedRule, note: RuleNote) => void;

/** What is known of the request and of the selection while it is made. */
type Selecting = {
  readonly context: RequestContext;
  readonly nowMicros: number;
  readonly trace: SelectionTrace | undefined;
  readonly rules: SelectedRule[];
  readonly penalties: SelectedPenalty[];
  readonly missing: { policy: string; rule: string; input: string }[];
  readonly exemptions: { policy: string; exemption: string }[];
  readonly overrides: AppliedOverride[];
  /** Where each rule of the policy in hand stands in `rules`. */
  readonly positions: Map<string, number>;
  blockedBy: AppliedOverride | undefined;
};

/** One policy, as it is for one request. */
type PolicyInHand = {
  readonly policy: IndexedPolicy;
  readonly tier: string | undefined;
  readonly health: EffectiveHealth;
  readonly overrides: readonly OverrideDocument[];
};

/** Groups of different policies are different groups. */
const GROUPS_PER_POLICY = 1_000;

/** The rules that apply to a request, each after those that it waits for. Time is that of Redis, in microseconds. */
export function selectRules(
  domain: DomainIndex,
  context: RequestContext,
  nowMicros: number,
  trace?: SelectionTrace,
): Selection {
  const selecting: Selecting = {
    context,
    nowMicros,
    trace,
    rules: [],
    penalties: [],
    missing: [],
    exemptions: [],
    overrides: [],
    positions: new Map(),
    blockedBy: undefined,
  };
  // An explanation speaks of every policy, whatever the path.
  const policies = trace === undefined ? domain.policiesFor(context.path) : domain.policies;
  for (const policy of policies) selectOfPolicy(selecting, policy);
  const { rules, penalties, missing, exemptions, overrides, blockedBy } = selecting;
  return { rules, penalties, missing, exemptions, overrides, blockedBy };
}

/**
 * Whether an exemption holds and no policy of the domain would apply a rule, whoever sends the request: then nobody has
 * to be asked who it is.
 */
export function isExemptForEveryone(domain: DomainIndex, facts: RequestFacts): boolean {
  if (!domain.hasAnonymousExemptions) return false;
  let isExempt = false;
  for (const policy of domain.policiesFor(facts.path)) {
    if (isExemptForAnyone(policy, facts)) isExempt = true;
    else if (policy.rules.some((rule) => matches(rule.matcher, facts).kind !== 'not-matched')) return false;
  }
  return isExempt;
}

function isExemptForAnyone({ exemptions }: IndexedPolicy, facts: RequestFacts): boolean {
  return exemptions.some((one) => !one.needsIdentity && matches(one.matcher, facts).kind === 'matched');
}

function selectOfPolicy(selecting: Selecting, policy: IndexedPolicy): void {
  const { context, nowMicros, rules, trace } = selecting;
  const tier = tierFor(policy, context.tier);
  const exemption = exemptionOf(policy, context, tier);
  if (exemption !== undefined) {
    selecting.exemptions.push({ policy: policy.id, exemption: exemption.name });
    if (trace) for (const rule of policy.rules) trace(policy, rule, { kind: 'exempt', exemption: exemption.name });
    return;
  }
  const inHand: PolicyInHand = {
    policy,
    tier,
    health: effectiveHealth(policy.healths, tier, nowMicros),
    overrides: activeOverrides(policy.overrides, context, nowMicros),
  };
  selecting.positions.clear();
  const first = rules.length;
  for (const rule of policy.rules) {
    const note = selectRule(selecting, inHand, rule);
    if (trace) trace(policy, rule, note);
  }
  if (policy.penalty !== undefined) governBy(selecting, policy, policy.penalty, first);
}

/** A penalty governs the enforced rules of its policy, where there are any. */
function governBy(selecting: Selecting, policy: IndexedPolicy, penalty: CompiledPenalty, first: number): void {
  const { rules } = selecting;
  if (!rules.slice(first).some((rule) => rule.group === 0)) return;
  const selected = selectPenalty(selecting, policy, penalty);
  if (selected === undefined) return;
  const index = selecting.penalties.push(selected) - 1;
  for (let i = first; i < rules.length; i += 1) {
    const rule = rules[i];
    if (rule !== undefined && rule.group === 0) rules[i] = { ...rule, penalty: index };
  }
}

const APPLIES: RuleNote = { kind: 'applies' };
const CANNOT_RUN: RuleNote = { kind: 'cannot-run' };

function selectRule(selecting: Selecting, inHand: PolicyInHand, rule: IndexedRule): RuleNote {
  const { context, positions, rules } = selecting;
  const { policy, tier } = inHand;
  const matched = matches(rule.matcher, context, tier);
  if (matched.kind === 'not-matched') return matched;
  const parts = partsOf(rule, context, matched);
  if ('missing' in parts) {
    selecting.missing.push({ policy: policy.id, rule: rule.name, input: parts.missing });
    return { kind: 'input-missing', input: parts.missing };
  }
  const override = overrideFor(inHand.overrides, rule.name);
  const subject = subjectOf(parts);
  const group = groupOf(inHand, rule, subject);
  if (override !== undefined && group === 0) {
    const note = applyOverride(selecting, policy, rule, override);
    if (note !== undefined) return note;
  }
  const after = conditionsOf(selecting, rule, group);
  if (after === 'never') return CANNOT_RUN;
  const limits = limitsFor(context, inHand, rule, { subject, override });
  if (limits.length === 0) return { kind: 'no-limits', tier };
  positions.set(rule.name, rules.length);
  rules.push({
    policy: policy.id,
    rule: rule.name,
    group,
    penalty: undefined,
    throttled: rule.throttled,
    cost: costOf(rule, context),
    isShown: rule.isShown,
    failurePolicy: rule.failurePolicy,
    after,
    limits,
  });
  return APPLIES;
}

function partsOf(
  rule: IndexedRule,
  context: RequestContext,
  matched: Exclude<MatchResult, { kind: 'not-matched' }>,
): readonly string[] | { readonly missing: string } {
  return matched.kind === 'matched' ? axisValues(rule.countBy, context, matched.route) : { missing: matched.input };
}

/** In shadow by itself, or because this subject is not among those for which it is enforced yet. */
function groupOf({ policy: { index } }: PolicyInHand, rule: IndexedRule, subject: string): number {
  if (rule.group !== 0) return index * GROUPS_PER_POLICY + rule.group;
  if (rule.enforcePercent === 100 || stableShare(subject) < rule.enforcePercent) return 0;
  return index * GROUPS_PER_POLICY + rule.shadowGroup;
}

/** Notes what an override does; returns why the rule is not selected, if so. */
function applyOverride(
  selecting: Selecting,
  policy: IndexedPolicy,
  rule: IndexedRule,
  override: OverrideDocument,
): RuleNote | undefined {
  const { name, action, reason, expiresAtMicros } = override;
  const applied = { policy: policy.id, rule: rule.name, override: name, action, reason, expiresAtMicros };
  selecting.overrides.push(applied);
  if (action === 'Block' && expiresAtMicros > (selecting.blockedBy?.expiresAtMicros ?? 0))
    selecting.blockedBy = applied;
  return action === 'Block' || action === 'Exempt' ? { kind: 'overridden', override: name, action } : undefined;
}

/** The tier by which a policy serves a request that is of this one, or of none. */
export function tierFor(policy: IndexedPolicy, asked: string | undefined): string | undefined {
  return asked !== undefined && policy.tiers.has(asked) ? asked : (policy.defaultTier ?? asked);
}

function exemptionOf(
  policy: IndexedPolicy,
  context: RequestContext,
  tier: string | undefined,
): IndexedExemption | undefined {
  for (const exemption of policy.exemptions) {
    if (matches(exemption.matcher, context, tier).kind === 'matched') return exemption;
  }
  return undefined;
}

/** What a request takes: a trusted header or a trusted caller may say more than is usual, up to a bound. */
function costOf({ cost }: IndexedRule, context: RequestContext): number {
  const header = cost.header !== undefined && context.hasTrustedHeaders ? context.headers?.get(cost.header) : undefined;
  const said = header === undefined ? context.cost : wholeNumber(header);
  return said === undefined ? cost.default : Math.min(Math.max(said, cost.default), cost.max);
}

function wholeNumber(text: string): number | undefined {
  return /^[0-9]{1,15}$/.test(text) ? Number(text) : undefined;
}

/**
 * What is left of a rule's conditions once it is known which rules apply: one that does not, or that is in another group,
 * is NotMatched for good. `never` if the rule cannot run. A rule that runs for good keeps the denials that it waits for.
 */
function conditionsOf(
  { positions, rules }: Selecting,
  rule: IndexedRule,
  group: number,
): SelectedRule['after'] | 'never' {
  if (rule.after.length === 0) return [];
  const open: { rule: number; outcome: 'Admitted' | 'Denied' | 'NotRun' }[] = [];
  let isSure = false;
  for (const condition of rule.after) {
    const position = positions.get(condition.rule);
    if (position === undefined || rules[position]?.group !== group) isSure ||= condition.outcome === 'NotMatched';
    else open.push({ rule: position, outcome: condition.outcome === 'NotMatched' ? 'NotRun' : condition.outcome });
  }
  if (!isSure) return open.length === 0 ? 'never' : open;
  const denials = open.filter(({ outcome }) => outcome === 'Denied');
  return denials.length === 0 ? [] : [{ rule: rules.length, outcome: 'NotRun' }, ...denials];
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
  return { policy: policy.id, subject: subjectOf([policy.id, ...parts]), text: subjectText(policy.id, parts), penalty };
}

function limitsFor(
  { negotiated }: RequestContext,
  { policy, tier, health }: PolicyInHand,
  rule: IndexedRule,
  { subject, override }: { readonly subject: string; readonly override: OverrideDocument | undefined },
): SelectedLimit[] {
  const own = limitsOf(rule.limits, tier);
  // A rule that has nothing for this tier does not apply: no agreement and no override makes it.
  if (own.length === 0) return [];
  const agreed = negotiated?.find((one) => one.rule === rule.name && one.policy === policy.id)?.limits;
  const limits: readonly LimitNumbers[] = override?.action === 'Replace' ? override.limits : (agreed ?? own);
  return limits.map((limit) => ({
    ...effectiveLimit(limit, rule.algorithm, health, override),
    policy: policy.id,
    rule: rule.name,
    algorithm: rule.algorithm,
    subject,
    field: rule.fieldFor(limit.windowSeconds),
    tier,
    mode: health.mode,
    modeUntilMicros: health.untilMicros,
  }));
}

function limitsOf(limits: IndexedRule['limits'], tier: string | undefined): readonly CompiledLimit[] {
  if (Array.isArray(limits)) return limits;
  return tier !== undefined && Object.hasOwn(limits, tier) ? (limits[tier] ?? []) : [];
}
