// Decisions where rules forgive each other, are in shadow, or are governed by penalties.
import { describe, expect, it } from 'vitest';
import type { PenaltyState } from '../../policy/decision.ts';
import {
  admits,
  aJudgedPenalty,
  aJudgedRule,
  aSelectedLimit,
  decideOn,
  degraded,
  denies,
  type Judged,
  type JudgedRule,
  NEVER,
  NOW,
  SECOND,
} from './verdicts.ts';

const fine: Judged = [aSelectedLimit({ capacity: 100 }), admits(50)];
const exceeded: Judged = [aSelectedLimit(), denies(5)];
const shed: Judged = [degraded(0, 10, NOW + 90 * SECOND), NEVER];
const tooLarge: Judged = [aSelectedLimit({ capacity: 5 }), NEVER];

const admitted = (name = 'admits'): JudgedRule => aJudgedRule('Admitted', fine, { rule: name });
const shadow = (name: string, group = 1): JudgedRule => aJudgedRule('Denied', exceeded, { rule: name, group });

describe('a request of somebody who is punished', () => {
  it.each(['WARN', 'THROTTLE'] as const)('is allowed with a warning in %s, if no limit denies it', (state) => {
    const penalties = [aJudgedPenalty(state)];
    expect(decideOn({ rules: [admitted()], penalties, verdict: { code: 'admitted' } })).toMatchObject({
      action: 'ALLOW',
      reason: 'PENALTY_WARN',
      triggeredBy: 'PenaltyFSM',
      penalty: state,
      retryAfterMicros: undefined,
      reported: { rule: 'admits', remaining: 50 },
    });
  });

  it('is allowed as any other in NORMAL', () => {
    const penalties = [aJudgedPenalty('NORMAL')];
    expect(decideOn({ rules: [admitted()], penalties, verdict: { code: 'admitted' } })).toMatchObject({
      reason: 'WITHIN_LIMIT',
      triggeredBy: 'RateLimit',
      penalty: 'NORMAL',
    });
  });

  it.each([
    ['TEMP_BLOCK', 'PENALTY_TEMP_BLOCK'],
    ['BLOCK', 'PENALTY_BLOCK'],
  ] as const)('is blocked in %s until that ends, and no limit is told', (state, reason) => {
    const rules = [aJudgedRule('NotRun', fine)];
    const penalties = [aJudgedPenalty(state)];
    expect(decideOn({ rules, penalties, verdict: { code: 'blocked', retryAfterMicros: 7 * SECOND } })).toEqual({
      action: 'BLOCK',
      reason,
      triggeredBy: 'PenaltyFSM',
      retryAfterMicros: 7 * SECOND,
      penalty: state,
      shadowDenied: [],
      reported: undefined,
    });
  });

  it('is not told to try again in a BLOCK that only a pardon ends', () => {
    const rules = [aJudgedRule('NotRun', fine)];
    const verdict = { code: 'blocked', retryAfterMicros: -1 } as const;
    expect(decideOn({ rules, penalties: [aJudgedPenalty('BLOCK')], verdict })).toMatchObject({
      reason: 'PENALTY_BLOCK',
      retryAfterMicros: undefined,
    });
  });

  it('is told of THROTTLE if that is what denied it', () => {
    const rules = [aJudgedRule('Denied', exceeded, { rule: 'denies' })];
    const verdict = { code: 'denied', retryAfterMicros: 5 * SECOND, byThrottle: true } as const;
    expect(decideOn({ rules, penalties: [aJudgedPenalty('THROTTLE')], verdict })).toMatchObject({
      action: 'THROTTLE',
      reason: 'PENALTY_THROTTLE',
      triggeredBy: 'PenaltyFSM',
      penalty: 'THROTTLE',
      retryAfterMicros: 5 * SECOND,
      reported: { rule: 'denies' },
    });
  });

  it('is told of the limit if the whole of it would have denied as well', () => {
    const rules = [aJudgedRule('Denied', exceeded)];
    const verdict = { code: 'denied', retryAfterMicros: 5 * SECOND, byThrottle: false } as const;
    expect(decideOn({ rules, penalties: [aJudgedPenalty('THROTTLE')], verdict })).toMatchObject({
      reason: 'RATE_LIMIT_EXCEEDED',
      triggeredBy: 'RateLimit',
      penalty: 'THROTTLE',
    });
  });

  it('has the state before it told, not the one that it led to', () => {
    const rules = [aJudgedRule('Denied', exceeded)];
    const penalties = [aJudgedPenalty('NORMAL', { after: 'TEMP_BLOCK' })];
    const verdict = { code: 'denied', retryAfterMicros: 60 * SECOND } as const;
    expect(decideOn({ rules, penalties, verdict })).toMatchObject({
      action: 'THROTTLE',
      reason: 'RATE_LIMIT_EXCEEDED',
      penalty: 'NORMAL',
      retryAfterMicros: 60 * SECOND,
    });
  });

  it.each([
    [['NORMAL', 'WARN'], 'WARN'],
    [['THROTTLE', 'WARN'], 'THROTTLE'],
    [['NORMAL', 'NORMAL'], 'NORMAL'],
  ] as [PenaltyState[], PenaltyState][])('in several policies, %j, is told the worst: %s', (states, worst) => {
    const penalties = states.map((state) => aJudgedPenalty(state));
    expect(decideOn({ rules: [admitted()], penalties, verdict: { code: 'admitted' } }).penalty).toBe(worst);
  });

  it.each([
    [['BLOCK', 'TEMP_BLOCK'], 'PENALTY_BLOCK'],
    [['TEMP_BLOCK', 'BLOCK'], 'PENALTY_BLOCK'],
    [['TEMP_BLOCK', 'THROTTLE'], 'PENALTY_TEMP_BLOCK'],
  ] as [PenaltyState[], string][])('in several policies, %j, is blocked by the worst: %s', (states, reason) => {
    const penalties = states.map((state) => aJudgedPenalty(state));
    expect(decideOn({ penalties, verdict: { code: 'blocked' } }).reason).toBe(reason);
  });
});

