import type { RuleOutcome, Selection } from './selection.ts';
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
