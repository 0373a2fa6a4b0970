import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { SelectedLimit } from '../../policy/selection.ts';
import { RedisClock } from '../../store/clock.ts';
import { Decider } from '../../store/decide.ts';
import { createNames } from '../../store/names.ts';
import { contentsOf } from '../harness/contents.ts';
import { aBucket, aLimit, aWindow } from '../harness/limits.ts';
import { punishableRequest } from '../harness/penalties.ts';
import { type PrivateRedis, privateRedis } from '../harness/redis.ts';
import { decidePlain, type PlainVerdict } from '../harness/plain.ts';

const names = createNames('default');
const PARTITION = 'partition11';
const ALGORITHMS = ['TokenBucket', 'SlidingWindow'] as const;
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

const decide = (limits: readonly SelectedLimit[], cost = 1): Promise<PlainVerdict> =>
  decidePlain(decider, { partition: PARTITION, cost, limits });

const keyOf = (limit: SelectedLimit): string => names.counters(PARTITION, limit.subject);

describe('a denied request', () => {
  it.each(ALGORITHMS)(
    'leaves every hash byte for byte as it was, and its time to live (%s denies) [P4]',
    async (algorithm) => {
      const scarce = aLimit({ algorithm, capacity: 2, windowSeconds: DAY });
      const limits = [
        aBucket({ subject: 'before', windowSeconds: 60 }),
        scarce,
        aWindow({ subject: 'after', windowSeconds: 60 }),
      ];
      expect([(await decide(limits)).admitted, (await decide(limits)).admitted]).toEqual([true, true]);
      const before = await contentsOf(server.redis);
      expect(Object.keys(before)).toHaveLength(3);
      for (let i = 0; i < 5; i += 1) expect((await decide(limits)).admitted).toBe(false);
      expect(await contentsOf(server.redis)).toEqual(before);
    },
  );

  it('creates no key for a subject that was not there', async () => {
    const exhausted = aBucket({ capacity: 1, windowSeconds: DAY });
    await decide([exhausted]);
    const verdict = await decide([aWindow({ subject: 'new' }), exhausted, aBucket({ subject: 'newer' })]);
    expect(verdict.admitted).toBe(false);
    expect(await server.redis.keys('*')).toEqual([keyOf(exhausted)]);
  });

  it('is denied, and never charged, when it costs more than the limit ever holds [P3]', async () => {
    for (const algorithm of ALGORITHMS) {
      const verdict = await decide([aLimit({ algorithm, capacity: 10 })], 11);
      expect(verdict).toMatchObject({ admitted: false, outcomes: [{ remaining: 10, retryAfterMicros: -1 }] });
    }
    expect(await server.redis.keys('*')).toEqual([]);
  });
});

describe('a request over several subjects', () => {
  const limits = [
    aBucket({ subject: 'a', capacity: 3, windowSeconds: DAY }),
    aWindow({ subject: 'b', capacity: 3, windowSeconds: DAY }),
    aBucket({ subject: 'c', capacity: 3, windowSeconds: DAY }),
    aWindow({ subject: 'c', capacity: 3, windowSeconds: DAY }),
  ];

  it.each([0, 1, 2, 3])('takes from none when limit %i has nothing left [P5]', async (index) => {
    const exhausted = limits.slice(index, index + 1);
    expect((await decide(exhausted, 3)).admitted).toBe(true);
    const { admitted, outcomes } = await decide(limits);
    expect(admitted).toBe(false);
    expect(outcomes.map(({ remaining }) => remaining)).toEqual(limits.map((_, i) => (i === index ? 0 : 3)));
    expect(outcomes.map(({ retryAfterMicros }) => retryAfterMicros > 0)).toEqual(limits.map((_, i) => i === index));
    const others = limits.filter((_, i) => i !== index);
    expect((await decide(others, 3)).admitted).toBe(true);
  });

  it('takes from all when all have something left', async () => {
    const { admitted, outcomes } = await decide(limits, 2);
    expect(admitted).toBe(true);
    expect(outcomes.map(({ remaining }) => remaining)).toEqual([1, 1, 1, 1]);
  });

  it('sees what the requests before it in the same batch took', async () => {
    const [shared] = limits;
    if (shared === undefined) throw new Error('no limit');
    const verdicts = await Promise.all([decide([shared], 2), decide([shared], 2), decide([shared], 1)]);
    expect(verdicts.map(({ admitted }) => admitted)).toEqual([true, false, true]);
  });
});

