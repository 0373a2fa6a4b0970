import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { RedisClock } from '../../store/clock.ts';
import { Decider, type TimedVerdict } from '../../store/decide.ts';
import { createNames } from '../../store/names.ts';
import { aRule } from '../harness/plain.ts';
import { type PrivateRedis, privateRedis } from '../harness/redis.ts';
import { onVirtualClock, setClock } from '../harness/virtual-clock.ts';
import { toSelected } from './limits.ts';
import type { ModelLimit } from './model.ts';
import { type ModelRule, RulesModel } from './rules-model.ts';

const START = 1_790_000_000_000_000n;
const RUNS = 300;

let server: PrivateRedis;
let decider: Decider;
let world = 0;

beforeAll(async () => {
  server = await privateRedis();
  const script = onVirtualClock('decide');
  decider = new Decider(server.redis, createNames('rules'), new RedisClock(), { deadlineMillis: 60_000, script });
});
afterAll(() => server.stop());

const limit = fc.record({
  algorithm: fc.constantFrom<ModelLimit['algorithm']>('TokenBucket', 'SlidingWindow', 'SlidingWindowLog'),
  requests: fc.integer({ min: 1, max: 6 }),
  windowSeconds: fc.constantFrom(1, 2, 3, 7),
});

const outcome = fc.constantFrom<'Admitted' | 'Denied' | 'NotRun'>('Admitted', 'Denied', 'Denied', 'NotRun');

const rule = fc.record({
  group: fc.constantFrom(0, 0, 0, 1, 2),
  /** Which earlier rules it waits for, as a fraction of their number. */
  after: fc.array(fc.record({ share: fc.double({ min: 0, max: 0.999, noNaN: true }), outcome }), { maxLength: 2 }),
  /** Whether it runs whatever becomes of those. */
  isSure: fc.constantFrom(false, false, true),
  limits: fc.array(limit, { minLength: 1, maxLength: 2 }),
});

const policy = fc.array(rule, { minLength: 1, maxLength: 6 });
const steps = fc.array(
  fc.record({
    pause: fc.oneof(fc.constant(0n), fc.bigInt({ min: 0n, max: 3_000_000n })),
    cost: fc.constantFrom(1n, 1n, 1n, 2n),
  }),
  { minLength: 1, maxLength: 25 },
);

type Shape = {
  readonly group: number;
  readonly after: readonly { share: number; outcome: 'Admitted' | 'Denied' | 'NotRun' }[];
  readonly isSure: boolean;
  readonly limits: readonly { algorithm: ModelLimit['algorithm']; requests: number; windowSeconds: number }[];
};

function toRules(shapes: readonly Shape[]): ModelRule[] {
  world += 1;
  return shapes.map((shape, index) => ({
    group: shape.group,
    after:
      index === 0
        ? []
        : [
            ...(shape.isSure ? [{ rule: index, outcome: 'NotRun' as const }] : []),
            ...shape.after.map(({ share, outcome: end }) => ({ rule: Math.floor(share * index), outcome: end })),
          ],
    limits: shape.limits.map((one, position) => ({
      id: `w${world}r${index % 3}/${index}-${position}`,
      algorithm: one.algorithm,
      capacity: BigInt(one.requests),
      refill: BigInt(one.requests),
      windowMicros: BigInt(one.windowSeconds) * 1_000_000n,
    })),
  }));
}

async function ask(rules: readonly ModelRule[], cost: bigint, now: bigint, isPeek: boolean): Promise<TimedVerdict> {
  await setClock(server.redis, now);
  const selected = rules.map((one) =>
    aRule(one.limits.map(toSelected), { group: one.group, after: one.after, cost: Number(cost) }),
  );
  return decider.decide({ partition: 'p', selection: { rules: selected, penalties: [] }, isPeek });
}

async function agree(shapes: readonly Shape[], sequence: readonly { pause: bigint; cost: bigint }[]): Promise<void> {
  const rules = toRules(shapes);
  const model = new RulesModel();
  let now = START;
  for (const step of sequence) {
    now += step.pause;
    expect((await ask(rules, step.cost, now, true)).code === 'admitted').toBe(model.passesAt(rules, step.cost, now));
    const expected = model.decide(rules, step.cost, now);
    const actual = await ask(rules, step.cost, now, false);
    expect(actual.code).toBe(expected.passes ? 'admitted' : 'denied');
    expect(actual.rules.map((one) => one.outcome)).toEqual(expected.outcomes);
    if (!expected.passes) checkRetry(model, rules, { cost: step.cost, now }, actual.retryAfterMicros);
  }
}

/** retry_after is the first moment at which anything changes and the model passes the request; -1 if there is none. */
function checkRetry(
  model: RulesModel,
  rules: readonly ModelRule[],
  request: { cost: bigint; now: bigint },
  retryAfterMicros: number,
): void {
  const moments = model.momentsAfter(rules, request.cost, request.now).toSorted((one, other) => (one < other ? -1 : 1));
  const first = moments.find((at) => model.passesAt(rules, request.cost, at));
  expect(BigInt(retryAfterMicros)).toBe(first === undefined ? -1n : first - request.now);
}

describe('rules that wait for each other, and rules in shadow', () => {
  it('end as an independent model says, with an exact retry_after', async () => {
    await fc.assert(fc.asyncProperty(policy, steps, agree), { numRuns: RUNS });
  });
});
