// From what the script said to the decision: what is denied and why, when it would pass, and which limits are spoken of.
import {
  type Decision,
  type LimitOutcome,
  type PenaltyState,
  type ReportedLimit,
  type ShownLimit,
  type Verdict,
  withExemptions,
} from './decision.ts';
import type { RuleOutcome, SelectedLimit, SelectedRule, Selection } from './selection.ts';

/** What is told to a client whose limit is shed by an incident without a known end. */
const SHED_RETRY_MICROS = 30_000_000;

type Judged = {
  readonly limit: SelectedLimit;
  readonly outcome: LimitOutcome;
  readonly cost: number;
  readonly isShown: boolean;
};

/**
 * The decision on a request, from what the script said of its rules; with all limits that it may speak of if
 * `needsAllLimits`. Throws RangeError if the script spoke of other rules.
 */
export function decideOver(
  selection: Selection,
  verdict: Verdict,
  nowMicros: number,
  needsAllLimits = false,
): Decision {
  if (verdict.rules.length !== selection.rules.length || verdict.penalties.length !== selection.penalties.length) {
    throw new RangeError('the verdict is not one on this selection');
  }
  const known = { penalty: worstPenalty(selection, verdict), shadowDenied: shadowDenials(selection, verdict) };
  const decision = ruledOver(selection, verdict, nowMicros, known);
  // Most callers are told of one limit: they do not pay for the others.
  const told =
    needsAllLimits && decision.reported !== undefined
      ? { ...decision, shown: shownWith(decision.reported, selection, verdict) }
      : decision;
  return verdict.code === 'admitted' ? withExemptions(selection, told) : told;
}

/** What is told whatever the verdict. */
type Known = Pick<Decision, 'penalty' | 'shadowDenied'>;

function ruledOver(selection: Selection, verdict: Verdict, nowMicros: number, known: Known): Decision {
  switch (verdict.code) {
    case 'admitted':
      return admitted(selection, verdict, known);
    case 'blocked':
      return blocked(verdict, known);
    case 'denied':
      return denied(selection, verdict, nowMicros, known);
  }
}

/** The reported limit and all others that may be spoken of. A forgiven denial says nothing about this client. */
function shownWith(reported: ReportedLimit, selection: Selection, verdict: Verdict): ShownLimit[] {
  const isReported = ({ limit }: Judged): boolean =>
    limit.policy === reported.policy && limit.rule === reported.rule && limit.windowSeconds === reported.windowSeconds;
  const isExceeded = ({ outcome }: Judged): boolean => outcome.retryAfterMicros !== 0;
  const others = [...judgedBy(selection, verdict, 'Denied'), ...judgedBy(selection, verdict, 'Admitted')]
    .filter((one) => one.isShown && !isReported(one))
    .toSorted(
      (one, other) =>
        Number(isExceeded(other)) - Number(isExceeded(one)) ||
        one.outcome.remaining * other.limit.capacity - other.outcome.remaining * one.limit.capacity,
    );
  return [
    { ...reported, isExceeded: verdict.code === 'denied' },
    ...others.map((one) => ({ ...report(one.limit, one.outcome), isExceeded: isExceeded(one) })),
  ];
}

const STATES: readonly PenaltyState[] = ['NORMAL', 'WARN', 'THROTTLE', 'TEMP_BLOCK', 'BLOCK'];

function worstPenalty({ penalties }: Selection, verdict: Verdict): PenaltyState {
  let worst = 0;
  for (let i = 0; i < penalties.length; i += 1) {
    const before = verdict.penalties[i]?.before;
    if (before !== undefined && penalties[i]?.penalty.enforced === true)
      worst = Math.max(worst, STATES.indexOf(before));
  }
  return STATES[worst] ?? 'NORMAL';
}

const NONE: readonly string[] = [];

function shadowDenials({ rules }: Selection, verdict: Verdict): readonly string[] {
  // Hardly a request has any: no list is made for those.
  let denials: string[] | undefined;
  for (let i = 0; i < rules.length; i += 1) {
    const rule = rules[i];
    if (rule === undefined || rule.group === 0 || verdict.rules[i]?.outcome !== 'Denied') continue;
    (denials ??= []).push(`${rule.policy}/${rule.rule}`);
  }
  return denials ?? NONE;
}

function admitted(selection: Selection, verdict: Verdict, { penalty, shadowDenied }: Known): Decision {
  const isWarned = penalty !== 'NORMAL';
  return {
    action: 'ALLOW',
    reason: isWarned ? 'PENALTY_WARN' : shadowDenied.length > 0 ? 'SHADOW_DENIED' : 'WITHIN_LIMIT',
    triggeredBy: isWarned ? 'PenaltyFSM' : 'RateLimit',
    retryAfterMicros: undefined,
    penalty,
    shadowDenied,
    reported: tightestOf(selection, verdict),
  };
}

/**
 * The shown limit of which the smallest part is left; of equals the first. A forgiven denial has nothing left, and says
 * nothing about when this client will be limited. Written as a loop: every admitted request comes through here.
 */
