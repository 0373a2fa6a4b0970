import type { RuleOutcome, SelectedLimit, SelectedRule, Selection } from './select.ts';
import type { Algorithm } from './schema/rate-limit-policy.ts';
import type { HealthMode } from './schema/system-health.ts';

export type Action = 'ALLOW' | 'THROTTLE' | 'BLOCK';

export type Reason =
  | 'WITHIN_LIMIT'
  | 'EXEMPT'
  | 'NO_POLICY'
  | 'OVERRIDE_EXEMPT'
  | 'OVERRIDE_BLOCK'
  | 'IP_BLOCKED'
  | 'UNKNOWN_DOMAIN'
  | 'IDENTITY_MISSING'
  | 'FAIL_OPEN'
  | 'LOCAL_FALLBACK'
  | 'LOCAL_FALLBACK_EXCEEDED'
  | 'FAIL_CLOSED'
  | 'IDENTITY_UNAVAILABLE'
  | 'PENALTY_WARN'
  | 'SHADOW_DENIED'
  | 'PENALTY_THROTTLE'
  | 'PENALTY_TEMP_BLOCK'
  | 'PENALTY_BLOCK'
  | 'RATE_LIMIT_EXCEEDED'
  | 'DEGRADED_SHED'
  | 'COST_EXCEEDS_LIMIT'
  | 'INVALID_API_KEY';

export type TriggeredBy =
  | 'RateLimit'
  | 'Exemption'
  | 'PenaltyFSM'
  | 'Override'
  | 'FailurePolicy'
  | 'IPBlock'
  | 'Authentication';

export type PenaltyState = 'NORMAL' | 'WARN' | 'THROTTLE' | 'TEMP_BLOCK' | 'BLOCK';

/** The answer to one request, and the numbers of the limit that it speaks of. Times are in microseconds. */
export type Decision = {
  readonly action: Action;
  readonly reason: Reason;
  readonly triggeredBy: TriggeredBy;
  /** When the same request would pass if nobody else asked; undefined if it passed, or never will. */
  readonly retryAfterMicros: number | undefined;
  /** The worst penalty that is heard, as it was before this request; NORMAL without one. */
  readonly penalty: PenaltyState;
  /** Rules in shadow that would have denied the request, as `policy/rule`. */
  readonly shadowDenied: readonly string[];
  /** The tightest limit, or the one that denied; undefined if no limit applied. */
  readonly reported: ReportedLimit | undefined;
  /**
   * All limits that applied and may be spoken of: the reported one, then the others that deny, then the tightest. Only
   * for requests that ask for them, and where there is a reported one.
   */
  readonly shown?: readonly ShownLimit[] | undefined;
};

export type ReportedLimit = {
  readonly policy: string;
  readonly rule: string;
  readonly algorithm: Algorithm;
  readonly windowSeconds: number;
  readonly limit: number;
  readonly remaining: number;
  readonly resetAfterMicros: number;
  readonly tier: string | undefined;
  readonly mode: HealthMode;
};

export type ShownLimit = ReportedLimit & {
  /** Whether it alone would deny the request. */
  readonly isExceeded: boolean;
};

/** What the decision script says of one limit. */
export type LimitOutcome = {
  readonly remaining: number;
  /** 0 = it admits, -1 = it never will at these limits. */
  readonly retryAfterMicros: number;
  readonly resetAfterMicros: number;
};

/** What is told to a client whose limit is shed by an incident without a known end. */
const SHED_RETRY_MICROS = 30_000_000;

export const NO_POLICY: Decision = unlimited('NO_POLICY', 'RateLimit');
export const FAIL_OPEN: Decision = unlimited('FAIL_OPEN', 'FailurePolicy');
/** No rule applied, or none that limits this tier. */
const NOTHING_APPLIES: Decision = unlimited('WITHIN_LIMIT', 'RateLimit');
/** Every policy of the domain leaves the request alone. */
export const EXEMPT: Decision = unlimited('EXEMPT', 'Exemption');
const OVERRIDE_EXEMPT: Decision = unlimited('OVERRIDE_EXEMPT', 'Override');
export const UNKNOWN_DOMAIN: Decision = { ...unlimited('UNKNOWN_DOMAIN', 'Authentication'), action: 'BLOCK' };
export const IDENTITY_MISSING: Decision = { ...unlimited('IDENTITY_MISSING', 'Authentication'), action: 'BLOCK' };
export const LOCAL_FALLBACK: Decision = unlimited('LOCAL_FALLBACK', 'FailurePolicy');
export const INVALID_API_KEY: Decision = { ...unlimited('INVALID_API_KEY', 'Authentication'), action: 'BLOCK' };

