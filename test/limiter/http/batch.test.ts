import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  type Answer,
  type Json,
  PEPPER,
  post,
  startTestLimiter,
  targetOn,
  type TestLimiter,
  untilRevision,
} from '../../harness/limiter.ts';
import { aPolicy, publishEntries, publishKeys } from '../../harness/publish.ts';
import { type PrivateRedis, privateRedis } from '../../harness/redis.ts';

let server: PrivateRedis;
let limiter: TestLimiter;
let suspicious: TestLimiter;
beforeAll(async () => {
  server = await privateRedis();
  const { revision } = await publishEntries(targetOn(server), [
    aPolicy({
      domain: 'payments',
      tiers: [{ name: 'free', default: true, limits: [{ windowSeconds: 3_600, requests: 3 }] }],
      rules: [{ name: 'per-consumer', countBy: ['consumer'], algorithm: 'TokenBucket', limitsFrom: 'Tier' }],
    }),
  ]);
  await publishKeys(targetOn(server), [{ key: 'good-key', consumer: 'acme' }], PEPPER);
  limiter = await startTestLimiter({ redisUrl: server.url });
  suspicious = await startTestLimiter({
    redisUrl: server.url,
    pod: 'pod-b',
    doors: { trustedCallers: ['192.0.2.0/24'] },
  });
  await Promise.all([limiter, suspicious].map((one) => untilRevision(one, revision)));
});
afterAll(async () => {
  await Promise.all([limiter, suspicious].map((one) => one.stop()));
  await server.stop();
});

const batch = (checks: readonly Json[]): Promise<Answer> =>
  post(`${limiter.url}/v1/decision/batch`, JSON.stringify({ checks }));

const decisionsOf = ({ body }: Answer): Json[] => body['decisions'] as Json[];

describe('POST /v1/decision/batch', () => {
  it('answers each check in its order, as if they had come one by one', async () => {
    const alice = { domain: 'payments', consumer: 'alice' };
    const answer = await batch([
      { ...alice, request_id: 'a' },
      { domain: 'nobody.knows' },
      { ...alice, request_id: 'b' },
      { domain: 'payments', api_key: 'bad-key', request_id: 'c' },
      { ...alice, cost: 2 },
      { domain: 'payments', consumer: 'bob', mode: 'peek' },
    ]);
    expect(answer.status).toBe(200);
    expect(decisionsOf(answer).map(({ action, reason, remaining }) => [action, reason, remaining])).toEqual([
      ['ALLOW', 'WITHIN_LIMIT', 2],
      ['ALLOW', 'NO_POLICY', null],
      ['ALLOW', 'WITHIN_LIMIT', 1],
      ['BLOCK', 'INVALID_API_KEY', null],
      ['THROTTLE', 'RATE_LIMIT_EXCEEDED', 1],
      ['ALLOW', 'WITHIN_LIMIT', 3],
    ]);
    const ids = decisionsOf(answer).map(({ request_id: id }) => id);
    expect([ids[0], ids[2], ids[3]]).toEqual(['a', 'b', 'c']);
    expect(new Set(ids).size).toBe(6);
  });

  it('takes a thousand, and not one more', async () => {
    const many = (count: number): Json[] =>
      Array.from({ length: count }, (_, i) => ({ domain: 'payments', consumer: `c${i}` }));
    const answer = await batch(many(1_000));
    expect(decisionsOf(answer)).toHaveLength(1_000);
    expect(decisionsOf(answer).every(({ allowed, remaining }) => allowed === true && remaining === 2)).toBe(true);
    const { status, body } = await batch(many(1_001));
    expect(status).toBe(400);
    expect(body['detail']).toMatch(/must have at most 1000 items$/);
  });

  it('charges nothing when any of it is not understood, and says which', async () => {
    const dora = { domain: 'payments', consumer: 'dora' };
    const bad = await batch([dora, { ...dora, colour: 'red' }]);
    expect(bad).toMatchObject({ status: 400, body: { errors: [{ field: 'checks[1].colour' }] } });
    const unknown = await batch([dora, { ...dora, tier: 'gold' }]);
    expect(unknown).toMatchObject({
      status: 400,
      body: { errors: [{ field: 'checks[1].tier', reason: 'UNKNOWN_TIER' }] },
    });
    expect(decisionsOf(await batch([dora]))).toMatchObject([{ remaining: 2 }]);
  });

  it('is a problem without any check', async () => {
    expect((await batch([])).body['detail']).toMatch(/must have at least 1 item$/);
    expect(await post(`${limiter.url}/v1/decision/batch`, '[]')).toMatchObject({ status: 400 });
  });
});

describe('a caller that is not trusted', () => {
  it('is not believed about who asks, in which tier, from where and at what cost', async () => {
    const ask = (body: Json): Promise<Answer> => suspicious.check({ domain: 'payments', ...body });
    const first = await ask({ consumer: 'one', ip: '203.0.113.1', cost: 3, tier: 'gold', tenant: 'x' });
    expect(first).toMatchObject({ status: 200, body: { allowed: true, remaining: 2 } });
    // Whatever it says, it is counted as the address that it comes from.
    expect(await ask({ consumer: 'two', ip: '203.0.113.2' })).toMatchObject({ body: { remaining: 1 } });
    expect(await ask({})).toMatchObject({ body: { remaining: 0 } });
    // A key speaks for itself.
    expect(await ask({ api_key: 'good-key' })).toMatchObject({ body: { remaining: 2 } });
  });

  it('gives nothing back', async () => {
    const answer = await post(`${suspicious.url}/v1/decision/refund`, '{"request_id": "a"}');
    expect(answer).toMatchObject({ status: 403, body: { code: 'NOT_TRUSTED' } });
  });
});
