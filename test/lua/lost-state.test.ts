// What it costs when Redis loses state, or goes on with an older one and another clock. Numbers as in docs/bounds.md.
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { SelectedLimit } from '../../policy/selection.ts';
import { RedisClock } from '../../store/clock.ts';
import { Decider } from '../../store/decide.ts';
import { createNames } from '../../store/names.ts';
import { type Admission, mostOf } from '../harness/admissions.ts';
import { eventually } from '../harness/eventually.ts';
import { aLimit } from '../harness/limits.ts';
import { decidePlain } from '../harness/plain.ts';
import { type PrivateRedis, privateRedis } from '../harness/redis.ts';
import { onVirtualClock, setClock } from '../harness/virtual-clock.ts';

const names = createNames('lost');
const START = 1_790_000_000_000_000n;
const SECOND = 1_000_000n;
const ALGORITHMS = ['TokenBucket', 'SlidingWindow'] as const;

let primary: PrivateRedis;
let replica: PrivateRedis;

beforeEach(async () => {
  [primary, replica] = await Promise.all([privateRedis(), privateRedis(['--repl-diskless-sync-delay', '0'])]);
});
afterEach(async () => {
  await Promise.all([primary.stop(), replica.stop()]);
});

async function follow(): Promise<void> {
  await primary.redis.config('SET', 'repl-diskless-sync-delay', '0');
  await replica.redis.replicaof('127.0.0.1', primary.port);
  await eventually(async () => expect(await replica.redis.info('replication')).toContain('master_link_status:up'));
}

async function caughtUp(): Promise<void> {
  const offset = async ({ redis }: PrivateRedis, field: string): Promise<string | undefined> =>
    new RegExp(`^${field}:(\\d+)`, 'm').exec(await redis.info('replication'))?.[1];
  await eventually(async () => {
    const [there, here] = await Promise.all([
      offset(primary, 'master_repl_offset'),
      offset(replica, 'slave_repl_offset'),
    ]);
    expect(here).toBe(there);
  });
}

/** Asks for one every `everyMicros` for some time; what was admitted when, by the time that really passes. */
async function drain(
  { redis }: PrivateRedis,
  limit: SelectedLimit,
  { from, seconds, clockBehind = 0n }: { from: bigint; seconds: bigint; clockBehind?: bigint },
): Promise<Admission[]> {
  const decider = new Decider(redis, names, new RedisClock(), {
    deadlineMillis: 60_000,
    script: onVirtualClock('decide'),
  });
  const admissions: Admission[] = [];
  for (let at = from; at < from + seconds * SECOND; at += 250_000n) {
    await setClock(redis, at - clockBehind);
    const { admitted } = await decidePlain(decider, { partition: 'p', cost: 1, limits: [limit] });
    if (admitted) admissions.push({ at, cost: 1n });
  }
  return admissions;
}

describe('a Redis that is promoted', () => {
  it.each(ALGORITHMS)(
    'with everything replicated and a clock an hour behind admits no more than the bound, and locks nobody out (%s) [P19]',
    async (algorithm) => {
      const limit = aLimit({ algorithm, capacity: 8, refill: 8, windowSeconds: 10 });
      await follow();
      const before = await drain(primary, limit, { from: START, seconds: 12n });
      await caughtUp();
      await replica.redis.replicaof('NO', 'ONE');
      const from = START + 12n * SECOND;
      const after = await drain(replica, limit, { from, seconds: 30n, clockBehind: 3_600n * SECOND });
      expect(mostOf(limit, [...before, ...after])).toBeLessThanOrEqual(BigInt(limit.capacity));
      // Two windows later at the latest it goes on as ever.
      expect(after.filter(({ at }) => at > from + 12n * SECOND).length).toBeGreaterThanOrEqual(8);
    },
  );

  it.each(ALGORITHMS)('without what was not replicated admits at most that much more (%s) [P19]', async (algorithm) => {
    const limit = aLimit({ algorithm, capacity: 8, refill: 8, windowSeconds: 10 });
    await follow();
    const replicated = await drain(primary, limit, { from: START, seconds: 1n });
    await caughtUp();
    // The link breaks, and the primary goes on for a while.
    await replica.redis.replicaof('NO', 'ONE');
    const lost = await drain(primary, limit, { from: START + SECOND, seconds: 1n });
    expect(lost.length).toBeGreaterThan(0);
    const after = await drain(replica, limit, { from: START + 2n * SECOND, seconds: 20n });
    const most = mostOf(limit, [...replicated, ...lost, ...after]);
    expect(most).toBeGreaterThan(BigInt(limit.capacity));
    expect(most).toBeLessThanOrEqual(BigInt(limit.capacity + lost.length));
  });
});

describe('a Redis that restarts empty', () => {
  it.each(ALGORITHMS)(
    'admits at most one full limit more, and the pod goes on by itself (%s) [P22]',
    async (algorithm) => {
      const limit = aLimit({ algorithm, capacity: 8, refill: 8, windowSeconds: 10 });
      const before = await drain(primary, limit, { from: START, seconds: 5n });
      await primary.stopServer();
      await primary.startServer();
      await eventually(() => primary.redis.ping());
      const after = await drain(primary, limit, { from: START + 5n * SECOND, seconds: 20n });
      const most = mostOf(limit, [...before, ...after]);
      expect(most).toBeGreaterThan(BigInt(limit.capacity));
      expect(most).toBeLessThanOrEqual(2n * BigInt(limit.capacity));
    },
  );
});

describe('a clock of Redis that steps forward', () => {
  it.each([
    ['1 ms', 1_000n],
    ['1 s', SECOND],
    ['1 h', 3_600n * SECOND],
    ['1 d', 86_400n * SECOND],
  ])(
    'gives at most what would have flowed in meanwhile, and never more than one full limit: %s [P17]',
    async (_, step) => {
      for (const algorithm of ALGORITHMS) {
        const limit = aLimit({ algorithm, subject: `${algorithm} ${step}`, capacity: 8, refill: 8, windowSeconds: 10 });
        const before = await drain(primary, limit, { from: START, seconds: 5n });
        const after = await drain(primary, limit, { from: START + 5n * SECOND, seconds: 20n, clockBehind: -step });
        const flowed = (step * 8n) / (10n * SECOND) + 1n;
        const extra = algorithm === 'TokenBucket' && flowed < 8n ? flowed : 8n;
        expect(mostOf(limit, [...before, ...after])).toBeLessThanOrEqual(8n + extra);
        expect(after.length).toBeGreaterThanOrEqual(8);
      }
    },
  );
});
