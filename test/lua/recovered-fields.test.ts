import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { SelectedLimit } from '../../policy/selection.ts';
import { RedisClock } from '../../store/clock.ts';
import { Decider } from '../../store/decide.ts';
import { createNames } from '../../store/names.ts';
import { aBucket, aLimit, aWindow } from '../harness/limits.ts';
import { type PrivateRedis, privateRedis } from '../harness/redis.ts';
import { onVirtualClock, setClock } from '../harness/virtual-clock.ts';
import { decidePlain } from '../harness/plain.ts';

const names = createNames('default');
const START = 1_790_000_000_000_000n;
const SECOND = 1_000_000n;
const DAY = 86_400;

let server: PrivateRedis;
let decider: Decider;

beforeAll(async () => {
  server = await privateRedis();
  const options = { deadlineMillis: 60_000, script: onVirtualClock('decide') };
  decider = new Decider(server.redis, names, new RedisClock(), options);
});
afterAll(() => server.stop());
beforeEach(async () => {
  await server.redis.flushall();
});

const keyOf = (limit: SelectedLimit): string => names.counters('p', limit.subject);

async function admitAt(micros: bigint, limit: SelectedLimit, cost = 1): Promise<void> {
  await setClock(server.redis, micros);
  const { admitted } = await decidePlain(decider, { partition: 'p', cost, limits: [limit] });
  expect(admitted).toBe(true);
}

describe('an admission', () => {
  const long = aBucket({ windowSeconds: DAY });

  it.each([
    ['TokenBucket', 60n * SECOND],
    // Ten slots after the one in which it was counted.
    ['SlidingWindow', 66n * SECOND],
  ] as const)(
    'drops the field of another limit once that has recovered, and not before (%s)',
    async (algorithm, recovery) => {
      const other = aLimit({ algorithm, windowSeconds: 60, capacity: 10 });
      await admitAt(START, other, 10);
      await admitAt(START + recovery - 10n * SECOND, long);
      expect((await server.redis.hkeys(keyOf(long))).toSorted()).toEqual([long.field, other.field].toSorted());
      await admitAt(START + recovery + SECOND, long);
      expect(await server.redis.hkeys(keyOf(long))).toEqual([long.field]);
    },
  );

  it('drops what is no state of any limit', async () => {
    await server.redis.hset(keyOf(long), 'foreign', 'text', 'broken', Buffer.alloc(25, 'b'));
    await admitAt(START, long);
    expect(await server.redis.hkeys(keyOf(long))).toEqual([long.field]);
  });

  it('drops any number of recovered fields at once', async () => {
    const recovered = Array.from({ length: 10_000 }, (_, i) => [`field-${i}`, 'text']);
    await server.redis.hset(keyOf(long), Object.fromEntries(recovered));
    await admitAt(START, long);
    expect(await server.redis.hkeys(keyOf(long))).toEqual([long.field]);
  });

  it('is what drops fields: a denial leaves recovered ones where they are', async () => {
    const other = aWindow({ windowSeconds: 1, capacity: 1 });
    await admitAt(START, other);
    await admitAt(START, long, 10);
    await setClock(server.redis, START + 100n * SECOND);
    const { admitted } = await decidePlain(decider, { partition: 'p', cost: 10, limits: [long] });
    expect(admitted).toBe(false);
    expect((await server.redis.hkeys(keyOf(long))).toSorted()).toEqual([long.field, other.field].toSorted());
  });
});
