import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { Algorithm } from '../../policy/schema/rate-limit-policy.ts';
import type { SelectedLimit } from '../../policy/selection.ts';
import { RedisClock } from '../../store/clock.ts';
import { Decider, type TimedVerdict } from '../../store/decide.ts';
import type { DecideRequest } from '../../store/decide-wire.ts';
import { createNames } from '../../store/names.ts';
import { type Charge, chargeOf, refund, refundAnonymously, rememberCharge, toCharged } from '../../store/refund.ts';
import { contentsOf } from '../harness/contents.ts';
import { aBucket, aLimit, aWindow } from '../harness/limits.ts';
import { aRule, plainRequest } from '../harness/plain.ts';
import { redisMicros } from '../harness/redis-time.ts';
import { type PrivateRedis, privateRedis } from '../harness/redis.ts';

const names = createNames('default');
const ALGORITHMS = ['TokenBucket', 'SlidingWindow', 'SlidingWindowLog'] as const;
/** Nothing that these tests take comes back while they run. */
const DAY = 86_400;

let server: PrivateRedis;
let decider: Decider;

beforeAll(async () => {
  server = await privateRedis();
  decider = new Decider(server.redis, names, new RedisClock(), { deadlineMillis: 60_000 });
});
afterAll(() => server.stop());
beforeEach(async () => {
  await server.redis.flushall();
});

const aDayOf = (algorithm: Algorithm, subject: string = algorithm): SelectedLimit =>
  aLimit({ algorithm, subject, capacity: 10, windowSeconds: DAY });

async function admit(id: string, request: DecideRequest): Promise<TimedVerdict> {
  const verdict = await decider.decide(request);
  expect(verdict.code).toBe('admitted');
  expect(await rememberCharge(server.redis, names, id, chargeOf(request, verdict))).toBe(true);
  return verdict;
}

async function remaining(limits: readonly SelectedLimit[]): Promise<number[]> {
  const { rules } = await decider.decide({ ...plainRequest('p', limits), isPeek: true });
  return rules.flatMap((rule) => rule.limits.map((limit) => limit.remaining));
}

