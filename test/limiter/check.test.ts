import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import {
  type Answer,
  type Json,
  metric,
  PEPPER,
  startTestLimiter,
  targetOn,
  type TestLimiter,
  untilRevision,
} from '../harness/limiter.ts';
import { aPolicy, publishEntries, publishKeys } from '../harness/publish.ts';
import { type PrivateRedis, privateRedis } from '../harness/redis.ts';

const HOUR = 3_600;

let server: PrivateRedis;
let limiter: TestLimiter;
let revision: number;

beforeAll(async () => {
  server = await privateRedis();
  const target = targetOn(server);
  await publishKeys(
    target,
    [
      { key: 'key of acme', consumer: 'acme', tier: 'pro' },
      { key: 'second key of acme', consumer: 'acme', tier: 'pro' },
      { key: 'key without a tier', consumer: 'zeta' },
      { key: 'key of another namespace', consumer: 'other', namespace: 'shipping' },
    ],
    PEPPER,
  );
  ({ revision } = await publishEntries(target, [
    aPolicy({
      tiers: [
        { name: 'free', default: true, limits: [{ windowSeconds: HOUR, requests: 3, burst: 5 }] },
        { name: 'pro', limits: [{ windowSeconds: HOUR, requests: 100 }] },
      ],
      rules: [{ name: 'per-consumer', countBy: ['consumer'], limitsFrom: 'Tier', algorithm: 'TokenBucket' }],
    }),
    aPolicy(
      {
        domain: 'payments.window',
        rules: [
          {
            name: 'writes',
            match: { methods: ['POST'], paths: [{ type: 'Prefix', value: '/v1' }] },
            countBy: ['clientIP'],
            algorithm: 'SlidingWindow',
            limits: [{ windowSeconds: HOUR, requests: 2 }],
          },
        ],
      },
      'window',
    ),
    aPolicy(
      {
        domain: 'payments.tenants',
        rules: [
          {
            name: 'per-tenant',
            countBy: ['tenant', 'descriptor:region'],
            algorithm: 'TokenBucket',
            limits: [{ windowSeconds: HOUR, requests: 10 }],
          },
        ],
      },
      'tenants',
    ),
  ]));
  limiter = await startTestLimiter({ redisUrl: server.url, maxRememberedDenials: 0 });
  await untilRevision(limiter, revision);
});
afterAll(async () => {
  await limiter.stop();
  await server.stop();
});
beforeEach(async () => {
  // Counters only: what is published stays.
  for (const key of await server.redis.keys('sluice:default:c1:*')) await server.redis.del(key);
});

const check = (body: Json): Promise<Answer> => limiter.check({ domain: 'payments', ...body });

async function remaining(body: Json): Promise<unknown> {
  return (await check(body)).body['remaining'];
}

describe('a decision', () => {
  it('says what was decided and by which numbers', async () => {
    const { status, headers, body } = await check({ consumer: 'alice', request_id: 'r-1' });
    expect(status).toBe(200);
    expect(headers.get('content-type')).toBe('application/json');
    expect(body).toEqual({
      action: 'ALLOW',
      allowed: true,
      reason: 'WITHIN_LIMIT',
      triggered_by: 'RateLimit',
      retry_after: null,
      limit: 5,
      remaining: 4,
      // One of three requests an hour.
      reset_after: 1_200,
      window_seconds: HOUR,
      strategy: 'token_bucket',
      tier: 'free',
      mode: 'NORMAL',
      policy: 'payments/policy',
      rule: 'per-consumer',
      penalty: 'NORMAL',
      shadow: [],
      revision,
      request_id: 'r-1',
    });
  });

  it('to throttle is a 200 too, and says when the same request would pass', async () => {
    expect((await check({ consumer: 'alice', cost: 5 })).body).toMatchObject({ allowed: true, remaining: 0 });
    const { status, body } = await check({ consumer: 'alice' });
    expect(status).toBe(200);
    expect(body).toMatchObject({
      action: 'THROTTLE',
      allowed: false,
      reason: 'RATE_LIMIT_EXCEEDED',
      triggered_by: 'RateLimit',
      limit: 5,
      remaining: 0,
      policy: 'payments/policy',
      rule: 'per-consumer',
    });
    // Seconds to the microsecond: a little less than the 20 minutes in which one request comes back.
    expect(body['retry_after']).toBeLessThan(1_200);
    expect(body['retry_after']).toBeGreaterThan(1_000);
  });

  it('on a request that costs more than the limit ever holds names no time', async () => {
    const { body } = await check({ consumer: 'alice', cost: 6 });
    expect(body).toMatchObject({ action: 'THROTTLE', reason: 'COST_EXCEEDS_LIMIT', retry_after: null, remaining: 5 });
  });

  it('in a domain without policies is to allow', async () => {
    const { status, body } = await limiter.check({ domain: 'unheard.of', consumer: 'alice', tier: 'any' });
    expect(status).toBe(200);
    expect(body).toMatchObject({
      action: 'ALLOW',
      allowed: true,
      reason: 'NO_POLICY',
      limit: null,
      policy: null,
      revision,
    });
  });

  it('applies the rules whose matchers match, on paths in their normal form', async () => {
    const ask = async (change: Json): Promise<unknown> => {
      const request = { domain: 'payments.window', ip: '203.0.113.9', method: 'POST', path: '/v1/charges', ...change };
      return (await limiter.check(request)).body['remaining'];
    };
    expect(await ask({})).toBe(1);
    expect(await ask({ method: 'GET' })).toBeNull();
    expect(await ask({ path: '/v1beta/charges' })).toBeNull();
    expect(await ask({ path: '//v2/../%76%31/charges?page=2', method: 'post' })).toBe(0);
    expect(await ask({})).toBe(0);
    expect(await ask({ ip: '203.0.113.10' })).toBe(1);
  });

  it('counts a rule that lacks what it counts by, and does not apply it', async () => {
    const series = 'sluice_rule_input_missing_total{policy="payments/tenants",rule="per-tenant",input="tenant"}';
    const { body } = await limiter.check({ domain: 'payments.tenants', descriptors: { region: 'eu' } });
    expect(body).toMatchObject({ action: 'ALLOW', reason: 'WITHIN_LIMIT', limit: null, rule: null });
    expect(await metric(limiter, series)).toBe(1);
    const whole = { domain: 'payments.tenants', tenant: 't1', descriptors: { region: 'eu' } };
    expect((await limiter.check(whole)).body).toMatchObject({ remaining: 9 });
    expect(await metric(limiter, series)).toBe(1);
  });

  it('is counted with its outcome', async () => {
    const series = (action: string, reason: string): string =>
      `sluice_decisions_total{domain="payments",policy="payments/policy",action="${action}",reason="${reason}"}`;
    const outcomes = [
      series('ALLOW', 'WITHIN_LIMIT'),
      series('THROTTLE', 'RATE_LIMIT_EXCEEDED'),
      series('THROTTLE', 'COST_EXCEEDS_LIMIT'),
    ];
    const counted = (): Promise<number[]> => Promise.all(outcomes.map((outcome) => metric(limiter, outcome)));
    const [allowed = 0, throttled = 0, tooMuch = 0] = await counted();
    for (const cost of [3, 2, 1, 1, 6]) await check({ consumer: 'counted', cost });
    expect(await counted()).toEqual([allowed + 2, throttled + 2, tooMuch + 1]);
  });
});