describe('a penalty in shadow', () => {
  const inState = (state: PenaltyState) => aJudgedPenalty(state, { enforced: false });

  it.each(['WARN', 'THROTTLE', 'TEMP_BLOCK', 'BLOCK'] as const)('is not heard in %s', (state) => {
    const verdict = { code: 'admitted' } as const;
    expect(decideOn({ rules: [admitted()], penalties: [inState(state)], verdict })).toMatchObject({
      action: 'ALLOW',
      reason: 'WITHIN_LIMIT',
      triggeredBy: 'RateLimit',
      penalty: 'NORMAL',
    });
  });

  it('does not drown an enforced one, nor blame it for worse', () => {
    const penalties = [inState('BLOCK'), aJudgedPenalty('WARN')];
    const verdict = { code: 'admitted' } as const;
    expect(decideOn({ rules: [admitted()], penalties, verdict })).toMatchObject({
      reason: 'PENALTY_WARN',
      penalty: 'WARN',
    });
    const blocked = {
      penalties: [inState('BLOCK'), aJudgedPenalty('TEMP_BLOCK')],
      verdict: { code: 'blocked' },
    } as const;
    expect(decideOn(blocked).reason).toBe('PENALTY_TEMP_BLOCK');
  });
});

describe('a rule in shadow', () => {
  it('that denies is told, and the request is allowed', () => {
    const rules = [shadow('one'), admitted(), shadow('two', 2)];
    expect(decideOn({ rules, verdict: { code: 'admitted' } })).toMatchObject({
      action: 'ALLOW',
      reason: 'SHADOW_DENIED',
      triggeredBy: 'RateLimit',
      shadowDenied: ['payments/limits/one', 'payments/limits/two'],
      reported: { rule: 'admits' },
    });
  });

  it.each(['Admitted', 'Forgiven', 'NotRun'] as const)('that was %s is not told as a denial', (outcome) => {
    const rules = [aJudgedRule(outcome, fine, { rule: 'shadow', group: 1 })];
    expect(decideOn({ rules, verdict: { code: 'admitted' } })).toMatchObject({
      reason: 'WITHIN_LIMIT',
      shadowDenied: [],
    });
  });

  it('is never the limit that is reported, however tight', () => {
    const tight: Judged = [aSelectedLimit(), admits(0)];
    const rules = [aJudgedRule('Admitted', tight, { rule: 'shadow', group: 1 }), admitted()];
    expect(decideOn({ rules, verdict: { code: 'admitted' } }).reported?.rule).toBe('admits');
    expect(decideOn({ rules: [shadow('alone')], verdict: { code: 'admitted' } }).reported).toBeUndefined();
  });

  it('that denies is told beside a denial, and gives neither its reason nor its wait', () => {
    const never = aJudgedRule('Denied', tooLarge, { rule: 'shadow', group: 1 });
    const rules = [never, aJudgedRule('Denied', exceeded, { rule: 'denies' })];
    expect(decideOn({ rules, verdict: { code: 'denied', retryAfterMicros: 5 * SECOND }, cost: 6 })).toMatchObject({
      reason: 'RATE_LIMIT_EXCEEDED',
      shadowDenied: ['payments/limits/shadow'],
      retryAfterMicros: 5 * SECOND,
      reported: { rule: 'denies' },
    });
  });
});

