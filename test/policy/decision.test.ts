import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { FAIL_OPEN, INVALID_API_KEY, NO_POLICY } from '../../policy/decision.ts';
import {
  admits,
  aJudgedPenalty,
  aJudgedRule,
  aSelectedLimit,
  decide,
  decideOn,
  degraded,
  denies,
  type Judged,
  NEVER,
  NOW,
  SECOND,
} from './verdicts.ts';

describe('a decision without limits', () => {
  it('allows, and reports no limit', () => {
    expect(decide([])).toMatchObject({ action: 'ALLOW', reason: 'WITHIN_LIMIT', triggeredBy: 'RateLimit' });
    expect(NO_POLICY).toMatchObject({ action: 'ALLOW', reason: 'NO_POLICY', reported: undefined });
    expect(FAIL_OPEN).toMatchObject({ action: 'ALLOW', reason: 'FAIL_OPEN', triggeredBy: 'FailurePolicy' });
    expect(INVALID_API_KEY).toMatchObject({
      action: 'BLOCK',
      reason: 'INVALID_API_KEY',
      triggeredBy: 'Authentication',
    });
  });
});

describe('a request that every limit admits', () => {
  it('is allowed, with nothing to wait for', () => {
    expect(decide([[aSelectedLimit(), admits(9)]])).toMatchObject({
      action: 'ALLOW',
      reason: 'WITHIN_LIMIT',
      triggeredBy: 'RateLimit',
      retryAfterMicros: undefined,
    });
  });

  it.each([
    [
      'the smaller part left, not the smaller number',
      [
        [10, 6],
        [1_000, 500],
      ],
      1,
    ],
    [
      'the smaller part left in the other order',
      [
        [1_000, 500],
        [10, 6],
      ],
      0,
    ],
    [
      'the one with nothing left',
      [
        [5, 5],
        [5, 0],
        [5, 1],
      ],
      1,
    ],
    [
      'the first of equals',
      [
        [10, 5],
        [100, 50],
      ],
      0,
    ],
    ['the only one', [[7, 3]], 0],
  ] as [string, [number, number][], number][])('reports the tightest limit: %s', (_title, limits, tightest) => {
    const { reported } = decide(
      limits.map(([capacity, remaining], index) => [
        aSelectedLimit({ capacity, rule: `r${index}` }),
        admits(remaining),
      ]),
    );
    expect(reported?.rule).toBe(`r${tightest}`);
  });

  it('has all numbers of that limit reported', () => {
    const limit = aSelectedLimit({
      rule: 'r',
      algorithm: 'SlidingWindow',
      tier: 'pro',
      windowSeconds: 30,
      capacity: 20,
    });
    expect(decide([[limit, admits(7)]]).reported).toEqual({
      policy: 'payments/limits',
      rule: 'r',
      algorithm: 'SlidingWindow',
      windowSeconds: 30,
      limit: 20,
      remaining: 7,
      resetAfterMicros: SECOND,
      tier: 'pro',
      mode: 'NORMAL',
    });
  });
});

describe('a request that some limit denies', () => {
  it('is throttled, and waits as long as the slowest of those', () => {
    const slow = aSelectedLimit({ rule: 'slow' });
    const fast = aSelectedLimit({ rule: 'fast' });
    for (const judged of [
      [
        [fast, denies(3)],
        [slow, denies(5)],
      ],
      [
        [slow, denies(5)],
        [fast, denies(3)],
      ],
      [
        [aSelectedLimit(), admits(1)],
        [slow, denies(5)],
        [fast, denies(3)],
      ],
    ] as Judged[][]) {
      expect(decide(judged)).toMatchObject({
        action: 'THROTTLE',
        reason: 'RATE_LIMIT_EXCEEDED',
        retryAfterMicros: 5 * SECOND,
        reported: { rule: 'slow' },
      });
    }
  });

  it('has a limit that denied reported, however little is left of one that admitted', () => {
    const { reported } = decide([
      [aSelectedLimit({ rule: 'admits' }), admits(0)],
      [aSelectedLimit({ rule: 'denies' }), denies(1)],
    ]);
    expect(reported?.rule).toBe('denies');
  });

  it('may have a single microsecond to wait', () => {
    const outcome = { ...denies(0), retryAfterMicros: 1 };
    expect(decide([[aSelectedLimit(), outcome]])).toMatchObject({ action: 'THROTTLE', retryAfterMicros: 1 });
  });
});

