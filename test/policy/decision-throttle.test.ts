// The numbers that are told of a limit while a penalty in THROTTLE leaves only a part of it.
import { describe, expect, it } from 'vitest';
import type { PenaltyState } from '../../policy/decision.ts';
import type { RuleOutcome, SelectedRule } from '../../policy/selection.ts';
import { admits, aJudgedPenalty, aJudgedRule, aSelectedLimit, decideOn, denies, SECOND } from './verdicts.ts';

type Situation = {
  readonly outcome?: RuleOutcome;
  readonly state?: PenaltyState;
  readonly isEnforced?: boolean;
  readonly rule?: Partial<SelectedRule>;
  readonly capacity?: number;
};

/** The limit that is told of a request whose rule has a penalty that leaves half. */
function toldLimit({ outcome, state, isEnforced, rule, capacity }: Situation): number | undefined {
  const judged = aJudgedPenalty(state ?? 'THROTTLE', { enforced: isEnforced ?? true });
  const throttle = { violations: 10, forSeconds: 900, limitPercent: 50 };
  const penalty = { ...judged.penalty, penalty: { ...judged.penalty.penalty, throttle } };
  const isDenied = outcome === 'Denied';
  const limit = aSelectedLimit({ capacity: capacity ?? 10 });
  const rules = [
    aJudgedRule(isDenied ? 'Denied' : 'Admitted', [limit, isDenied ? denies(5) : admits(1)], {
      penalty: 0,
      throttled: true,
      ...rule,
    }),
  ];
  const verdict = isDenied
    ? ({ code: 'denied', retryAfterMicros: 5 * SECOND } as const)
    : ({ code: 'admitted' } as const);
  return decideOn({ rules, penalties: [{ ...judged, penalty }], verdict }).reported?.limit;
}

describe.each(['Admitted', 'Denied'] as const)('the limit that is told of a rule that was %s', (outcome) => {
  it.each<[string, Situation, number]>([
    ['the part that THROTTLE leaves', {}, 5],
    ['that part in whole requests', { capacity: 7 }, 3],
    ['at least one request', { capacity: 1 }, 1],
    ['nothing, where there was nothing', { capacity: 0 }, 0],
    ['all of it in another state', { state: 'WARN' }, 10],
    ['all of it by a penalty in shadow', { isEnforced: false }, 10],
    ['all of it for a rule that the penalty does not throttle', { rule: { throttled: false } }, 10],
    ['all of it for a rule that has no penalty', { rule: { penalty: undefined } }, 10],
  ])('is %s', (_title, situation, limit) => {
    expect(toldLimit({ ...situation, outcome })).toBe(limit);
  });
});

describe('the tightest limit of somebody in THROTTLE', () => {
  it('is the one of which the smallest part of what is left to him remains', () => {
    const judged = aJudgedPenalty('THROTTLE');
    const throttle = { violations: 10, forSeconds: 900, limitPercent: 10 };
    const penalties = [{ ...judged, penalty: { ...judged.penalty, penalty: { ...judged.penalty.penalty, throttle } } }];
    const rules = [
      // 5 of 10 are more than 40 of 100.
      aJudgedRule('Admitted', [aSelectedLimit({ capacity: 100 }), admits(5)], {
        rule: 'throttled',
        penalty: 0,
        throttled: true,
      }),
      aJudgedRule('Admitted', [aSelectedLimit({ capacity: 100 }), admits(40)], { rule: 'whole' }),
    ];
    expect(decideOn({ rules, penalties, verdict: { code: 'admitted' } }).reported?.rule).toBe('whole');
  });
});
