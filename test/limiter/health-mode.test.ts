import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { eventually } from '../harness/eventually.ts';
import { type Json, startTestLimiter, targetOn, type TestLimiter, untilRevision } from '../harness/limiter.ts';
import { aHealth, aPolicy, type Entry, publishEntries, type Target } from '../harness/publish.ts';
import { type PrivateRedis, privateRedis } from '../harness/redis.ts';
import { redisMicros } from '../harness/redis-time.ts';

const HOUR = 3_600;

const policies: readonly Entry[] = [
  aPolicy({
    tiers: [
      { name: 'free', default: true, limits: [{ windowSeconds: HOUR, requests: 10, burst: 20, degraded: 2 }] },
      { name: 'pro', limits: [{ windowSeconds: HOUR, requests: 100, burst: 150 }] },
    ],
    rules: [{ name: 'per-consumer', countBy: ['consumer'], limitsFrom: 'Tier', algorithm: 'SlidingWindow' }],
  }),
  aPolicy(
    {
      domain: 'payments.shed',
      rules: [
        {
          name: 'per-consumer',
          countBy: ['consumer'],
          algorithm: 'TokenBucket',
          limits: [{ windowSeconds: HOUR, requests: 10, degraded: 0 }],
        },
      ],
    },
    'shed',
  ),
];

let server: PrivateRedis;
let target: Target;
let limiter: TestLimiter;

beforeAll(async () => {
  server = await privateRedis();
  target = targetOn(server);
  await publishEntries(target, policies);
  limiter = await startTestLimiter({ redisUrl: server.url });
});
afterAll(async () => {
  await limiter.stop();
  await server.stop();
});

/** What `publish` put in force is what the answers speak of. */
async function enforce(...healths: readonly Entry[]): Promise<number> {
  const { revision } = await publishEntries(target, [...policies, ...healths]);
  await untilRevision(limiter, revision);
  return revision;
}

const ask = async (consumer: string, change: Json = {}): Promise<Json> =>
  (await limiter.check({ domain: 'payments', consumer, ...change })).body;

/** An answer, and the times of Redis between which it was decided. */
type Sample = { readonly before: number; readonly after: number; readonly mode: unknown };

/** A pod knows the clock of Redis to within a round trip. */
const TOLERANCE_MICROS = 1_000_000;

describe('DEGRADED', () => {
  it('lowers limits to their degraded value while it is declared, and not a request longer', async () => {
    await enforce();
    expect(await ask('alice')).toMatchObject({ mode: 'NORMAL', limit: 20, remaining: 19 });
    await enforce(aHealth({ mode: 'DEGRADED', reason: 'test' }));
    expect(await ask('alice')).toMatchObject({ mode: 'DEGRADED', limit: 2, remaining: 0, action: 'ALLOW' });
    expect(await ask('alice')).toMatchObject({ mode: 'DEGRADED', action: 'THROTTLE', reason: 'RATE_LIMIT_EXCEEDED' });
    // Without a degraded value only the burst goes.
    expect(await ask('bob', { tier: 'pro' })).toMatchObject({ mode: 'DEGRADED', limit: 100 });
    await enforce(aHealth({ mode: 'NORMAL' }));
    expect(await ask('alice')).toMatchObject({ mode: 'NORMAL', limit: 20, remaining: 17 });
  });

  it('sheds what has a degraded value of 0, and says when to come back', async () => {
    const shed = { domain: 'payments.shed', consumer: 'alice' };
    await enforce(aHealth({ mode: 'DEGRADED', reason: 'test' }));
    expect((await limiter.check(shed)).body).toMatchObject({
      action: 'THROTTLE',
      reason: 'DEGRADED_SHED',
      retry_after: 30,
      limit: 0,
    });
    const expires = (await redisMicros(target.redis)) + 600_000_000;
    await enforce(aHealth({ mode: 'DEGRADED', reason: 'test', expiresAt: new Date(expires / 1000).toISOString() }));
    const { body } = await limiter.check(shed);
    expect(body).toMatchObject({ reason: 'DEGRADED_SHED', limit: 0 });
    expect(body['retry_after']).toBeLessThanOrEqual(600);
    expect(body['retry_after']).toBeGreaterThan(500);
    await enforce();
    expect((await limiter.check(shed)).body).toMatchObject({ reason: 'WITHIN_LIMIT', remaining: 9 });
  });

  it('is limited to its scope', async () => {
    await enforce(
      aHealth({ mode: 'DEGRADED', reason: 'test', scope: { domains: ['payments.shed'] } }, 'one-domain'),
      aHealth({ mode: 'DEGRADED', reason: 'test', scope: { tiers: ['pro'] } }, 'one-tier'),
    );
    expect(await ask('carol')).toMatchObject({ mode: 'NORMAL', limit: 20 });
    expect(await ask('carol', { tier: 'pro' })).toMatchObject({ mode: 'DEGRADED', limit: 100 });
    expect(await ask('carol', { domain: 'payments.shed' })).toMatchObject({ mode: 'DEGRADED', limit: 0 });
  });

  it('ends at its time by the clock of Redis, without anything else happening', async () => {
    // A document holds whole milliseconds.
    const expires = Math.ceil((await redisMicros(target.redis)) / 1000) * 1000 + 2_000_000;
    const expiresAt = new Date(expires / 1000).toISOString();
    const revision = await enforce(aHealth({ mode: 'DEGRADED', reason: 'test', expiresAt }));
    const head = await target.redis.hgetall(target.names.head);
    const samples: Sample[] = [];
    await eventually(async () => {
      const before = await redisMicros(target.redis);
      const { mode } = await ask('dave');
      samples.push({ before, after: await redisMicros(target.redis), mode });
      expect(mode).toBe('NORMAL');
    });
    const tooEarly = samples.filter(({ after, mode }) => after < expires - TOLERANCE_MICROS && mode === 'NORMAL');
    const tooLate = samples.filter(({ before, mode }) => before > expires + TOLERANCE_MICROS && mode === 'DEGRADED');
    expect([...tooEarly, ...tooLate]).toEqual([]);
    expect(await ask('erin')).toMatchObject({ revision, mode: 'NORMAL', limit: 20 });
    expect(await target.redis.hgetall(target.names.head)).toEqual(head);
  });

  it('that is past when it is published changes nothing', async () => {
    const past = new Date((await redisMicros(target.redis)) / 1000 - 1).toISOString();
    await enforce(aHealth({ mode: 'DEGRADED', reason: 'test', expiresAt: past }));
    expect(await ask('frank')).toMatchObject({ mode: 'NORMAL', limit: 20 });
  });
});