describe('a denial that another rule forgave', () => {
  it('is no denial', () => {
    const rules = [aJudgedRule('Forgiven', exceeded, { rule: 'forgiven' }), admitted()];
    expect(decideOn({ rules, verdict: { code: 'admitted' } })).toMatchObject({
      action: 'ALLOW',
      reason: 'WITHIN_LIMIT',
      triggeredBy: 'RateLimit',
      retryAfterMicros: undefined,
      shadowDenied: [],
    });
  });

  it.each([
    ['that was shed', shed],
    ['that is below the cost', tooLarge],
    ['with a longer wait', [aSelectedLimit(), denies(1_000)] as Judged],
  ])('gives a denial by a third rule neither its reason nor its limit: one %s', (_title, forgiven) => {
    const rules = [
      aJudgedRule('Forgiven', forgiven, { rule: 'forgiven' }),
      admitted(),
      aJudgedRule('Denied', exceeded, { rule: 'denies' }),
    ];
    expect(decideOn({ rules, verdict: { code: 'denied', retryAfterMicros: 5 * SECOND }, cost: 6 })).toMatchObject({
      reason: 'RATE_LIMIT_EXCEEDED',
      retryAfterMicros: 5 * SECOND,
      reported: { rule: 'denies' },
    });
  });

  it('is waited for where only the forgiving rule ever admits', () => {
    const rules = [
      aJudgedRule('Denied', tooLarge, { rule: 'own' }),
      aJudgedRule('Denied', exceeded, { rule: 'pool', after: [{ rule: 0, outcome: 'Denied' }] }),
    ];
    expect(decideOn({ rules, verdict: { code: 'denied', retryAfterMicros: 5 * SECOND }, cost: 6 })).toMatchObject({
      reason: 'RATE_LIMIT_EXCEEDED',
      retryAfterMicros: 5 * SECOND,
      reported: { rule: 'pool' },
    });
  });
});

describe('a rule that did not run', () => {
  it('has no part in the decision', () => {
    const rules = [aJudgedRule('NotRun', tooLarge, { rule: 'idle' }), admitted()];
    expect(decideOn({ rules, verdict: { code: 'admitted' } }).reported?.rule).toBe('admits');
    const denied = [aJudgedRule('NotRun', shed, { rule: 'idle' }), aJudgedRule('Denied', exceeded)];
    expect(decideOn({ rules: denied, verdict: { code: 'denied', retryAfterMicros: 5 * SECOND } }).reason).toBe(
      'RATE_LIMIT_EXCEEDED',
    );
  });
});

describe('the wait of a denial', () => {
  const rules = [aJudgedRule('Denied', exceeded)];

  it.each([3, 5, 80])('is the one of the whole request, not of a limit: %i s', (seconds) => {
    const verdict = { code: 'denied', retryAfterMicros: seconds * SECOND } as const;
    expect(decideOn({ rules, verdict }).retryAfterMicros).toBe(seconds * SECOND);
  });

  it.each([
    ['the end of the incident', shed, 1, 90 * SECOND],
    ['30 s if that is not known', [degraded(0, 10), NEVER] as Judged, 1, 30 * SECOND],
    ['the longer one of a limit and an incident', [degraded(2, 10, NOW + 2 * SECOND), NEVER] as Judged, 3, 5 * SECOND],
    ['none if no limit would ever hold the cost', tooLarge, 6, undefined],
  ])('is where the limits as they are never admit: %s', (_title, judged, cost, wait) => {
    const both = [...rules, aJudgedRule('Denied', judged)];
    const verdict = { code: 'denied', retryAfterMicros: -1 } as const;
    expect(decideOn({ rules: both, verdict, cost }).retryAfterMicros).toBe(wait);
  });
});