describe('a refund', () => {
  const limits = ALGORITHMS.map((algorithm) => aDayOf(algorithm));

  it('gives back what the request was charged, to every limit', async () => {
    await admit('one', plainRequest('p', limits, 4));
    await admit('two', plainRequest('p', limits, 3));
    expect(await refund(server.redis, names, 'one')).toBe('refunded');
    expect(await remaining(limits)).toEqual([7, 7, 7]);
  });

  it('[P9] happens once, however often and however concurrently it is asked for', async () => {
    await admit('one', plainRequest('p', limits, 2));
    await admit('two', plainRequest('p', limits, 5));
    const other = server.redis.duplicate();
    const said = await Promise.all(
      Array.from({ length: 20 }, (_, i) => refund(i % 2 === 0 ? server.redis : other, names, 'one')),
    );
    expect(said.filter((one) => one === 'refunded')).toHaveLength(1);
    expect(await refund(server.redis, names, 'one')).toBe('unknown');
    expect(await remaining(limits)).toEqual([5, 5, 5]);
    other.disconnect();
  });

  it('[P9] of an unknown id changes nothing', async () => {
    await admit('one', plainRequest('p', limits, 2));
    const before = await contentsOf(server.redis);
    expect(await refund(server.redis, names, 'never seen')).toBe('unknown');
    expect(await contentsOf(server.redis)).toEqual(before);
  });

  it('creates no hash where the limit is full again, and touches no time to live', async () => {
    await admit('one', plainRequest('p', limits, 2));
    await admit('two', plainRequest('p', limits, 2));
    const [gone = '', ...kept] = limits.map((limit) => names.counters('p', limit.subject));
    await server.redis.del(gone);
    const before = await Promise.all(kept.map((key) => server.redis.pexpiretime(key)));
    expect(await refund(server.redis, names, 'two')).toBe('refunded');
    expect(await server.redis.exists(gone)).toBe(0);
    expect(await Promise.all(kept.map((key) => server.redis.pexpiretime(key)))).toEqual(before);
    expect(before.every((time) => time > 0)).toBe(true);
  });

  it('gives a bucket back the time that was charged, whatever its limit is by now', async () => {
    const before = aBucket({ capacity: 10, windowSeconds: DAY });
    await admit('one', plainRequest('p', [before], 6));
    await decider.decide(plainRequest('p', [before], 2));
    const [halved] = await remaining([aBucket({ capacity: 5, windowSeconds: DAY })]);
    expect(halved).toBe(1);
    expect(await refund(server.redis, names, 'one')).toBe('refunded');
    expect(await remaining([before])).toEqual([8]);
  });

  it('gives back what groups of shadow rules were charged, and nothing to those that were not', async () => {
    const [full, exhausted] = [aDayOf('SlidingWindow', 'shadow'), aDayOf('TokenBucket', 'exhausted')];
    await decider.decide(plainRequest('p', [exhausted], 10));
    const beside = aDayOf('SlidingWindow', 'beside');
    const request: DecideRequest = {
      partition: 'p',
      selection: {
        rules: [
          aRule(limits, { cost: 2 }),
          aRule([full], { group: 1, cost: 2 }),
          aRule([exhausted], { group: 2, cost: 2 }),
          aRule([beside], { group: 2, cost: 2 }),
        ],
        penalties: [],
      },
    };
    const verdict = await admit('one', request);
    expect(chargeOf(request, verdict).limits.map(({ subject }) => subject)).toEqual([...ALGORITHMS, 'shadow']);
    expect(await remaining([full, exhausted, beside])).toEqual([8, 0, 10]);
    await refund(server.redis, names, 'one');
    expect(await remaining([...limits, full, exhausted, beside])).toEqual([10, 10, 10, 10, 0, 10]);
  });

  it('is of nothing if the request was denied or only looked', async () => {
    const request = plainRequest('p', limits, 11);
    expect(chargeOf(request, await decider.decide(request)).limits).toEqual([]);
    const peek = { ...plainRequest('p', limits), isPeek: true };
    expect(chargeOf(peek, await decider.decide(peek)).limits).toEqual([]);
    // What is in shadow would have admitted it.
    const [spent, free] = [aDayOf('SlidingWindow', 'spent'), aDayOf('SlidingWindow', 'free')];
    await decider.decide(plainRequest('p', [spent], 10));
    const beside: DecideRequest = {
      partition: 'p',
      selection: { rules: [aRule([free], { group: 1 }), aRule([spent])], penalties: [] },
    };
    expect(chargeOf(beside, await decider.decide(beside)).limits).toEqual([]);
  });

  it('works after Redis forgot the script', async () => {
    await admit('one', plainRequest('p', limits, 2));
    await server.redis.script('FLUSH');
    expect(await refund(server.redis, names, 'one')).toBe('refunded');
    expect(await remaining(limits)).toEqual([10, 10, 10]);
  });
});

describe('the record of a charge', () => {
  const charge: Charge = { partition: 'p', redisMicros: 1, limits: [toCharged(aBucket(), 1)] };

  it('is kept for a minute, and its id is in use until then', async () => {
    const before = await redisMicros(server.redis);
    expect(await rememberCharge(server.redis, names, 'one', charge)).toBe(true);
    const after = await redisMicros(server.redis);
    expect(await rememberCharge(server.redis, names, 'one', { ...charge, redisMicros: 2 })).toBe(false);
    const [key = ''] = await server.redis.keys('*');
    const end = await server.redis.pexpiretime(key);
    expect(end).toBeGreaterThanOrEqual(Math.floor(before / 1_000) + 60_000);
    expect(end).toBeLessThanOrEqual(Math.ceil(after / 1_000) + 60_000);
    expect(await server.redis.get(key)).toBe(JSON.stringify(charge));
  });

  it('is under a digest: no text of a caller is part of a name', async () => {
    for (const id of ['{a}', 'a:b\u0000', 'é'.repeat(10_000)]) await rememberCharge(server.redis, names, id, charge);
    const keys = await server.redis.keys('*');
    expect(keys).toHaveLength(3);
    for (const key of keys) expect(key).toMatch(/^sluice:default:r1:\{[\w-]{43}\}$/);
  });

  it.each([
    ['nothing', ''],
    ['no fields', '{}'],
    ['no JSON', 'not JSON'],
    ['a cost of nothing', JSON.stringify({ ...charge, limits: [{ ...charge.limits[0], cost: 0 }] })],
    ['more limits than a request can have', JSON.stringify({ ...charge, limits: Array(65).fill(charge.limits[0]) })],
  ])('that cannot be read gives nothing back: %s', async (_title, text) => {
    await rememberCharge(server.redis, names, 'one', charge);
    const [key = ''] = await server.redis.keys('*');
    await server.redis.set(key, text);
    await expect(refund(server.redis, names, 'one')).rejects.toMatchObject({ code: 'BAD_REPLY' });
  });

  it('that holds something else is WRONG_TYPE', async () => {
    await rememberCharge(server.redis, names, 'one', charge);
    const [key = ''] = await server.redis.keys('*');
    await server.redis.del(key);
    await server.redis.lpush(key, 'planted');
    await expect(refund(server.redis, names, 'one')).rejects.toMatchObject({ code: 'WRONG_TYPE', transient: false });
  });
});