describe('when Redis forgets the script', () => {
  it('counts exactly, without an error, request by request [P21]', async () => {
    const limit = aBucket({ capacity: 10, windowSeconds: DAY });
    const remaining: number[] = [];
    for (let i = 0; i < 10; i += 1) {
      await server.redis.script('FLUSH');
      const { admitted, outcomes } = await decide([limit]);
      expect(admitted).toBe(true);
      remaining.push(...outcomes.map((outcome) => outcome.remaining));
    }
    expect(remaining).toEqual([9, 8, 7, 6, 5, 4, 3, 2, 1, 0]);
    await server.redis.script('FLUSH');
    expect((await decide([limit])).admitted).toBe(false);
  });

  it('counts exactly while many requests are under way [P21]', async () => {
    const limit = aWindow({ capacity: 250, windowSeconds: DAY });
    const other = server.redis.duplicate();
    const eager = new Decider(server.redis, names, new RedisClock(), { deadlineMillis: 60_000, maxBatch: 10 });
    const verdicts = Array.from({ length: 500 }, async (_, i) => {
      if (i % 50 === 0) await other.script('FLUSH');
      return decidePlain(eager, { partition: PARTITION, cost: 1, limits: [limit] });
    });
    expect((await Promise.all(verdicts)).filter(({ admitted }) => admitted)).toHaveLength(250);
    other.disconnect();
  });
});

describe('a key that holds something else', () => {
  it('fails its own request only; the others of the batch are decided [P25]', async () => {
    const planted = aBucket({ subject: 'planted' });
    const sound = aBucket({ subject: 'sound', capacity: 2, windowSeconds: DAY });
    await server.redis.set(keyOf(planted), 'not a hash');
    const outcomes = await Promise.allSettled([
      decide([sound]),
      decide([planted]),
      decide([sound, planted]),
      decide([sound]),
      decide([sound]),
    ]);
    expect(outcomes).toMatchObject([
      { status: 'fulfilled', value: { admitted: true } },
      { status: 'rejected', reason: { name: 'StoreError', code: 'WRONG_TYPE', transient: false } },
      { status: 'rejected', reason: { code: 'WRONG_TYPE' } },
      { status: 'fulfilled', value: { admitted: true } },
      { status: 'fulfilled', value: { admitted: false } },
    ]);
    expect(await server.redis.get(keyOf(planted))).toBe('not a hash');
  });
});

describe('a Redis that is out of memory', () => {
  it('refuses a batch before anything of it is written, admissions and penalties alike [P26]', async () => {
    const limit = aWindow({ capacity: 2, windowSeconds: DAY });
    await decide([limit]);
    const punishable = { ...punishableRequest('flooder'), partition: PARTITION };
    await decider.decide(punishable);
    const before = await contentsOf(server.redis);
    await server.redis.config('SET', 'maxmemory', '1');
    try {
      const refused = { status: 'rejected', reason: { code: 'REFUSED', transient: true } };
      expect(await Promise.allSettled([decide([limit]), decider.decide(punishable)])).toMatchObject([refused, refused]);
    } finally {
      await server.redis.config('SET', 'maxmemory', '0');
    }
    expect(await contentsOf(server.redis)).toEqual(before);
    expect((await decide([limit])).admitted).toBe(true);
  });
});