describe('the reason', () => {
  const denied = (...judged: Judged[]): JudgedRule[] => judged.map((one) => aJudgedRule('Denied', one));

  it.each([
    ['COST_EXCEEDS_LIMIT', [exceeded, shed, tooLarge], true],
    ['COST_EXCEEDS_LIMIT', [tooLarge, exceeded], true],
    ['DEGRADED_SHED', [exceeded, shed], true],
    ['PENALTY_THROTTLE', [exceeded], true],
    ['RATE_LIMIT_EXCEEDED', [exceeded], false],
  ] as [string, Judged[], boolean][])('of a denial is the first by precedence: %s', (reason, judged, byThrottle) => {
    for (const some of [judged, judged.toReversed()]) {
      const isEnding = some.every(([, { retryAfterMicros }]) => retryAfterMicros > 0);
      const verdict = { code: 'denied', retryAfterMicros: isEnding ? SECOND : -1, byThrottle } as const;
      const penalties = [aJudgedPenalty('THROTTLE')];
      expect(decideOn({ rules: [shadow('s'), ...denied(...some)], penalties, verdict, cost: 6 }).reason).toBe(reason);
    }
  });

  it.each([
    ['PENALTY_WARN', [shadow('s'), admitted()], 'WARN'],
    ['SHADOW_DENIED', [shadow('s'), admitted()], 'NORMAL'],
    ['WITHIN_LIMIT', [admitted()], 'NORMAL'],
  ] as [string, JudgedRule[], PenaltyState][])(
    'of an allowance is the first by precedence: %s',
    (reason, rules, state) => {
      const penalties = [aJudgedPenalty(state)];
      const decision = decideOn({ rules, penalties, verdict: { code: 'admitted' } });
      expect(decision.reason).toBe(reason);
      expect(decision.shadowDenied).toHaveLength(rules.length - 1);
    },
  );
});

describe('a rule that is not to be spoken of', () => {
  it('denies as any other, and its limit is not told', () => {
    const rules = [aJudgedRule('Denied', exceeded, { isShown: false }), admitted()];
    const verdict = { code: 'denied', retryAfterMicros: 5 * SECOND } as const;
    expect(decideOn({ rules, verdict }, true)).toMatchObject({
      action: 'THROTTLE',
      reason: 'RATE_LIMIT_EXCEEDED',
      retryAfterMicros: 5 * SECOND,
      reported: undefined,
    });
  });
});

describe('a decision that is to speak of every limit', () => {
  const half: Judged = [aSelectedLimit({ capacity: 100, rule: 'half' }), admits(50)];
  const nearlyFull: Judged = [aSelectedLimit({ capacity: 10, rule: 'nearly-full' }), admits(1)];
  const hidden = aJudgedRule('Admitted', [aSelectedLimit({ rule: 'hidden' }), admits(0)], { isShown: false });
  const shown = (rules: JudgedRule[], code: 'admitted' | 'denied') =>
    decideOn({ rules, verdict: { code, retryAfterMicros: code === 'denied' ? SECOND : 0 } }, true).shown?.map(
      ({ rule, isExceeded }) => [rule, isExceeded],
    );

  it('lists the tightest first, and none that is hidden, forgiven or in shadow', () => {
    const forgiven = aJudgedRule('Forgiven', [aSelectedLimit({ rule: 'forgiven' }), denies(5)]);
    const rules = [aJudgedRule('Admitted', half), aJudgedRule('Admitted', nearlyFull), hidden, forgiven, shadow('s')];
    expect(shown(rules, 'admitted')).toEqual([
      ['nearly-full', false],
      ['half', false],
    ]);
  });

  it('lists first the one that takes longest, then others that deny, then what would have admitted', () => {
    const rules = [
      aJudgedRule('Admitted', nearlyFull),
      aJudgedRule('Denied', [aSelectedLimit({ rule: 'short' }), denies(2)]),
      aJudgedRule('Denied', [aSelectedLimit({ rule: 'long' }), denies(9)]),
    ];
    expect(shown(rules, 'denied')).toEqual([
      ['long', true],
      ['short', true],
      ['nearly-full', false],
    ]);
  });

  it('lists nothing where no limit may be spoken of, and nothing unless it is asked to', () => {
    expect(shown([hidden], 'admitted')).toBeUndefined();
    expect(decideOn({ rules: [admitted()], verdict: { code: 'admitted' } }).shown).toBeUndefined();
  });
});