describe('a refund that fails', () => {
  it('gives nothing back if one of the keys holds something else', async () => {
    const [first, planted] = [aDayOf('SlidingWindow', 'first'), aDayOf('TokenBucket', 'planted')];
    await admit('one', plainRequest('p', [first, planted], 2));
    await server.redis.set(names.counters('p', 'planted'), 'not a hash');
    await expect(refund(server.redis, names, 'one')).rejects.toMatchObject({ code: 'WRONG_TYPE' });
    expect(await remaining([first])).toEqual([8]);
    expect(await server.redis.get(names.counters('p', 'planted'))).toBe('not a hash');
  });

  it('is refused before any write when Redis is out of memory, and is then lost, never doubled', async () => {
    const limits = [aDayOf('SlidingWindow'), aDayOf('TokenBucket')];
    await admit('one', plainRequest('p', limits, 2));
    const counters = limits.map((limit) => names.counters('p', limit.subject));
    const before = await Promise.all(counters.map((key) => server.redis.hgetall(key)));
    await server.redis.config('SET', 'maxmemory', '1');
    try {
      await expect(refund(server.redis, names, 'one')).rejects.toMatchObject({ code: 'REFUSED', transient: true });
    } finally {
      await server.redis.config('SET', 'maxmemory', '0');
    }
    expect(await Promise.all(counters.map((key) => server.redis.hgetall(key)))).toEqual(before);
    expect(await refund(server.redis, names, 'one')).toBe('unknown');
  });
});

describe('a refund without an id', () => {
  it.each(ALGORITHMS)('gives back at most what is counted: never more than full (%s)', async (algorithm) => {
    const limit = aDayOf(algorithm);
    for (const cost of [3, 1, 2]) await decider.decide(plainRequest('p', [limit], cost));
    await refundAnonymously(server.redis, names, { partition: 'p', limits: [toCharged(limit, 4)] });
    expect(await remaining([limit])).toEqual([8]);
    for (const cost of [4, 1_000_000, Number.MAX_SAFE_INTEGER]) {
      await refundAnonymously(server.redis, names, { partition: 'p', limits: [toCharged(limit, cost)] });
      expect(await remaining([limit])).toEqual([10]);
    }
    expect((await decider.decide(plainRequest('p', [limit], 10))).code).toBe('admitted');
  });

  it('gives to one limit as often as it is named', async () => {
    const limit = aWindow({ capacity: 10, windowSeconds: DAY });
    await decider.decide(plainRequest('p', [limit], 6));
    const twice = [toCharged(limit, 2), toCharged(limit, 1)];
    await refundAnonymously(server.redis, names, { partition: 'p', limits: twice });
    expect(await remaining([limit])).toEqual([7]);
  });

  it('gives a bucket that is shed nothing: nobody can say how much time a request is', async () => {
    const limit = aDayOf('TokenBucket');
    await decider.decide(plainRequest('p', [limit], 6));
    const shed = { ...toCharged(limit, 2), refill: 0 };
    await refundAnonymously(server.redis, names, { partition: 'p', limits: [shed] });
    expect(await remaining([limit])).toEqual([4]);
  });

  it('creates nothing where nothing was charged', async () => {
    const limits = ALGORITHMS.map((algorithm) => toCharged(aDayOf(algorithm), 1));
    await refundAnonymously(server.redis, names, { partition: 'p', limits });
    await refundAnonymously(server.redis, names, { partition: 'p', limits: [] });
    expect(await server.redis.keys('*')).toEqual([]);
  });

  it.each([0, -1, 1.5, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 53])('is refused with a cost of %s', async (cost) => {
    const limits = [toCharged(aBucket(), cost)];
    await expect(refundAnonymously(server.redis, names, { partition: 'p', limits })).rejects.toThrow(
      `cost ${cost} of limit ${aBucket().field} must be a whole number from 1`,
    );
  });
});
