import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { metric, startTestLimiter, targetOn, type TestLimiter, untilRevision } from '../harness/limiter.ts';
import { aPolicy, publishEntries } from '../harness/publish.ts';
import { type PrivateRedis, privateRedis } from '../harness/redis.ts';

let server: PrivateRedis;
let limiter: TestLimiter;

beforeAll(async () => {
  server = await privateRedis();
  const limits = [{ windowSeconds: 3_600, requests: 5 }];
  const rules = [{ name: 'per-consumer', countBy: ['consumer'], algorithm: 'SlidingWindow' as const, limits }];
  await publishEntries(targetOn(server), [aPolicy({ rules })]);
  limiter = await startTestLimiter({ redisUrl: server.url, maxSubjectsPerRule: 20 });
  await untilRevision(limiter, 1);
});
afterAll(async () => {
  await limiter.stop();
  await server.stop();
});

const ask = async (consumer: string): Promise<unknown> =>
  (await limiter.check({ domain: 'payments', consumer })).body['remaining'];

describe('a flood of subjects', () => {
  it('takes a bounded number of counters from Redis, is counted and told of once, and leaves known clients alone', async () => {
    for (let i = 0; i < 20; i += 1) expect(await ask(`known-${i}`)).toBe(4);
    const flood = await Promise.all(Array.from({ length: 200 }, (_, i) => ask(`flood-${i}`)));
    // Sixteen counters of five each are all that it gets.
    expect(flood.filter((remaining) => remaining === 4)).toHaveLength(16);
    expect(await server.redis.keys('sluice:default:c1:*')).toHaveLength(20 + 16);
    const series = 'sluice_subject_overflow_total{policy="payments/policy",rule="per-consumer"}';
    expect(await metric(limiter, series)).toBe(200);
    expect(limiter.logged().filter(({ event }) => event === 'subject_overflow')).toMatchObject([
      { policy: 'payments/policy', rule: 'per-consumer' },
    ]);
    for (let i = 0; i < 20; i += 1) expect(await ask(`known-${i}`)).toBe(3);
  });
});