/** A client that tries API keys, for so many microseconds more. */
export function blockedIP(retryAfterMicros: number): Decision {
  return { ...unlimited('IP_BLOCKED', 'IPBlock'), action: 'BLOCK', retryAfterMicros };
}

/** What an override, or that nothing applies, says before any counter is asked; undefined if the counters decide. */
export function decideWithoutCounters(selection: Selection, nowMicros: number): Decision | undefined {
  const { blockedBy } = selection;
  if (blockedBy !== undefined) {
    const retryAfterMicros = Math.max(1, blockedBy.expiresAtMicros - nowMicros);
    return { ...unlimited('OVERRIDE_BLOCK', 'Override'), action: 'BLOCK', retryAfterMicros };
  }
  return selection.rules.length === 0 ? withExemptions(selection, NOTHING_APPLIES) : undefined;
}

/** An allowed request says first that a part of what limits others left it alone. */
export function withExemptions(selection: Selection, decision: Decision): Decision {
  if (decision.action !== 'ALLOW') return decision;
  const exempt = selection.overrides.some(({ action }) => action === 'Exempt')
    ? OVERRIDE_EXEMPT
    : selection.exemptions.length > 0
      ? EXEMPT
      : undefined;
  return exempt === undefined ? decision : { ...decision, reason: exempt.reason, triggeredBy: exempt.triggeredBy };
}

/** A denial by a failure policy, which ends after so many microseconds at the earliest. */
export function deniedByFailurePolicy(
  reason: 'FAIL_CLOSED' | 'LOCAL_FALLBACK_EXCEEDED',
  retryAfterMicros: number | undefined,
): Decision {
  return { ...unlimited(reason, 'FailurePolicy'), action: 'THROTTLE', retryAfterMicros };
}

function unlimited(reason: Reason, triggeredBy: TriggeredBy): Decision {
  return {
    action: 'ALLOW',
    reason,
    triggeredBy,
    retryAfterMicros: undefined,
    penalty: 'NORMAL',
    shadowDenied: [],
    reported: undefined,
  };
}

/** What the decision script says of a request; rules and penalties in the order of the selection. */
export type Verdict = {
  readonly code: 'admitted' | 'denied' | 'blocked';
  /** When the whole request would pass; 0 = now, -1 = never at these limits. */
  readonly retryAfterMicros: number;
  /** It would have passed but for the percentage that a penalty leaves. */
  readonly byThrottle: boolean;
  readonly penalties: readonly PenaltyOutcome[];
  readonly rules: readonly { readonly outcome: RuleOutcome; readonly limits: readonly LimitOutcome[] }[];
};

export type PenaltyOutcome = {
  readonly before: PenaltyState;
  readonly after: PenaltyState;
  /** 0 while NORMAL, -1 = never by itself. */
  readonly endsInMicros: number;
  readonly violations: number;
};

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
  const penalty = worstPenalty(selection, verdict);
  const shadowDenied = selection.rules
    .filter((rule, index) => rule.group !== 0 && verdict.rules[index]?.outcome === 'Denied')
    .map((rule) => `${rule.policy}/${rule.rule}`);
  const common = { penalty, shadowDenied };
  const decision = { ...common, ...coreOf(selection, verdict, nowMicros, common) };
  // Most callers are told of one limit: they do not pay for the others.
  const told =
    needsAllLimits && decision.reported !== undefined
      ? { ...decision, shown: shownWith(decision.reported, selection, verdict) }
      : decision;
  return verdict.code === 'admitted' ? withExemptions(selection, told) : told;
}

function coreOf(
  selection: Selection,
  verdict: Verdict,
  nowMicros: number,
  known: Pick<Decision, 'penalty' | 'shadowDenied'>,
): Core {
  switch (verdict.code) {
    case 'admitted':
      return admitted(selection, verdict, known);
    case 'blocked':
      return blocked(verdict, known.penalty);
    case 'denied':
      return denied(selection, verdict, nowMicros);
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
    ...others.map((one) => ({ ...report(one), isExceeded: isExceeded(one) })),
  ];
}

