import type { SelectedLimit } from './select.ts';
import type { Algorithm } from './schema/rate-limit-policy.ts';
import type { HealthMode } from './schema/system-health.ts';

export type Action = 'ALLOW' | 'THROTTLE' | 'BLOCK';

export type Reason =
  | 'WITHIN_LIMIT'
  | 'NO_POLICY'
  | 'FAIL_OPEN'
  | 'RATE_LIMIT_EXCEEDED'
  | 'DEGRADED_SHED'
  | 'COST_EXCEEDS_LIMIT'
  | 'INVALID_API_KEY';

export type TriggeredBy = 'RateLimit' | 'FailurePolicy' | 'Authentication';

/** The answer to one request, and the numbers of the limit that it speaks of. Times are in microseconds. */
export type Decision = {
  readonly action: Action;
  readonly reason: Reason;
  readonly triggeredBy: TriggeredBy;
  /** When the same request would pass if nobody else asked; undefined if it passed, or never will. */
  readonly retryAfterMicros: number | undefined;
  /** The tightest limit, or the one that denied; undefined if no limit applied. */
  readonly reported: ReportedLimit | undefined;
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
export const NOTHING_APPLIES: Decision = unlimited('WITHIN_LIMIT', 'RateLimit');
export const INVALID_API_KEY: Decision = { ...unlimited('INVALID_API_KEY', 'Authentication'), action: 'BLOCK' };

function unlimited(reason: Reason, triggeredBy: TriggeredBy): Decision {
  return { action: 'ALLOW', reason, triggeredBy, retryAfterMicros: undefined, reported: undefined };
}

/** The decision over the limits of a request, from what the script said of each; both in the same order. */
export function decideOver(
  limits: readonly SelectedLimit[],
  outcomes: readonly LimitOutcome[],
  request: { readonly cost: number; readonly nowMicros: number },
): Decision {
  const judged = limits.map((limit, index) => judge(limit, outcomes[index], request));
  const denied = judged.filter((one) => one.waitMicros > 0);
  const first = judged[0];
  if (first === undefined) return NOTHING_APPLIES;
  if (denied.length === 0) {
    return {
      action: 'ALLOW',
      reason: 'WITHIN_LIMIT',
      triggeredBy: 'RateLimit',
      retryAfterMicros: undefined,
      reported: report(judged.reduce(tighter, first)),
    };
  }
  const longest = denied.reduce((one, other) => (other.waitMicros > one.waitMicros ? other : one));
  return {
    action: 'THROTTLE',
    reason: denied.some((one) => one.waitMicros === Number.POSITIVE_INFINITY)
      ? 'COST_EXCEEDS_LIMIT'
      : denied.some((one) => one.limit.capacity === 0)
        ? 'DEGRADED_SHED'
        : 'RATE_LIMIT_EXCEEDED',
    triggeredBy: 'RateLimit',
    retryAfterMicros: Number.isFinite(longest.waitMicros) ? longest.waitMicros : undefined,
    reported: report(longest),
  };
}

type Judged = {
  readonly limit: SelectedLimit;
  readonly outcome: LimitOutcome;
  /** 0 = admitted, Infinity = never. */
  readonly waitMicros: number;
};

function judge(
  limit: SelectedLimit,
  outcome: LimitOutcome | undefined,
  request: { readonly cost: number; readonly nowMicros: number },
): Judged {
  if (outcome === undefined) throw new RangeError('an outcome is missing');
  if (outcome.retryAfterMicros >= 0) return { limit, outcome, waitMicros: outcome.retryAfterMicros };
  if (request.cost > limit.normalCapacity) return { limit, outcome, waitMicros: Number.POSITIVE_INFINITY };
  // Only the incident is in the way: it would fit while NORMAL.
  const end = limit.modeUntilMicros;
  return { limit, outcome, waitMicros: end === undefined ? SHED_RETRY_MICROS : Math.max(1, end - request.nowMicros) };
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
