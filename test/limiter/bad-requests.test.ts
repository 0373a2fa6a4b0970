import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { post, startTestLimiter, targetOn, type TestLimiter, untilRevision } from '../harness/limiter.ts';
import { aPolicy, publishEntries } from '../harness/publish.ts';
import { type PrivateRedis, privateRedis } from '../harness/redis.ts';

let server: PrivateRedis;
let limiter: TestLimiter;

beforeAll(async () => {
  server = await privateRedis();
  const { revision } = await publishEntries(targetOn(server), [
    aPolicy({
      tiers: [
        { name: 'free', default: true, limits: [{ windowSeconds: 3_600, requests: 10 }] },
        { name: 'pro', limits: [{ windowSeconds: 3_600, requests: 100 }] },
      ],
      rules: [{ name: 'per-consumer', countBy: ['consumer'], limitsFrom: 'Tier', algorithm: 'TokenBucket' }],
    }),
  ]);
  limiter = await startTestLimiter({ redisUrl: server.url });
  await untilRevision(limiter, revision);
});
afterAll(async () => {
  await limiter.stop();
  await server.stop();
});

const send = (body: string) => post(`${limiter.url}/v1/decision/check`, body, { 'x-request-id': 'r-1' });

const entries = (count: number): Record<string, string> =>
  Object.fromEntries(Array.from({ length: count }, (_, i) => [`name-${i}`, 'value']));

describe('a body that is no JSON, or too much of it', () => {
  it.each([
    ['cut short', '{"domain": "payments"'],
    ['empty', ''],
    ['with something after it', '{"domain": "payments"} x'],
  ])('is a 400 that says so: %s', async (_title, text) => {
    const { status, headers, body } = await send(text);
    expect(status).toBe(400);
    expect(headers.get('content-type')).toBe('application/problem+json');
    expect(body).toEqual({
      type: 'about:blank',
      title: 'Bad request',
      status: 400,
      code: 'BODY_NOT_JSON',
      detail: 'the body is not valid JSON',
      request_id: 'r-1',
    });
  });

  it('is a 400 if it is not UTF-8: two different names would be one', async () => {
    const body = Buffer.concat([
      Buffer.from('{"domain": "payments", "consumer": "'),
      Buffer.of(0xff),
      Buffer.from('"}'),
    ]);
    const response = await fetch(`${limiter.url}/v1/decision/check`, { method: 'POST', body });
    expect(response.status).toBe(400);
    expect(await response.json()).toMatchObject({ code: 'BODY_NOT_JSON', detail: 'the body is not valid UTF-8' });
  });

  it('is a 400 above 64 KiB, and read up to there', async () => {
    const text = JSON.stringify({ domain: 'payments', consumer: 'alice' });
    expect((await send(text.padEnd(65_536))).status).toBe(200);
    const { status, headers, body } = await send(text.padEnd(65_537));
    expect(status).toBe(400);
    expect(headers.get('content-type')).toBe('application/problem+json');
    expect(body).toMatchObject({ code: 'BODY_TOO_LARGE', detail: 'the body is larger than 65536 bytes' });
    expect((await send(text.padEnd(20_000_000))).status).toBe(400);
  });
});

