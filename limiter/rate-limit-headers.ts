import type { Decision, ReportedLimit } from '../policy/decision.ts';
import type { Algorithm } from '../policy/schema/rate-limit-policy.ts';

/**
 * How clients are told of their limits:
 * - `x-ratelimit`: X-RateLimit-Limit, -Remaining, -Reset (seconds since 1970) and -Strategy
 * - `x-ratelimit-delta`: the same, with Reset in seconds from now
 * - `x-ratelimit-draft-03`: as Envoy does it: Limit names the windows, Reset in seconds from now
 * - `ietf`: RateLimit and RateLimit-Policy of draft-ietf-httpapi-ratelimit-headers-11
 */
export const HEADER_FAMILIES = ['x-ratelimit', 'x-ratelimit-delta', 'x-ratelimit-draft-03', 'ietf'] as const;
export type HeaderFamily = (typeof HEADER_FAMILIES)[number];

export const isHeaderFamily = (text: string): text is HeaderFamily => HEADER_FAMILIES.some((family) => family === text);

export const STRATEGIES = {
  TokenBucket: 'token_bucket',
  SlidingWindow: 'sliding_window',
  SlidingWindowLog: 'sliding_window_log',
} as const satisfies Record<Algorithm, string>;

/** Whole seconds, rounded up: whoever waits so long does not come too early. */
export const wholeSeconds = (micros: number): number => Math.ceil(micros / 1_000_000);

/**
 * The headers of an answer to a client, in lower case, and Retry-After on a denial that ends. `nowMicros` is the time by
 * which X-RateLimit-Reset is given.
 */
export function rateLimitHeaders(
  decision: Decision,
  families: readonly HeaderFamily[],
  nowMicros: number,
): Record<string, string> {
  const headers: Record<string, string> = {};
  const { reported, retryAfterMicros } = decision;
  if (reported !== undefined) {
    for (const family of families) addFamily(headers, family, { reported, decision, nowMicros });
  }
  if (retryAfterMicros !== undefined) headers['retry-after'] = String(wholeSeconds(retryAfterMicros));
  return headers;
}

type Told = { readonly reported: ReportedLimit; readonly decision: Decision; readonly nowMicros: number };

function addFamily(headers: Record<string, string>, family: HeaderFamily, told: Told): void {
  const { reported, decision, nowMicros } = told;
  switch (family) {
    case 'x-ratelimit':
      addClassic(headers, reported, wholeSeconds(nowMicros + reported.resetAfterMicros));
      break;
    case 'x-ratelimit-delta':
      addClassic(headers, reported, wholeSeconds(reported.resetAfterMicros));
      break;
    case 'x-ratelimit-draft-03':
      addClassic(headers, reported, wholeSeconds(reported.resetAfterMicros));
      headers['x-ratelimit-limit'] =
        `${reported.limit}, ${reported.limit};w=${reported.windowSeconds};name="${reported.rule}"`;
      break;
    case 'ietf':
      addItems(headers, reported, decision);
      break;
  }
}

/** One item for each limit, the reported one first; a name stands for one limit. */
function addItems(headers: Record<string, string>, reported: ReportedLimit, decision: Decision): void {
  const limits: readonly ReportedLimit[] = decision.shown ?? [reported];
  const policies = new Map<string, string>();
  const items: string[] = [];
  for (const [at, limit] of limits.entries()) {
    const isAlone = limits.every((other, position) => position === at || other.rule !== limit.rule);
    const name = isAlone ? limit.rule : `${limit.rule}-${limit.windowSeconds}`;
    if (policies.has(name)) continue;
    policies.set(name, `"${name}";q=${limit.limit};w=${limit.windowSeconds}`);
    const until = at === 0 ? untilMore(limit, decision) : `;t=${wholeSeconds(limit.resetAfterMicros)}`;
    items.push(`"${name}";r=${limit.remaining}${until}`);
  }
  headers['ratelimit-policy'] = [...policies.values()].join(', ');
  headers['ratelimit'] = items.join(', ');
}

function addClassic(headers: Record<string, string>, reported: ReportedLimit, reset: number): void {
  headers['x-ratelimit-limit'] = String(reported.limit);
  headers['x-ratelimit-remaining'] = String(reported.remaining);
  headers['x-ratelimit-reset'] = String(reset);
  headers['x-ratelimit-strategy'] = STRATEGIES[reported.algorithm];
}

/** The time in which no more than what remains may be used; on a denial it is Retry-After, and absent if that is. */
function untilMore(reported: ReportedLimit, { action, retryAfterMicros }: Decision): string {
  const micros = action === 'ALLOW' ? reported.resetAfterMicros : retryAfterMicros;
  return micros === undefined ? '' : `;t=${wholeSeconds(micros)}`;
}