describe('a value that is no state of the limit', () => {
  const state = (bytes: readonly number[], length: number): Buffer =>
    Buffer.from(Array.from({ length }, (_, i) => bytes[i] ?? 0xff));
  /** Since 1970, a debt of 2^52 microseconds at one request per window: what no limit of these tests leaves room for. */
  const longDebt = [0, 0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
  /** A newest slot in the future, and a window of 61 seconds. */
  const ofAnotherWindow = [0, 1, 0, 0, 0, 0, 0, 61];

  it.each<[string, Buffer]>([
    ['empty', Buffer.of()],
    ['a number', Buffer.from('10')],
    ['a bucket that is cut short', state([98, ...longDebt], 24)],
    ['a bucket that is too long', state([98, ...longDebt], 26)],
    ['a bucket with another tag', state([99, ...longDebt], 25)],
    ['a bucket that owes more than any can', state([98, 0, 0, 0, 0, 0, 0, 0, 0x7f], 25)],
    ['as long as a ring, with another tag', state([9], 64)],
    ['a ring with the length of another', state([1], 31)],
    ['a ring of another window', state([1, ...ofAnotherWindow], 20)],
  ])('is treated as absent: %s', async (_title, value) => {
    for (const algorithm of ALGORITHMS) {
      const limit = aLimit({ algorithm, subject: algorithm, capacity: 5, windowSeconds: DAY });
      await server.redis.hset(keyOf(limit), limit.field, value);
      const verdicts = await Promise.all(Array.from({ length: 6 }, () => decide([limit])));
      expect(verdicts.map(({ admitted }) => admitted)).toEqual([true, true, true, true, true, false]);
    }
  });
});

describe('the time to live of a subject', () => {
  it.each(ALGORITHMS)('reaches at least to its full recovery (%s)', async (algorithm) => {
    for (const [index, windowSeconds] of [1, 7, 60, DAY].entries()) {
      const limit = aLimit({ algorithm, subject: `s${index}`, windowSeconds, capacity: 7 });
      for (const cost of [1, 3, 2]) {
        const { admitted, redisMicros, outcomes } = await decide([limit], cost);
        expect(admitted).toBe(true);
        const recovers = redisMicros + Math.max(...outcomes.map(({ resetAfterMicros }) => resetAfterMicros));
        expect((await server.redis.pexpiretime(keyOf(limit))) * 1000).toBeGreaterThanOrEqual(recovers);
      }
    }
  });

  it('is extended by a longer limit and never shortened by a shorter one', async () => {
    const [short, long] = [aBucket({ windowSeconds: 2, capacity: 2 }), aBucket({ windowSeconds: DAY, capacity: 2 })];
    await decide([short]);
    const atFirst = await server.redis.pexpiretime(keyOf(short));
    await decide([long]);
    const extended = await server.redis.pexpiretime(keyOf(short));
    expect(extended - atFirst).toBeGreaterThan(10_000_000);
    await decide([short]);
    expect(await server.redis.pexpiretime(keyOf(short))).toBe(extended);
  });

  it('is there on every key, whatever was decided', async () => {
    const planted = aBucket({ subject: 'planted' });
    await server.redis.hset(keyOf(planted), planted.field, 'left here without a time to live');
    const decisions: Promise<PlainVerdict>[] = [decide([planted])];
    for (let i = 0; i < 200; i += 1) {
      const windowSeconds = [1, 60, 3_600, DAY][i % 4] ?? 1;
      const limits = ALGORITHMS.map((algorithm) => aLimit({ algorithm, subject: `s${i % 17}`, windowSeconds }));
      decisions.push(decide(limits, 1 + (i % 4)));
    }
    await Promise.all(decisions);
    const keys = await server.redis.keys('*');
    expect(keys.length).toBeGreaterThan(10);
    for (const key of keys) expect(await server.redis.pttl(key)).toBeGreaterThan(0);
  });
});

describe('the memory of a subject', () => {
  it.each([
    ['two buckets', aBucket({ windowSeconds: 1 }), aBucket({ windowSeconds: DAY })],
    ['two windows', aWindow({ windowSeconds: 1 }), aWindow({ windowSeconds: DAY })],
    ['a bucket and a window', aBucket({ windowSeconds: DAY }), aWindow({ windowSeconds: DAY })],
  ])('is at most 300 bytes with %s, however much they count', async (_title, one, other) => {
    for (const requests of [1, 100_000]) {
      // 22 characters, as subjects have.
      const subject = `subject-of-22-chars-${requests === 1 ? 'aa' : 'bb'}`;
      const limits = [one, other].map((limit): SelectedLimit => ({ ...limit, subject, capacity: requests, refill: 1 }));
      expect((await decide(limits, requests)).admitted).toBe(true);
      expect(await server.redis.hlen(names.counters(PARTITION, subject))).toBe(2);
      const bytes = await server.redis.memory('USAGE', names.counters(PARTITION, subject));
      expect(bytes).toBeGreaterThan(100);
      expect(bytes).toBeLessThanOrEqual(300);
    }
  });

  it('is at most 300 bytes at the largest counts that a limit may have', async () => {
    const subject = 'subject-of-22-chars-cc';
    const largest = { subject, windowSeconds: 1, capacity: 9_007_199_254 };
    expect((await decide([aBucket(largest), aWindow(largest)], 9_007_199_254)).admitted).toBe(true);
    expect(await server.redis.memory('USAGE', names.counters(PARTITION, subject))).toBeLessThanOrEqual(300);
  });
});