describe('who is limited', () => {
  it('is the owner of the API key, in the tier of the owner, whichever key it is', async () => {
    expect((await check({ api_key: 'key of acme' })).body).toMatchObject({ tier: 'pro', limit: 100, remaining: 99 });
    expect(await remaining({ api_key: 'second key of acme' })).toBe(98);
    expect(await remaining({ headers: { 'X-API-Key': 'key of acme' } })).toBe(97);
    expect((await check({ api_key: 'key without a tier' })).body).toMatchObject({ tier: 'free', remaining: 4 });
  });

  it('is whom the caller names, who is never the owner of a key of that name', async () => {
    await check({ api_key: 'key without a tier' });
    expect(await remaining({ consumer: 'zeta' })).toBe(4);
    expect(await remaining({ consumer: 'key:zeta' })).toBe(4);
  });

  it('is otherwise the address, of IPv6 the network', async () => {
    expect(await remaining({ ip: '2001:db8:1:2::1' })).toBe(4);
    expect(await remaining({ ip: '2001:db8:1:2:ffff::2' })).toBe(3);
    expect(await remaining({ ip: '2001:db8:1:3::1' })).toBe(4);
    expect(await remaining({ ip: '::ffff:203.0.113.9' })).toBe(4);
    expect(await remaining({ ip: '203.0.113.9' })).toBe(3);
    expect(await remaining({ consumer: '203.0.113.9' })).toBe(4);
  });

  it('is in the tier that the caller names, with one counter for all tiers', async () => {
    expect((await check({ consumer: 'alice', tier: 'pro', cost: 50 })).body).toMatchObject({
      tier: 'pro',
      remaining: 50,
    });
    expect((await check({ api_key: 'key of acme', tier: 'free' })).body).toMatchObject({ tier: 'free', limit: 5 });
    // 50 of 100 an hour are half an hour of debt; the free bucket holds 100 minutes, of which one more takes 20.
    expect((await check({ consumer: 'alice', tier: 'free' })).body).toMatchObject({ tier: 'free', remaining: 2 });
  });

  it.each(['wrong', 'key of another namespace', 'Key of acme', 'k'.repeat(512)])(
    'is nobody whose API key is "%s"',
    async (key) => {
      const series = 'sluice_decisions_total{domain="payments",policy="",action="BLOCK",reason="INVALID_API_KEY"}';
      const before = await metric(limiter, series);
      const { status, headers, body } = await check({ api_key: key, consumer: 'alice', request_id: 'r-1' });
      expect(status).toBe(401);
      expect(headers.get('content-type')).toBe('application/problem+json');
      expect(body).toEqual({
        type: 'about:blank',
        title: 'Invalid API key',
        status: 401,
        code: 'INVALID_API_KEY',
        detail: 'the API key is not valid for this domain',
        request_id: 'r-1',
      });
      expect(await metric(limiter, series)).toBe(before + 1);
      expect(await remaining({ consumer: 'alice' })).toBe(4);
    },
  );
});
