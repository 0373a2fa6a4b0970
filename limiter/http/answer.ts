import type { Decision } from '../../policy/decision.ts';
import type { Algorithm } from '../../policy/schema/rate-limit-policy.ts';
import type { CheckResult } from '../check.ts';

/** What a server writes: status, headers, and a body that is JSON text. */
export type HttpAnswer = {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
};

const JSON_TYPE = { 'content-type': 'application/json' };
const PROBLEM_TYPE = { 'content-type': 'application/problem+json' };

const STRATEGIES = {
  TokenBucket: 'token_bucket',
  SlidingWindow: 'sliding_window',
  SlidingWindowLog: 'sliding_window_log',
} as const satisfies Record<Algorithm, string>;

/** Seconds to the microsecond, for those who compute; null where there is nothing to say. */
const exactSeconds = (micros: number | undefined): number | null => (micros === undefined ? null : micros / 1_000_000);

/** Whole seconds, rounded up: whoever waits so long does not come too early. */
export const wholeSeconds = (micros: number): number => Math.ceil(micros / 1_000_000);

/** The answer of POST /v1/decision/check. */
export function decisionAnswer(result: CheckResult, requestId: string): HttpAnswer {
  const { decision, revision } = result;
  const { reported } = decision;
  const body = {
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
  return { status: 200, headers: { ...JSON_TYPE, 'x-request-id': requestId }, body: JSON.stringify(body) };
}

/** The answer of POST /check. `nowMicros` is the time by which reset_at is given. */
export function plainAnswer(result: CheckResult, requestId: string, nowMicros: number): HttpAnswer {
  const { decision } = result;
  const allowed = decision.action === 'ALLOW';
  const limit = decision.reported?.limit ?? null;
  const retryAfter = decision.retryAfterMicros === undefined ? null : wholeSeconds(decision.retryAfterMicros);
  const resetAt = decision.reported === undefined ? null : wholeSeconds(nowMicros + decision.reported.resetAfterMicros);
  const headers = { ...JSON_TYPE, 'x-request-id': requestId, ...limitHeaders(decision, nowMicros) };
  if (!allowed) {
    const detail = { allowed, retry_after: retryAfter, reset_at: resetAt, limit };
    return { status: 429, headers, body: JSON.stringify({ detail }) };
  }
  const tokens = decision.reported?.remaining ?? null;
  const body = { allowed, tokens_remaining: tokens, reset_at: resetAt, limit, retry_after: retryAfter };
  return { status: 200, headers, body: JSON.stringify(body) };
}

/** X-RateLimit-* with Reset in epoch seconds, and Retry-After on a denial that ends. */
export function limitHeaders(decision: Decision, nowMicros: number): Record<string, string> {
  const headers: Record<string, string> = {};
  const { reported, retryAfterMicros } = decision;
  if (reported !== undefined) {
    headers['x-ratelimit-limit'] = String(reported.limit);
    headers['x-ratelimit-remaining'] = String(reported.remaining);
    headers['x-ratelimit-reset'] = String(wholeSeconds(nowMicros + reported.resetAfterMicros));
    headers['x-ratelimit-strategy'] = STRATEGIES[reported.algorithm];
  }
  if (retryAfterMicros !== undefined) headers['retry-after'] = String(wholeSeconds(retryAfterMicros));
  return headers;
}

export type ProblemDetails = {
  readonly status: number;
  readonly code: string;
  readonly title: string;
  readonly detail: string;
  readonly errors?: readonly { readonly field: string; readonly reason: string; readonly message: string }[];
};

/** RFC 9457. `code` is stable; `type` stays about:blank, as no page describes it. */
export function problemAnswer(problem: ProblemDetails, requestId: string): HttpAnswer {
  const { status, title, ...rest } = problem;
  const body = { type: 'about:blank', title, status, ...rest, request_id: requestId };
  return { status, headers: { ...PROBLEM_TYPE, 'x-request-id': requestId }, body: JSON.stringify(body) };
}

export function jsonAnswer(status: number, body: unknown, requestId: string): HttpAnswer {
  return { status, headers: { ...JSON_TYPE, 'x-request-id': requestId }, body: JSON.stringify(body) };
}