describe('a request that costs more than a limit ever holds', () => {
  it('is told so, and not to try again', () => {
    expect(decide([[aSelectedLimit({ capacity: 10 }), NEVER]], 11)).toMatchObject({
      action: 'THROTTLE',
      reason: 'COST_EXCEEDS_LIMIT',
      retryAfterMicros: undefined,
      reported: { limit: 10 },
    });
  });

  it('is told so while DEGRADED too, as the end of the incident will not help', () => {
    expect(decide([[degraded(0, 10, NOW + SECOND), NEVER]], 11)).toMatchObject({
      reason: 'COST_EXCEEDS_LIMIT',
      retryAfterMicros: undefined,
    });
  });
});

describe('a limit that an incident shed', () => {
  it('is tried again at the end of the incident', () => {
    expect(decide([[degraded(0, 10, NOW + 90 * SECOND), NEVER]])).toMatchObject({
      action: 'THROTTLE',
      reason: 'DEGRADED_SHED',
      retryAfterMicros: 90 * SECOND,
      reported: { limit: 0, mode: 'DEGRADED' },
    });
  });

  it('is tried again after 30 seconds if the end is not known', () => {
    expect(decide([[degraded(0, 10), NEVER]])).toMatchObject({
      reason: 'DEGRADED_SHED',
      retryAfterMicros: 30 * SECOND,
    });
  });

  it('never has a wait that is over, even if the incident ended on the way', () => {
    expect(decide([[degraded(0, 10, NOW - SECOND), NEVER]])).toMatchObject({ action: 'THROTTLE', retryAfterMicros: 1 });
  });
});

describe('a cost that fits while NORMAL, but not while DEGRADED', () => {
  it('waits for the end of the incident, as any other limit', () => {
    expect(decide([[degraded(2, 10, NOW + 5 * SECOND), NEVER]], 3)).toMatchObject({
      reason: 'RATE_LIMIT_EXCEEDED',
      retryAfterMicros: 5 * SECOND,
    });
  });
});

describe('the reason of a denial', () => {
  const exceeded: Judged = [aSelectedLimit({ capacity: 100 }), denies(1_000)];
  const shed: Judged = [degraded(0, 100), NEVER];
  const tooLarge: Judged = [aSelectedLimit({ capacity: 5 }), NEVER];
  const fine: Judged = [aSelectedLimit({ capacity: 100 }), admits(50)];

  it.each([
    ['COST_EXCEEDS_LIMIT', [exceeded, shed, tooLarge]],
    ['COST_EXCEEDS_LIMIT', [exceeded, tooLarge]],
    ['COST_EXCEEDS_LIMIT', [shed, tooLarge, fine]],
    ['DEGRADED_SHED', [exceeded, shed]],
    ['DEGRADED_SHED', [fine, shed]],
    ['RATE_LIMIT_EXCEEDED', [fine, exceeded]],
  ] as [string, Judged[]][])('is the first by precedence, in whatever order the limits come: %s', (reason, judged) => {
    const shuffled = fc.shuffledSubarray(judged, { minLength: judged.length });
    fc.assert(
      fc.property(shuffled, (some) => {
        expect(decide(some, 10).reason).toBe(reason);
      }),
    );
  });
});

describe('outcomes that do not fit the selection', () => {
  const rules = [aJudgedRule('Admitted', [aSelectedLimit(), admits(1)])];

  it('are an error, never an allowance', () => {
    expect(() => decideOn({ rules, verdict: { code: 'admitted', rules: [] } })).toThrow(RangeError);
    const penalties = [aJudgedPenalty('TEMP_BLOCK')];
    expect(() => decideOn({ rules, penalties, verdict: { code: 'admitted', penalties: [] } })).toThrow(RangeError);
  });
});
