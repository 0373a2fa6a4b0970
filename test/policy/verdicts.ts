// Limits, rules and penalties of a request with what the decision script may say of them, for tests of decisions.
import { decideOver } from '../../policy/decide-over.ts';
import {
  type Decision,
  type LimitOutcome,
  type PenaltyOutcome,
  type PenaltyState,
  type Verdict,
} from '../../policy/decision.ts';
import type { RuleOutcome, SelectedLimit, SelectedPenalty, SelectedRule, Selection } from '../../policy/selection.ts';
import { aRule } from '../harness/plain.ts';

export const NOW = 1_780_000_000_000_000;
export const SECOND = 1_000_000;

export function aSelectedLimit(limit: Partial<SelectedLimit> = {}): SelectedLimit {
  const capacity = limit.capacity ?? 10;
  return {
    policy: 'payments/limits',
    rule: 'per-consumer',
    algorithm: 'TokenBucket',
    subject: 'subject',
    field: 'field',
    windowSeconds: 60,
    capacity,
    refill: capacity,
    normalCapacity: capacity,
    normalRefill: capacity,
    tier: undefined,
    mode: 'NORMAL',
    modeUntilMicros: undefined,
    ...limit,
  };
}

/** What an incident left of a limit. */
export const degraded = (capacity: number, normalCapacity: number, modeUntilMicros?: number): SelectedLimit =>
  aSelectedLimit({ mode: 'DEGRADED', capacity, normalCapacity, modeUntilMicros });

export const admits = (remaining: number): LimitOutcome => ({
  remaining,
  retryAfterMicros: 0,
  resetAfterMicros: SECOND,
});
export const denies = (seconds: number): LimitOutcome => ({
  remaining: 0,
  retryAfterMicros: seconds * SECOND,
  resetAfterMicros: 60 * SECOND,
});
/** It never admits this cost at these numbers. */
export const NEVER: LimitOutcome = { remaining: 0, retryAfterMicros: -1, resetAfterMicros: 60 * SECOND };

export type Judged = readonly [SelectedLimit, LimitOutcome];

/** One rule and what became of it. */
export type JudgedRule = {
  readonly rule: SelectedRule;
  readonly outcome: RuleOutcome;
  readonly limits: readonly LimitOutcome[];
};

/** A rule of one limit, which has the name of the rule. */
export function aJudgedRule(
  outcome: RuleOutcome,
  [limit, said]: Judged,
  overrides: Partial<SelectedRule> = {},
): JudgedRule {
  const rule = aRule([{ ...limit, rule: overrides.rule ?? limit.rule }], {
    policy: limit.policy,
    rule: limit.rule,
    ...overrides,
  });
  return { rule, outcome, limits: outcome === 'NotRun' ? [] : [said] };
}

/** A penalty that is in a state. */
export type JudgedPenalty = { readonly penalty: SelectedPenalty; readonly outcome: PenaltyOutcome };

export function aJudgedPenalty(before: PenaltyState, { enforced = true, after = before } = {}): JudgedPenalty {
  const penalty = {
    enforced,
    countBy: ['consumer'],
    tolerancePercent: 100,
    violationWindowSeconds: 600,
    minSecondsPerStep: 10,
  };
  return {
    penalty: { policy: 'payments/limits', subject: 'subject', text: 'consumer=key:acme', penalty },
    outcome: { before, after, endsInMicros: SECOND, violations: 1 },
  };
}

type Situation = {
  readonly rules?: readonly JudgedRule[];
  readonly penalties?: readonly JudgedPenalty[];
  readonly verdict: Partial<Verdict> & Pick<Verdict, 'code'>;
  readonly cost?: number;
};

/** The decision on a request of which the script said so. */
export function decideOn({ rules = [], penalties = [], verdict, cost }: Situation, needsAllLimits = false): Decision {
  const selection: Selection = {
    rules: rules.map(({ rule }) => (cost === undefined ? rule : { ...rule, cost })),
    penalties: penalties.map(({ penalty }) => penalty),
    missing: [],
    exemptions: [],
    overrides: [],
    blockedBy: undefined,
  };
  const whole: Verdict = {
    retryAfterMicros: 0,
    byThrottle: false,
    penalties: penalties.map(({ outcome }) => outcome),
    rules: rules.map(({ outcome, limits }) => ({ outcome, limits })),
    ...verdict,
  };
  return decideOver(selection, whole, NOW, needsAllLimits);
}

/** The decision where each limit is that of an enforced rule of its own, and none is forgiven. */
export function decide(judged: readonly Judged[], cost = 1): Decision {
  const waits = judged.map(([, outcome]) => outcome.retryAfterMicros);
  const code = waits.every((wait) => wait === 0) ? 'admitted' : 'denied';
  const retryAfterMicros = waits.includes(-1) ? -1 : Math.max(0, ...waits);
  const rules = judged.map((one) => aJudgedRule(one[1].retryAfterMicros === 0 ? 'Admitted' : 'Denied', one));
  return decideOn({ rules, verdict: { code, retryAfterMicros }, cost });
}
