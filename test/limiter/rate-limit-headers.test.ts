import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type HeaderFamily, rateLimitHeaders } from '../../limiter/rate-limit-headers.ts';
import type { Decision, ReportedLimit } from '../../policy/decision.ts';
import { parseList } from '../harness/structured-fields.ts';

const NOW = 1_800_000_000_250_000;

const reported: ReportedLimit = {
  policy: 'payments/api',
  rule: 'per-consumer',
  algorithm: 'SlidingWindowLog',
  windowSeconds: 60,
  limit: 10,
  remaining: 3,
  resetAfterMicros: 1_000_001,
  tier: undefined,
  mode: 'NORMAL',
};

const allowed: Decision = {
  action: 'ALLOW',
  reason: 'WITHIN_LIMIT',
  triggeredBy: 'RateLimit',
  retryAfterMicros: undefined,
  penalty: 'NORMAL',
  shadowDenied: [],
  reported,
};

const denied: Decision = {
  ...allowed,
  action: 'THROTTLE',
  reason: 'RATE_LIMIT_EXCEEDED',
  retryAfterMicros: 5_000_001,
  reported: { ...reported, remaining: 0 },
};

const headersOf = (decision: Decision, ...families: HeaderFamily[]): Record<string, string> =>
  rateLimitHeaders(decision, families, NOW);

describe('the headers of', () => {
  it.each<[HeaderFamily, Record<string, string>]>([
    [
      'x-ratelimit',
      {
        'x-ratelimit-limit': '10',
        'x-ratelimit-remaining': '3',
        // 1,800,000,001.250001, rounded up.
        'x-ratelimit-reset': '1800000002',
        'x-ratelimit-strategy': 'sliding_window_log',
      },
    ],
    [
      'x-ratelimit-delta',
      {
        'x-ratelimit-limit': '10',
        'x-ratelimit-remaining': '3',
        'x-ratelimit-reset': '2',
        'x-ratelimit-strategy': 'sliding_window_log',
      },
    ],
    [
      'x-ratelimit-draft-03',
      {
        'x-ratelimit-limit': '10, 10;w=60;name="per-consumer"',
        'x-ratelimit-remaining': '3',
        'x-ratelimit-reset': '2',
        'x-ratelimit-strategy': 'sliding_window_log',
      },
    ],
    ['ietf', { 'ratelimit-policy': '"per-consumer";q=10;w=60', ratelimit: '"per-consumer";r=3;t=2' }],
  ])('the family %s', (family, headers) => {
    expect(headersOf(allowed, family)).toEqual(headers);
  });

  it('a denial say with one number when to come back, rounded up', () => {
    expect(headersOf(denied, 'ietf')).toEqual({
      'ratelimit-policy': '"per-consumer";q=10;w=60',
      ratelimit: '"per-consumer";r=0;t=6',
      'retry-after': '6',
    });
  });

  it('a denial for ever have no time to come back', () => {
    const never = { ...denied, reason: 'COST_EXCEEDS_LIMIT', retryAfterMicros: undefined } as const;
    expect(headersOf(never, 'ietf')).toEqual({
      'ratelimit-policy': '"per-consumer";q=10;w=60',
      ratelimit: '"per-consumer";r=0',
    });
  });

  it('several limits are an item each, and windows of one rule have different names', () => {
    const shown = [
      { ...reported, isExceeded: false },
      { ...reported, windowSeconds: 3_600, limit: 100, remaining: 90, resetAfterMicros: 60_000_000, isExceeded: false },
      { ...reported, rule: 'all', limit: 50, remaining: 49, isExceeded: false },
    ];
    expect(headersOf({ ...allowed, shown }, 'ietf')).toEqual({
      'ratelimit-policy': '"per-consumer-60";q=10;w=60, "per-consumer-3600";q=100;w=3600, "all";q=50;w=60',
      ratelimit: '"per-consumer-60";r=3;t=2, "per-consumer-3600";r=90;t=60, "all";r=49;t=2',
    });
  });

  it('a decision without a limit are none, but Retry-After', () => {
    expect(headersOf({ ...allowed, reported: undefined }, 'ietf', 'x-ratelimit')).toEqual({});
    expect(headersOf({ ...denied, reported: undefined }, 'ietf', 'x-ratelimit')).toEqual({ 'retry-after': '6' });
  });

  it('no family are Retry-After alone', () => {
    expect(headersOf(denied)).toEqual({ 'retry-after': '6' });
    expect(headersOf(allowed)).toEqual({});
  });
});

describe('the IETF fields', () => {
  const label = fc.stringMatching(/^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/);
  const limit = fc.record({
    rule: label,
    windowSeconds: fc.integer({ min: 1, max: 86_400 }),
    limit: fc.integer({ min: 0, max: 9_007_199_254 }),
    remaining: fc.integer({ min: 0, max: 9_007_199_254 }),
    resetAfterMicros: fc.integer({ min: 0, max: 200_000_000_000 }),
  });

  it('are valid structured fields, whatever the numbers are, and agree with each other', () => {
    fc.assert(
      fc.property(limit, fc.option(fc.integer({ min: 1, max: 1e14 }), { nil: undefined }), (numbers, wait) => {
        const decision = {
          ...(wait === undefined ? allowed : { ...denied, retryAfterMicros: wait }),
          reported: { ...reported, ...numbers },
        };
        const headers = headersOf(decision, 'ietf');
        const [policy, ...morePolicies] = parseList(headers['ratelimit-policy'] ?? '');
        const [state, ...moreStates] = parseList(headers['ratelimit'] ?? '');
        expect([morePolicies, moreStates]).toEqual([[], []]);
        expect(policy?.value).toBe(numbers.rule);
        expect(state?.value).toBe(numbers.rule);
        expect(policy?.parameters).toEqual(
          new Map([
            ['q', numbers.limit],
            ['w', numbers.windowSeconds],
          ]),
        );
        const t = Math.ceil((wait ?? numbers.resetAfterMicros) / 1_000_000);
        expect(state?.parameters).toEqual(
          new Map([
            ['r', numbers.remaining],
            ['t', t],
          ]),
        );
        expect(headers['retry-after']).toBe(wait === undefined ? undefined : String(t));
      }),
      { numRuns: 1_000 },
    );
  });
});

describe('the reader of structured fields in these tests', () => {
  it.each(['', '"a" ;q=1', '"a";q=1.5', '"a";q=1234567890123456', '"ü";q=1', '"a";Q=1', '"a";q=1,', 'a;q="'])(
    'is strict: %s',
    (field) => {
      expect(() => parseList(field)).toThrow(SyntaxError);
    },
  );
});