describe('a field that is not allowed as it is', () => {
  it.each<[string, unknown, string]>([
    ['a list for a body', [], 'body'],
    ['null for a body', null, 'body'],
    ['a text for a body', 'payments', 'body'],
    ['no domain', { consumer: 'alice' }, 'domain'],
    ['a number for a domain', { domain: 5 }, 'domain'],
    ['an empty domain', { domain: '' }, 'domain'],
    ['a field that there is not', { burst: 5 }, 'burst'],
    ['null instead of nothing', { consumer: null }, 'consumer'],
    ['an empty consumer', { consumer: '' }, 'consumer'],
    ['a consumer that is too long', { consumer: 'c'.repeat(257) }, 'consumer'],
    ['half of a surrogate pair', { consumer: 'c\ud83d' }, 'consumer'],
    ['an API key that is too long', { api_key: 'k'.repeat(513) }, 'api_key'],
    ['a tenant that is a list', { tenant: ['t'] }, 'tenant'],
    ['a cost of nothing', { cost: 0 }, 'cost'],
    ['a negative cost', { cost: -1 }, 'cost'],
    ['half a cost', { cost: 1.5 }, 'cost'],
    ['a cost as text', { cost: '1' }, 'cost'],
    ['a cost above a million', { cost: 1_000_001 }, 'cost'],
    ['an address that is none', { ip: '203.0.113.256' }, 'ip'],
    ['an address with a port', { ip: '203.0.113.9:443' }, 'ip'],
    ['a method with a space', { method: 'GET /' }, 'method'],
    ['an empty method', { method: '' }, 'method'],
    ['a path without a slash', { path: 'v1/charges' }, 'path'],
    ['a path with a broken escape', { path: '/v1/%zz' }, 'path'],
    ['a path with a NUL', { path: '/v1/%00' }, 'path'],
    ['a path that is too long', { path: `/${'p'.repeat(8_192)}` }, 'path'],
    ['headers as a list', { headers: ['x'] }, 'headers'],
    ['a header that is a number', { headers: { 'x-api-key': 5 } }, 'headers.x-api-key'],
    ['too many headers', { headers: entries(65) }, 'headers'],
    ['too many attributes', { attributes: entries(65) }, 'attributes'],
    ['a descriptor that is an object', { descriptors: { region: {} } }, 'descriptors.region'],
    ['a request id with a space', { request_id: 'r 1' }, 'request_id'],
    ['a tier that the domain does not know', { tier: 'gold' }, 'tier'],
  ])('is a 400 that names it: %s', async (_title, given, field) => {
    const isFields = typeof given === 'object' && given !== null && !Array.isArray(given);
    const isWhole = !isFields || field === 'domain';
    const { status, headers, body } = await send(JSON.stringify(isWhole ? given : { domain: 'payments', ...given }));
    expect(status).toBe(400);
    expect(headers.get('content-type')).toBe('application/problem+json');
    expect(headers.get('x-request-id')).toBe('r-1');
    expect(body).toEqual({
      type: 'about:blank',
      title: 'Bad request',
      status: 400,
      code: 'BAD_FIELD',
      detail: expect.stringMatching(new RegExp(`^${field}: .`)),
      errors: expect.arrayContaining([
        { field, reason: expect.stringMatching(/^[A-Za-z_]+$/), message: expect.any(String) },
      ]),
      request_id: 'r-1',
    });
  });

  it('is listed with all others', async () => {
    const { body } = await send(JSON.stringify({ domain: 'payments', cost: 0, ip: 'x', burst: 1 }));
    expect(body['errors']).toMatchObject([{ field: 'ip' }, { field: 'cost' }, { field: 'burst' }]);
  });

  it('is shown with its value and what is allowed', async () => {
    const messageFor = async (given: object): Promise<unknown> =>
      (await send(JSON.stringify({ domain: 'payments', ...given }))).body['detail'];
    expect(await messageFor({ cost: 0 })).toBe('cost: 0 is not allowed: must be at least 1');
    expect(await messageFor({ cost: 1.5 })).toBe('cost: 1.5 is not allowed: must be a whole number');
    expect(await messageFor({ tier: 'gold' })).toBe('tier: "gold" is not allowed: must be free or pro');
    expect(await messageFor({ burst: 5 })).toBe('burst: there is no such field');
    expect(await messageFor({ ip: 'x' })).toBe('ip: "x" is not allowed: must be an IPv4 or IPv6 address');
  });

  it('takes nothing from any limit', async () => {
    await send(JSON.stringify({ domain: 'payments', consumer: 'bob', cost: 0 }));
    await send(JSON.stringify({ domain: 'payments', consumer: 'bob', tier: 'gold' }));
    const { body } = await limiter.check({ domain: 'payments', consumer: 'bob' });
    expect(body['remaining']).toBe(9);
  });
});