function tightestOf(selection: Selection, verdict: Verdict): ReportedLimit | undefined {
  const { rules } = selection;
  let tightest: SelectedLimit | undefined;
  let said: LimitOutcome | undefined;
  for (let i = 0; i < rules.length; i += 1) {
    const rule = rules[i];
    const judged = verdict.rules[i];
    if (rule === undefined || rule.group !== 0 || !rule.isShown || judged?.outcome !== 'Admitted') continue;
    const percent = percentLeft(rule, selection, verdict);
    for (let n = 0; n < rule.limits.length; n += 1) {
      const whole = rule.limits[n];
      const outcome = judged.limits[n];
      if (whole === undefined || outcome === undefined) continue;
      const limit = percent === 100 ? whole : { ...whole, capacity: cut(whole.capacity, percent) };
      const isTighter =
        tightest === undefined ||
        said === undefined ||
        outcome.remaining * tightest.capacity < said.remaining * limit.capacity;
      if (isTighter) [tightest, said] = [limit, outcome];
    }
  }
  return tightest === undefined || said === undefined ? undefined : report(tightest, said);
}

function blocked(verdict: Verdict, known: Known): Decision {
  return {
    action: 'BLOCK',
    reason: known.penalty === 'BLOCK' ? 'PENALTY_BLOCK' : 'PENALTY_TEMP_BLOCK',
    triggeredBy: 'PenaltyFSM',
    retryAfterMicros: verdict.retryAfterMicros < 0 ? undefined : verdict.retryAfterMicros,
    penalty: known.penalty,
    shadowDenied: known.shadowDenied,
    reported: undefined,
  };
}

function denied(selection: Selection, verdict: Verdict, nowMicros: number, known: Known): Decision {
  const judged = judgedBy(selection, verdict, 'Denied').filter((one) => one.outcome.retryAfterMicros !== 0);
  // A limit that never admits does not matter where the request passes once another rule forgives it.
  const passesOnce = verdict.retryAfterMicros >= 0;
  const waits = judged.map((one) => waitOf(one, nowMicros));
  const heard = passesOnce ? waits.filter(Number.isFinite) : waits;
  const longestWait = Math.max(...heard);
  const longest = judged[waits.indexOf(longestWait)];
  const isNever = longestWait === Number.POSITIVE_INFINITY;
  const retryAfter = passesOnce ? verdict.retryAfterMicros : isNever ? undefined : longestWait;
  const reason = isNever
    ? 'COST_EXCEEDS_LIMIT'
    : judged.some((one) => one.limit.capacity === 0)
      ? 'DEGRADED_SHED'
      : verdict.byThrottle
        ? 'PENALTY_THROTTLE'
        : 'RATE_LIMIT_EXCEEDED';
  return {
    action: 'THROTTLE',
    reason,
    triggeredBy: reason === 'PENALTY_THROTTLE' ? 'PenaltyFSM' : 'RateLimit',
    retryAfterMicros: retryAfter,
    penalty: known.penalty,
    shadowDenied: known.shadowDenied,
    reported: longest === undefined || !longest.isShown ? undefined : report(longest.limit, longest.outcome),
  };
}

/** The limits of enforced rules with a certain outcome, as they were for this request. */
function judgedBy(selection: Selection, verdict: Verdict, wanted: RuleOutcome): Judged[] {
  const judged: Judged[] = [];
  selection.rules.forEach((rule, index) => {
    const said = verdict.rules[index];
    if (rule.group !== 0 || said?.outcome !== wanted) return;
    const { cost, isShown } = rule;
    const percent = percentLeft(rule, selection, verdict);
    rule.limits.forEach((whole, position) => {
      const outcome = said.limits[position];
      if (outcome === undefined) return;
      const limit = percent === 100 ? whole : { ...whole, capacity: cut(whole.capacity, percent) };
      judged.push({ limit, outcome, cost, isShown });
    });
  });
  return judged;
}

/** What a penalty in THROTTLE leaves of a rule's limits, in percent. */
export function percentLeft(
  rule: SelectedRule,
  { penalties }: Pick<Selection, 'penalties'>,
  verdict: Pick<Verdict, 'penalties'>,
): number {
  if (rule.penalty === undefined || !rule.throttled) return 100;
  const { penalty } = penalties[rule.penalty] ?? {};
  if (penalty?.enforced !== true || verdict.penalties[rule.penalty]?.before !== 'THROTTLE') return 100;
  return penalty.throttle?.limitPercent ?? 100;
}

/** A number of a limit as the script cuts it: at least 1 is left, but of nothing. */
export function cut(value: number, percent: number): number {
  return value === 0 ? 0 : Math.max(1, Math.floor((value * percent) / 100));
}

/** Microseconds until this limit admits, Infinity = never. */
function waitOf({ limit, outcome, cost }: Judged, nowMicros: number): number {
  if (outcome.retryAfterMicros >= 0) return outcome.retryAfterMicros;
  if (cost > limit.normalCapacity) return Number.POSITIVE_INFINITY;
  // Only the incident, or a penalty, is in the way: it would fit otherwise.
  const end = limit.modeUntilMicros;
  return end === undefined ? SHED_RETRY_MICROS : Math.max(1, end - nowMicros);
}

function report(limit: SelectedLimit, outcome: LimitOutcome): ReportedLimit {
  return {
    policy: limit.policy,
    rule: limit.rule,
    algorithm: limit.algorithm,
    windowSeconds: limit.windowSeconds,
    limit: limit.capacity,
    remaining: outcome.remaining,
    resetAfterMicros: outcome.resetAfterMicros,
    tier: limit.tier,
    mode: limit.mode,
  };
}