type Core = Omit<Decision, 'penalty' | 'shadowDenied'>;

const STATES: readonly PenaltyState[] = ['NORMAL', 'WARN', 'THROTTLE', 'TEMP_BLOCK', 'BLOCK'];

function worstPenalty(selection: Selection, verdict: Verdict): PenaltyState {
  const heard = verdict.penalties.filter((_, index) => selection.penalties[index]?.penalty.enforced === true);
  return STATES[Math.max(0, ...heard.map(({ before }) => STATES.indexOf(before)))] ?? 'NORMAL';
}

function admitted(selection: Selection, verdict: Verdict, known: Pick<Decision, 'penalty' | 'shadowDenied'>): Core {
  // A forgiven denial has nothing left, and says nothing about when this client will be limited.
  const shown = judgedBy(selection, verdict, 'Admitted').filter((one) => one.isShown);
  const [first] = shown;
  const isWarned = known.penalty !== 'NORMAL';
  const reason = isWarned ? 'PENALTY_WARN' : known.shadowDenied.length > 0 ? 'SHADOW_DENIED' : 'WITHIN_LIMIT';
  return {
    action: 'ALLOW',
    reason,
    triggeredBy: isWarned ? 'PenaltyFSM' : 'RateLimit',
    retryAfterMicros: undefined,
    reported: first === undefined ? undefined : report(shown.reduce(tighter, first)),
  };
}

function blocked(verdict: Verdict, penalty: PenaltyState): Core {
  return {
    action: 'BLOCK',
    reason: penalty === 'BLOCK' ? 'PENALTY_BLOCK' : 'PENALTY_TEMP_BLOCK',
    triggeredBy: 'PenaltyFSM',
    retryAfterMicros: verdict.retryAfterMicros < 0 ? undefined : verdict.retryAfterMicros,
    reported: undefined,
  };
}

function denied(selection: Selection, verdict: Verdict, nowMicros: number): Core {
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
    reported: longest === undefined || !longest.isShown ? undefined : report(longest),
  };
}

/** The limits of enforced rules with a certain outcome, as they were for this request. */
function judgedBy(selection: Selection, verdict: Verdict, wanted: RuleOutcome): Judged[] {
  return selection.rules.flatMap((rule, index) => {
    const said = verdict.rules[index];
    if (rule.group !== 0 || said?.outcome !== wanted) return [];
    const percent = percentLeft(rule, selection, verdict);
    return rule.limits.flatMap((limit, position) => {
      const outcome = said.limits[position];
      return outcome === undefined
        ? []
        : [
            {
              limit: percent === 100 ? limit : cut(limit, percent),
              outcome,
              cost: rule.cost,
              isShown: rule.isShown,
            },
          ];
    });
  });
}

/** What a penalty in THROTTLE leaves of a rule's limits. */
function percentLeft(rule: SelectedRule, selection: Selection, verdict: Verdict): number {
  if (rule.penalty === undefined || !rule.throttled) return 100;
  const { penalty } = selection.penalties[rule.penalty] ?? {};
  if (penalty?.enforced !== true || verdict.penalties[rule.penalty]?.before !== 'THROTTLE') return 100;
  return penalty.throttle?.limitPercent ?? 100;
}

/** As the script cuts it: at least 1 is left, but of nothing. */
function cut(limit: SelectedLimit, percent: number): SelectedLimit {
  const capacity = limit.capacity === 0 ? 0 : Math.max(1, Math.floor((limit.capacity * percent) / 100));
  return { ...limit, capacity };
}

/** Microseconds until this limit admits, Infinity = never. */
function waitOf({ limit, outcome, cost }: Judged, nowMicros: number): number {
  if (outcome.retryAfterMicros >= 0) return outcome.retryAfterMicros;
  if (cost > limit.normalCapacity) return Number.POSITIVE_INFINITY;
  // Only the incident, or a penalty, is in the way: it would fit otherwise.
  const end = limit.modeUntilMicros;
  return end === undefined ? SHED_RETRY_MICROS : Math.max(1, end - nowMicros);
}

/** The limit with the smaller part left; of equals the first. */
function tighter(one: Judged, other: Judged): Judged {
  const left = one.outcome.remaining * other.limit.capacity;
  const right = other.outcome.remaining * one.limit.capacity;
  return right < left ? other : one;
}

function report({ limit, outcome }: Judged): ReportedLimit {
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
