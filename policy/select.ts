import type { CompiledLimit, CompiledPenalty, HealthDocument, LimitNumbers, OverrideDocument } from './documents.ts';
import { effectiveLimit } from './effective-limits.ts';
import { stableShare, subjectOf } from './hash.ts';
import { type EffectiveHealth, effectiveHealth } from './health.ts';
import { matches, type MatchResult, type RequestFacts } from './match.ts';
import { activeOverrides, overrideFor } from './override.ts';
import type {
  AppliedOverride,
  RequestContext,
  RuleNote,
  SelectedLimit,
  SelectedPenalty,
  SelectedRule,
  Selection,
  SelectionTrace,
} from './selection.ts';
import {
  type DomainIndex,
  type IndexedExemption,
  type IndexedPolicy,
  type IndexedRule,
  policiesFor,
} from './snapshot.ts';
import { axisValues, subjectText } from './subject.ts';

/** What rules are selected by besides the request and the policies of its domain. */
export type Surroundings = {
  /** Those of the whole configuration. */
  readonly healths: readonly HealthDocument[];
  /** For explanations. */
  readonly onRule?: SelectionTrace | undefined;
};

/** What is known of the request and of the selection while it is made. */
type Selecting = {
  readonly context: RequestContext;
  readonly nowMicros: number;
  readonly healths: readonly HealthDocument[];
  readonly trace: SelectionTrace | undefined;
  /** Whether a penalty governs one is known when all of its policy are there. */
  readonly rules: (Omit<SelectedRule, 'penalty'> & { penalty: number | undefined })[];
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
  /** Where its rules begin in what is selected. */
  readonly first: number;
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
  { healths, onRule: trace }: Surroundings,
): Selection {
  const selecting: Selecting = {
    context,
    nowMicros,
    healths,
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
  const policies = trace === undefined ? policiesFor(domain, context.path) : domain.policies;
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
  for (const policy of policiesFor(domain, facts.path)) {
    if (isExemptForAnyone(policy, facts)) isExempt = true;
    else if (policy.rules.some((rule) => matches(rule.matcher, facts).kind !== 'not-matched')) return false;
  }
  return isExempt;
}

function isExemptForAnyone({ exemptions }: IndexedPolicy, facts: RequestFacts): boolean {
  return exemptions.some((one) => !one.needsIdentity && matches(one.matcher, facts).kind === 'matched');
}

function selectOfPolicy(selecting: Selecting, policy: IndexedPolicy): void {
  const { context, nowMicros, healths, rules, trace } = selecting;
  const tier = tierFor(policy, context.tier);
  const exemption = exemptionOf(policy, context, tier);
  if (exemption !== undefined) {
    selecting.exemptions.push({ policy: policy.id, exemption: exemption.name });
    if (trace) for (const rule of policy.rules) trace(policy, rule, { kind: 'exempt', exemption: exemption.name });
    return;
  }
  const first = rules.length;
  const inHand: PolicyInHand = {
    policy,
    first,
    tier,
    health: effectiveHealth(healths, policy.document, tier, nowMicros),
    overrides: activeOverrides(policy.overrides, context, nowMicros),
  };
  selecting.positions.clear();
  for (const rule of policy.rules) {
    const note = selectRule(selecting, inHand, rule);
    if (trace) trace(policy, rule, note);
  }
  if (policy.penalty !== undefined) governBy(selecting, policy, policy.penalty, first);
}

/** A penalty governs the enforced rules of its policy, where there are any. */
function governBy(selecting: Selecting, policy: IndexedPolicy, penalty: CompiledPenalty, first: number): void {
  const { rules, penalties } = selecting;
  let selected: SelectedPenalty | undefined;
  for (let i = first; i < rules.length; i += 1) {
    const rule = rules[i];
    if (rule === undefined || rule.group !== 0) continue;
    selected ??= selectPenalty(selecting, policy, penalty);
    if (selected === undefined) return;
    rule.penalty = penalties.length;
  }
  if (selected !== undefined) penalties.push(selected);
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
function groupOf({ first }: PolicyInHand, rule: IndexedRule, subject: string): number {
  if (rule.group !== 0) return first * GROUPS_PER_POLICY + rule.group;
  if (rule.enforcePercent === 100 || stableShare(subject) < rule.enforcePercent) return 0;
  return first * GROUPS_PER_POLICY + rule.shadowGroup;
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
