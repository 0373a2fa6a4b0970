// Properties of the decision script that are no part of its model tests. Numbers as in docs/bounds.md.
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { fieldOf, partitionOf, subjectOf } from '../../policy/hash.ts';
import type { SelectedLimit } from '../../policy/selection.ts';
import { RedisClock } from '../../store/clock.ts';
import { Decider } from '../../store/decide.ts';
import { createNames } from '../../store/names.ts';
import { contentsOf } from '../harness/contents.ts';
import { aBucket, aLimit, aWindow } from '../harness/limits.ts';
import { punishableRequest } from '../harness/penalties.ts';
import { aRule, decidePlain, plainRequest } from '../harness/plain.ts';
import { type PrivateRedis, privateRedis } from '../harness/redis.ts';
import { onVirtualClock, setClock } from '../harness/virtual-clock.ts';

const names = createNames('properties');
const ALGORITHMS = ['TokenBucket', 'SlidingWindow', 'SlidingWindowLog'] as const;
const START = 1_790_000_000_000_000n;
const SECOND = 1_000_000n;
const DAY = 86_400;

let server: PrivateRedis;
let decider: Decider;
let virtual: Decider;

beforeAll(async () => {
  server = await privateRedis();
  const options = { deadlineMillis: 60_000 };
  decider = new Decider(server.redis, names, new RedisClock(), options);
  const script = onVirtualClock('decide');
  virtual = new Decider(server.redis, names, new RedisClock(), { ...options, script });
});
afterAll(() => server.stop());
beforeEach(async () => {
  await server.redis.flushall();
});
afterEach(() => {
  vi.useRealTimers();
});

const decide = (limits: readonly SelectedLimit[], cost = 1, partition = 'p') =>
  decidePlain(decider, { partition, cost, limits });

const ofDay = (subject: string, capacity: number): SelectedLimit[] =>
  ALGORITHMS.map((algorithm) =>
    aLimit({ algorithm, subject: `${subject}-${algorithm}`, capacity, windowSeconds: DAY }),
  );

function orders<T>(items: readonly T[]): T[][] {
  if (items.length <= 1) return [[...items]];
  return items.flatMap((item, i) => orders(items.toSpliced(i, 1)).map((rest) => [item, ...rest]));
}

describe('the order of rules', () => {
  it('changes neither the verdict nor what is stored [P5]', async () => {
    const states = [];
    for (const order of orders([2, 3, 4])) {
      await server.redis.flushall();
      await setClock(server.redis, START);
      const rules = order.map((capacity) => aRule(ofDay(`of ${capacity}`, capacity)));
      const request = { partition: 'p', selection: { rules, penalties: [] } };
      const codes = [];
      for (let i = 0; i < 4; i += 1) codes.push((await virtual.decide(request)).code);
      expect(codes).toEqual(['admitted', 'admitted', 'denied', 'denied']);
      const stored = await contentsOf(server.redis);
      // When a key expires is a matter of real time here.
      states.push(
        Object.entries(stored).map(([key, value]) => [key, JSON.stringify(value).replace(/"expires":\d+/, '')]),
      );
    }
    expect(states).toHaveLength(6);
    for (const state of states) expect(state).toEqual(states[0]);
  });
});

describe('a peek', () => {
  it('says what a request would be told at that moment, and writes nothing, not even a time to live [P6]', async () => {
    for (const algorithm of ALGORITHMS) {
      const request = punishableRequest(algorithm, {}, aLimit({ algorithm, subject: algorithm, capacity: 3 }));
      for (let second = 0n; second < 12n; second += 1n) {
        await setClock(server.redis, START + second * 300_000n);
        const before = await contentsOf(server.redis);
        const peeked = await virtual.decide({ ...request, isPeek: true });
        expect(await contentsOf(server.redis)).toEqual(before);
        const decided = await virtual.decide(request);
        expect([peeked.code, peeked.retryAfterMicros === 0]).toEqual([decided.code, decided.retryAfterMicros === 0]);
        expect(peeked.penalties[0]?.before).toBe(decided.penalties[0]?.before);
        // A request that is admitted takes its cost, after which there is less; of a denial both say the same.
        const taken = decided.code === 'admitted' ? 1 : 0;
        expect(decided.rules[0]?.limits[0]?.remaining).toBe((peeked.rules[0]?.limits[0]?.remaining ?? 0) - taken);
        expect(decided.rules[0]?.outcome).toBe(peeked.rules[0]?.outcome);
      }
    }
  });
});

describe('what is left of a limit', () => {
  it.each(ALGORITHMS)(
    'falls by the cost, never below nothing, and is all back at reset_after (%s) [P8]',
    async (algorithm) => {
      const limit = aLimit({ algorithm, capacity: 7, windowSeconds: 60 });
      const remaining: number[] = [];
      let reset = 0n;
      for (let i = 0; i < 10; i += 1) {
        await setClock(server.redis, START + BigInt(i));
        const { outcomes } = await decidePlain(virtual, { partition: 'p', cost: 2, limits: [limit] });
        remaining.push(outcomes[0]?.remaining ?? -1);
        reset = START + BigInt(i) + BigInt(outcomes[0]?.resetAfterMicros ?? 0);
        expect(outcomes[0]?.resetAfterMicros).toBeGreaterThanOrEqual(outcomes[0]?.retryAfterMicros ?? 0);
      }
      expect(remaining).toEqual([5, 3, 1, 1, 1, 1, 1, 1, 1, 1]);
      for (const [early, expected] of [
        [1n, false],
        [0n, true],
      ] as const) {
        await setClock(server.redis, reset - early);
        const peek = await virtual.decide({ ...plainRequest('p', [limit]), isPeek: true });
        expect(peek.rules[0]?.limits[0]?.remaining === 7).toBe(expected);
      }
    },
  );
});

