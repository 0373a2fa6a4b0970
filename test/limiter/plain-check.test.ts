import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  type Answer,
  type Json,
  post,
  startTestLimiter,
  targetOn,
  type TestLimiter,
  untilRevision,
} from '../harness/limiter.ts';
import { aPolicy, publishEntries } from '../harness/publish.ts';
import { type PrivateRedis, privateRedis } from '../harness/redis.ts';
import { redisMicros } from '../harness/redis-time.ts';

const HOUR = 3_600;

let server: PrivateRedis;
let limiter: TestLimiter;

beforeAll(async () => {
  server = await privateRedis();
  const { revision } = await publishEntries(targetOn(server), [
    aPolicy({
      domain: 'payments.plain',
      tiers: [
        { name: 'free', default: true, limits: [{ windowSeconds: HOUR, requests: 2 }] },
        { name: 'pro', limits: [{ windowSeconds: HOUR, requests: 100 }] },
      ],
      rules: [{ name: 'per-consumer', countBy: ['consumer'], limitsFrom: 'Tier', algorithm: 'SlidingWindow' }],
    }),
  ]);
  limiter = await startTestLimiter({ redisUrl: server.url, checkDomain: 'payments.plain' });
  await untilRevision(limiter, revision);
});
afterAll(async () => {
  await limiter.stop();
  await server.stop();
});

const check = (body: Json): Promise<Answer> => post(`${limiter.url}/check`, JSON.stringify(body));

const epochSeconds = async (): Promise<number> => Math.floor((await redisMicros(server.redis)) / 1_000_000);

describe('POST /check', () => {
  it('is a 200 with exactly these fields when the request may pass', async () => {
    const before = await epochSeconds();
    const { status, headers, body } = await check({ identifier: 'alice' });
    expect(status).toBe(200);
    expect(headers.get('content-type')).toBe('application/json');
    expect(body).toEqual({
      allowed: true,
      tokens_remaining: 1,
      reset_at: expect.any(Number),
      limit: 2,
      retry_after: null,
    });
    // The window and up to one slot, by the clock of Redis, in whole seconds.
    expect(body['reset_at']).toBeGreaterThanOrEqual(before + HOUR);
    expect(body['reset_at']).toBeLessThanOrEqual((await epochSeconds()) + HOUR + HOUR / 10 + 1);
    expect(headers.get('x-ratelimit-limit')).toBe('2');
    expect(headers.get('x-ratelimit-remaining')).toBe('1');
    expect(headers.get('x-ratelimit-reset')).toBe(String(body['reset_at']));
    expect(headers.get('x-ratelimit-strategy')).toBe('sliding_window');
    expect(headers.has('retry-after')).toBe(false);
  });

  it('is a 429 with exactly these fields when it may not', async () => {
    await check({ identifier: 'bob' });
    await check({ identifier: 'bob' });
    const { status, headers, body } = await check({ identifier: 'bob' });
    expect(status).toBe(429);
    expect(body).toEqual({
      detail: { allowed: false, retry_after: expect.any(Number), reset_at: expect.any(Number), limit: 2 },
    });
    const { retry_after: retryAfter } = Object(body['detail']);
    expect(Number.isInteger(retryAfter)).toBe(true);
    expect(retryAfter).toBeGreaterThan(HOUR - 60);
    expect(headers.get('retry-after')).toBe(String(retryAfter));
    expect(headers.get('x-ratelimit-remaining')).toBe('0');
  });

  it('counts by identifier, in the tier that is given', async () => {
    expect((await check({ identifier: 'carol', tier: 'pro' })).body).toMatchObject({
      tokens_remaining: 99,
      limit: 100,
    });
    expect((await check({ identifier: 'dave', tier: 'pro' })).body).toMatchObject({ tokens_remaining: 99 });
    expect((await check({ identifier: 'carol' })).body).toMatchObject({ tokens_remaining: 0, limit: 2 });
  });

  it.each<[string, string, string]>([
    ['no JSON', '{', 'the body is not valid JSON'],
    ['no identifier', '{}', 'identifier: is required: must be a string'],
    ['an empty identifier', '{"identifier": ""}', 'identifier: "" is not allowed'],
    [
      'a tier that is not known',
      '{"identifier": "a", "tier": "gold"}',
      'tier: "gold" is not allowed: must be free or pro',
    ],
    ['a field that there is not', '{"identifier": "a", "domain": "b"}', 'domain: there is no such field'],
    ['a list', '[]', 'body: [] is not allowed: must be an object'],
    ['too much', `{"identifier": "${'a'.repeat(70_000)}"}`, 'the body is larger than 65536 bytes'],
  ])('is a 400 with nothing but a detail: %s', async (_title, text, detail) => {
    const { status, headers, body } = await post(`${limiter.url}/check`, text);
    expect(status).toBe(400);
    expect(headers.get('content-type')).toBe('application/json');
    expect(body).toEqual({ detail: expect.any(String) });
    expect(body['detail']).toContain(detail);
  });

  it('allows what no policy speaks of, with nulls for the numbers that there are not', async () => {
    const elsewhere = await startTestLimiter({ redisUrl: server.url, pod: 'pod-b', checkDomain: 'nobody.knows' });
    await untilRevision(elsewhere, 1);
    const { status, headers, body } = await post(`${elsewhere.url}/check`, '{"identifier": "alice"}');
    expect(status).toBe(200);
    expect(body).toEqual({ allowed: true, tokens_remaining: null, reset_at: null, limit: null, retry_after: null });
    expect(headers.has('x-ratelimit-limit')).toBe(false);
    await elsewhere.stop();
  });
});
