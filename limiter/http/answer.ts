import type { Decision } from '../../policy/decision.ts';
import type { CheckResult } from '../check.ts';
import { type HeaderFamily, rateLimitHeaders, STRATEGIES, wholeSeconds } from '../rate-limit-headers.ts';

/** What a server writes: status, headers, and a body that is JSON text. */
export type HttpAnswer = {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
};

const JSON_TYPE = { 'content-type': 'application/json' };
const PROBLEM_TYPE = { 'content-type': 'application/problem+json' };

/** Seconds to the microsecond, for those who compute; null where there is nothing to say. */
const exactSeconds = (micros: number | undefined): number | null => (micros === undefined ? null : micros / 1_000_000);

/** The body of a decision, as POST /v1/decision/check and each item of a batch say it. */
export function decisionBody(result: CheckResult, requestId: string): Readonly<Record<string, unknown>> {
  const { decision, revision } = result;
  const { reported } = decision;
  return {
    action: decision.action,
    allowed: decision.action === 'ALLOW',
    reason: decision.reason,
    triggered_by: decision.triggeredBy,
    retry_after: exactSeconds(decision.retryAfterMicros),
    limit: reported?.limit ?? null,
    remaining: reported?.remaining ?? null,
    reset_after: exactSeconds(reported?.resetAfterMicros),
    window_seconds: reported?.windowSeconds ?? null,
    strategy: reported === undefined ? null : STRATEGIES[reported.algorithm],
    tier: reported?.tier ?? result.tier ?? null,
    mode: reported?.mode ?? null,
    policy: reported?.policy ?? null,
    rule: reported?.rule ?? null,
    penalty: decision.penalty,
    shadow: decision.shadowDenied,
    revision,
    request_id: requestId,
  };
}

/** How POST /check words its answers. */
export type PlainForm = {
  readonly requestId: string;
  /** The time by which reset_at is given. */
  readonly nowMicros: number;
  readonly families: readonly HeaderFamily[];
};

/** The answer of POST /check. */
export function plainAnswer({ decision }: CheckResult, { requestId, nowMicros, families }: PlainForm): HttpAnswer {
  const allowed = decision.action === 'ALLOW';
  const limit = decision.reported?.limit ?? null;
  const retryAfter = decision.retryAfterMicros === undefined ? null : wholeSeconds(decision.retryAfterMicros);
  const resetAt = decision.reported === undefined ? null : wholeSeconds(nowMicros + decision.reported.resetAfterMicros);
  const headers = { ...JSON_TYPE, 'x-request-id': requestId, ...rateLimitHeaders(decision, families, nowMicros) };
  if (!allowed) {
    const detail = { allowed, retry_after: retryAfter, reset_at: resetAt, limit };
    return { status: statusOfDenial(decision), headers, body: JSON.stringify({ detail }) };
  }
  const tokens = decision.reported?.remaining ?? null;
  const body = { allowed, tokens_remaining: tokens, reset_at: resetAt, limit, retry_after: retryAfter };
  return { status: 200, headers, body: JSON.stringify(body) };
}

/** 401 where it is not known who asks, else 429. */
export function statusOfDenial({ reason }: Pick<Decision, 'reason'>): 401 | 429 {
  return UNAUTHENTICATED.has(reason) ? 401 : 429;
}

/** Reasons that say that the caller did not show who it is. */
const UNAUTHENTICATED: ReadonlySet<string> = new Set(['INVALID_API_KEY', 'IDENTITY_MISSING']);

export type ProblemDetails = {
  readonly status: number;
  readonly code: string;
  readonly title: string;
  readonly detail: string;
  /** Default: about:blank, as no page describes it. */
  readonly type?: string;
  readonly errors?: readonly { readonly field: string; readonly reason: string; readonly message: string }[];
};

/** RFC 9457. `code` is stable. */
export function problemAnswer(problem: ProblemDetails, requestId: string, extra: object = {}): HttpAnswer {
  const { status, title, type = 'about:blank', ...rest } = problem;
  const body = { type, title, status, ...rest, ...extra, request_id: requestId };
  return { status, headers: { ...PROBLEM_TYPE, 'x-request-id': requestId }, body: JSON.stringify(body) };
}

export function jsonAnswer(status: number, body: unknown, requestId: string): HttpAnswer {
  return { status, headers: { ...JSON_TYPE, 'x-request-id': requestId }, body: JSON.stringify(body) };
}