describe('a rule that is added, removed or made another kind', () => {
  const field = (rule: string, algorithm: string): string => fieldOf(['d', 'ns/policy', rule, '60', algorithm]);
  const limit = (rule: string, algorithm: (typeof ALGORITHMS)[number]): SelectedLimit => ({
    ...aLimit({ algorithm, capacity: 3 }),
    field: field(rule, algorithm),
  });

  it('begins with all of its limit, beside what the others of the subject have used [P14]', async () => {
    const old = limit('old', 'TokenBucket');
    await decide([old], 2);
    const { outcomes } = await decide([old, limit('new', 'SlidingWindow')]);
    expect(outcomes.map(({ remaining }) => remaining)).toEqual([0, 2]);
    expect((await decide([limit('new', 'SlidingWindow')])).outcomes[0]?.remaining).toBe(1);
    expect((await decide([old])).admitted).toBe(false);
  });

  it('never inherits the state of another kind, even under the same field [P14]', async () => {
    for (const before of ALGORITHMS) {
      for (const after of ALGORITHMS) {
        if (before === after) continue;
        await server.redis.flushall();
        const one = { ...limit('same', before), field: 'same' };
        const other = { ...limit('same', after), field: 'same' };
        await decide([one], 3);
        expect((await decide([other], 3)).admitted).toBe(true);
        expect((await decide([other])).admitted).toBe(false);
      }
    }
  });
});

describe('two tenants', () => {
  const ODD = [
    '{a}',
    '{a}b',
    'a:b',
    'a',
    'a\u0000',
    'ä',
    '🙂',
    '{}',
    '}{',
    '',
    ' ',
    '\r\n',
    'x'.repeat(10_000),
    'x'.repeat(10_001),
  ];

  it('never meet, whatever their names are made of: one leaves every key of the others alone [P16]', async () => {
    const limitsOf = (name: string): SelectedLimit[] =>
      ALGORITHMS.map((algorithm) =>
        aLimit({ algorithm, subject: subjectOf(['tenant', name]), capacity: 2, windowSeconds: DAY }),
      );
    for (const name of ODD) {
      const before = await contentsOf(server.redis);
      expect((await decide(limitsOf(name), 1, partitionOf(name))).admitted).toBe(true);
      expect((await decide(limitsOf(name), 1, partitionOf(name))).admitted).toBe(true);
      expect((await decide(limitsOf(name), 1, partitionOf(name))).admitted).toBe(false);
      expect(await contentsOf(server.redis)).toMatchObject(before);
    }
    const keys = await server.redis.keys('*');
    expect(keys).toHaveLength(ODD.length);
    for (const key of keys) expect(key).toMatch(/^sluice:properties:c1:\{[\w-]{11}\}:[\w-]{22}$/);
  });
});

describe('the clock of a pod', () => {
  it.each([-3_600_000, 3_600_000])('an hour off (%i ms) changes no verdict [P18]', async (off) => {
    const limit = aWindow({ capacity: 3, windowSeconds: DAY });
    const clock = new RedisClock(() => performance.now() + off);
    vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + off });
    const shifted = new Decider(server.redis, names, clock, { deadlineMillis: 60_000 });
    const admitted = [];
    for (let i = 0; i < 3; i += 1) {
      const verdicts = [
        await decide([limit]),
        await decidePlain(shifted, { partition: 'p', cost: 1, limits: [limit] }),
      ];
      admitted.push(...verdicts.map((verdict) => verdict.admitted));
      const [mine = 0, theirs = 0] = verdicts.map(({ redisMicros }) => redisMicros);
      expect(Math.abs(theirs - mine)).toBeLessThan(60_000_000);
      expect(Math.abs(clock.nowMicros() - theirs)).toBeLessThan(60_000_000);
    }
    expect(admitted).toEqual([true, true, true, false, false, false]);
  });
});

describe('odd times of Redis', () => {
  it.each([
    ['the first microseconds of 1970', 0n],
    ['before 1970', -1_000_000_000_000_001n],
    ['a leap second, smeared', 1_483_228_799_999_999n],
    ['a change to summer time', 1_774_746_000_000_000n],
    ['the year 2100', 4_102_444_800_000_000n],
  ])('%s: every number is whole, and every limit holds and recovers [P20]', async (_title, at) => {
    const limits = [
      aBucket({ capacity: 7, windowSeconds: 60 }),
      aWindow({ capacity: 7, windowSeconds: 60 }),
      aLimit({ algorithm: 'SlidingWindowLog', capacity: 7, windowSeconds: 60 }),
    ];
    const ask = async (micros: bigint, cost: number) => {
      await setClock(server.redis, micros);
      return decidePlain(virtual, { partition: 'p', cost, limits });
    };
    expect((await ask(at - SECOND, 3)).admitted).toBe(true);
    expect((await ask(at, 4)).admitted).toBe(true);
    const denied = await ask(at + SECOND, 7);
    expect(denied.admitted).toBe(false);
    for (const { remaining, retryAfterMicros, resetAfterMicros } of denied.outcomes) {
      expect([remaining, retryAfterMicros, resetAfterMicros].every(Number.isSafeInteger)).toBe(true);
    }
    const wait = BigInt(Math.max(...denied.outcomes.map(({ retryAfterMicros }) => retryAfterMicros)));
    expect((await ask(at + SECOND + wait - 1n, 7)).admitted).toBe(false);
    expect((await ask(at + SECOND + wait, 7)).admitted).toBe(true);
  });
});
