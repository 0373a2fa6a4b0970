import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { LocalFallback } from '../../limiter/local-fallback.ts';
import type { SelectedLimit, SelectedRule } from '../../policy/select.ts';
import { aRule } from '../harness/plain.ts';
import { aSelectedLimit } from '../policy/verdicts.ts';

const aLimit = (capacity: number, overrides: Partial<SelectedLimit> = {}): SelectedLimit =>
  aSelectedLimit({ capacity, algorithm: 'SlidingWindow', ...overrides });

const withCost = (rules: readonly SelectedRule[], cost: number): SelectedRule[] =>
  rules.map((rule) => ({ ...rule, cost }));

/** A pod on a clock of the test's own. */
function aPod(pods: number | undefined) {
  let now = 0;
  let count = pods;
  const fallback = new LocalFallback({ pods: () => count, monotonicMillis: () => now });
  return {
    wait: (millis: number): void => void (now += millis),
    scaleTo: (next: number): void => void (count = next),
    decide: (rules: readonly SelectedRule[], cost = 1) => fallback.decide(withCost(rules, cost), false),
    peek: (rules: readonly SelectedRule[], cost = 1) => fallback.decide(withCost(rules, cost), true),
  };
}

const admitted = (pod: ReturnType<typeof aPod>, rules: readonly SelectedRule[], times: number): number =>
  Array.from({ length: times }, () => pod.decide(rules)).filter(({ action }) => action === 'ALLOW').length;

describe('without Redis', () => {
  it('an open rule admits, a closed one denies, and the strictest of several wins', () => {
    const open = aRule([aLimit(1)], { failurePolicy: 'Open' });
    const closed = aRule([aLimit(1)], { failurePolicy: 'Closed' });
    const local = aRule([aLimit(1)]);
    expect(aPod(1).decide([open])).toMatchObject({ action: 'ALLOW', reason: 'FAIL_OPEN' });
    expect(aPod(1).decide([local])).toMatchObject({ action: 'ALLOW', reason: 'LOCAL_FALLBACK' });
    expect(aPod(1).decide([closed])).toMatchObject({
      action: 'THROTTLE',
      reason: 'FAIL_CLOSED',
      retryAfterMicros: 1_000_000,
    });
    expect(aPod(1).decide([open, local, closed])).toMatchObject({ reason: 'FAIL_CLOSED' });
    expect(aPod(1).decide([open, local])).toMatchObject({ action: 'ALLOW', reason: 'FAIL_OPEN' });
  });

  it('a closed rule cannot be forgiven', () => {
    const closed = aRule([aLimit(1)], { failurePolicy: 'Closed' });
    const pool = aRule([aLimit(100, { subject: 'pool' })], { after: [{ rule: 0, outcome: 'Denied' }] });
    expect(aPod(1).decide([closed, pool])).toMatchObject({ reason: 'FAIL_CLOSED' });
  });

  it('every pod admits its share of a limit, rounded up, and at least one', () => {
    const rules = [aRule([aLimit(10)])];
    expect(admitted(aPod(1), rules, 50)).toBe(10);
    expect(admitted(aPod(3), rules, 50)).toBe(4);
    expect(admitted(aPod(100), rules, 50)).toBe(1);
    expect(admitted(aPod(undefined), rules, 50)).toBe(1);
    expect(admitted(aPod(1), [aRule([aLimit(0)])], 5)).toBe(0);
  });

  it('answers a peek as a request, and takes nothing for it', () => {
    const pod = aPod(2);
    const rules = [aRule([aLimit(10)])];
    for (let i = 0; i < 20; i += 1) expect(pod.peek(rules, 5)).toEqual(aPod(2).decide(rules, 5));
    expect(pod.peek(rules, 6)).toEqual(aPod(2).decide(rules, 6));
    expect(admitted(pod, rules, 50)).toBe(5);
    expect(pod.peek(rules)).toEqual(pod.decide(rules));
  });

  it('says exactly when the share admits again', () => {
    const pod = aPod(2);
    const rules = [aRule([aLimit(10)])];
    expect(admitted(pod, rules, 6)).toBe(5);
    const { retryAfterMicros } = pod.decide(rules);
    expect(retryAfterMicros).toBe(12_000_000);
    pod.wait(11_999);
    expect(pod.decide(rules).action).toBe('THROTTLE');
    pod.wait(1);
    expect(pod.decide(rules).action).toBe('ALLOW');
  });

  it('charges all limits of a request or none', () => {
    const pod = aPod(1);
    const narrow = aLimit(1, { field: 'narrow' });
    const wide = aLimit(3, { field: 'wide' });
    expect(admitted(pod, [aRule([narrow, wide])], 5)).toBe(1);
    expect(admitted(pod, [aRule([wide])], 5)).toBe(2);
  });

  it('lets a rule forgive the denial that it waits for', () => {
    const pod = aPod(1);
    const own = aRule([aLimit(2, { subject: 'own' })]);
    const pool = aRule([aLimit(3, { subject: 'pool' })], { after: [{ rule: 0, outcome: 'Denied' }] });
    expect(admitted(pod, [own, pool], 10)).toBe(5);
  });

  it('does not hear rules in shadow', () => {
    expect(aPod(1).decide([aRule([aLimit(0)], { group: 3 })])).toMatchObject({ action: 'ALLOW', reason: 'FAIL_OPEN' });
  });

  it('keeps its buckets over any number of outages: they never admit more than the share and what flows back', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 50 }),
        fc.integer({ min: 1, max: 8 }),
        fc.array(fc.record({ pause: fc.integer({ min: 0, max: 30_000 }), asks: fc.integer({ min: 0, max: 20 }) }), {
          maxLength: 30,
        }),
        (capacity, pods, outages) => {
          const pod = aPod(pods);
          const share = Math.ceil(capacity / pods);
          let elapsed = 0;
          let total = 0;
          for (const { pause, asks } of outages) {
            pod.wait(pause);
            elapsed += pause;
            total += admitted(pod, [aRule([aLimit(capacity)])], asks);
            expect(total).toBeLessThanOrEqual(share + (share * elapsed) / 60_000 + 1e-6);
          }
        },
      ),
    );
  });

  it('follows the number of pods without minting anything', () => {
    const pod = aPod(10);
    const rules = [aRule([aLimit(100)])];
    expect(admitted(pod, rules, 50)).toBe(10);
    pod.scaleTo(2);
    expect(admitted(pod, rules, 50)).toBe(0);
    pod.scaleTo(100);
    pod.wait(60_000);
    expect(admitted(pod, rules, 50)).toBe(1);
  });
});
