// Who is limited: over HTTP, by a limiter and a Redis of the test's own.
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { keyAround } from '../../policy/api-key.ts';
import type { RateLimitDomainSpec } from '../../policy/schema/rate-limit-domain.ts';
import { eventually } from '../harness/eventually.ts';
import {
  type Answer,
  type Json,
  PEPPER,
  startTestLimiter,
  targetOn,
  type TestLimiter,
  untilRevision,
} from '../harness/limiter.ts';
import { aDomain, aPolicy, type Entry, publishEntries, publishKeys } from '../harness/publish.ts';
import { type PrivateRedis, privateRedis } from '../harness/redis.ts';

const HOUR = 3_600;
const LIMIT = 100;
const OWN_FORMAT = keyAround('a'.repeat(43));

let server: PrivateRedis;
let limiter: TestLimiter;

/** A domain below payments whose only rule counts by consumer, or by what it is told. */
function domainWith(name: string, spec: RateLimitDomainSpec, countBy = 'consumer'): Entry[] {
  const rule = {
    name: 'own',
    countBy: [countBy],
    algorithm: 'SlidingWindow' as const,
    limits: [{ windowSeconds: HOUR, requests: LIMIT }],
  };
  const domain = `payments.${name}`;
  return [aDomain(spec, domain), aPolicy({ domain, rules: [rule] }, name)];
}

const identity = (spec: RateLimitDomainSpec['identity']): RateLimitDomainSpec => ({ identity: spec });
const ALL = [{ type: 'Header' as const, name: 'x-user' }, { type: 'ApiKey' as const }, { type: 'Caller' as const }];

beforeAll(async () => {
  server = await privateRedis();
  const target = targetOn(server);
  await publishKeys(
    target,
    [
      { key: 'key of acme' },
      { key: 'key of a tenant', consumer: 'one of many', tenant: 'eu' },
      { key: OWN_FORMAT, consumer: 'own-format' },
      { key: 'key of a guest', consumer: 'guest', namespace: 'team' },
      { key: 'key of a stranger', consumer: 'stranger', namespace: 'shipping' },
      { key: 'disabled key', consumer: 'disabled', isDisabled: true },
    ],
    PEPPER,
  );
  const { revision } = await publishEntries(target, [
    ...domainWith('ordered', identity({ sources: ALL })),
    ...domainWith('deny', identity({ sources: [{ type: 'ApiKey' }], onMissing: 'Deny' })),
    ...domainWith('skip', identity({ sources: [{ type: 'Caller' }], onMissing: 'SkipRule' })),
    ...domainWith('client', identity({ sources: [{ type: 'Caller' }] })),
    ...domainWith('anonymous', identity({ onInvalidKey: 'Anonymous' })),
    ...domainWith('bearer', identity({ sources: [{ type: 'ApiKey', name: 'authorization' }] })),
    ...domainWith('wide', identity({ ipv6PrefixLength: 48 })),
    ...domainWith('exact', identity({ ipv6PrefixLength: 128 })),
    ...domainWith('granted', { grants: [{ namespace: 'team' }] }),
    ...domainWith('plain', {}),
    ...domainWith('tenants', {}, 'tenant'),
  ]);
  limiter = await startTestLimiter({ redisUrl: server.url });
  await untilRevision(limiter, revision);
});
afterAll(async () => {
  await limiter.stop();
  await server.stop();
});
beforeEach(async () => {
  for (const pattern of ['c1', 'ip1']) {
    for (const key of await server.redis.keys(`sluice:default:${pattern}:*`)) await server.redis.del(key);
  }
});

const ask = (domain: string, body: Json): Promise<Answer> => limiter.check({ domain: `payments.${domain}`, ...body });

/** How many requests were counted for the same consumer before this one; the reason if it was not counted. */
async function before(domain: string, body: Json): Promise<unknown> {
  const { remaining, reason, code } = (await ask(domain, body)).body;
  return typeof remaining === 'number' ? LIMIT - 1 - remaining : (reason ?? code);
}

describe('the sources of a domain', () => {
  it('are asked in their order: the first that the request carries says who it is', async () => {
    const everything = { headers: { 'X-User': 'ada' }, api_key: 'key of acme', consumer: 'acme', ip: '203.0.113.9' };
    const { headers: _headers, ...withoutHeader } = everything;
    const { api_key: _key, ...withoutKey } = withoutHeader;
    expect(await before('ordered', everything)).toBe(0);
    expect(await before('ordered', { headers: { 'x-user': 'ada' } })).toBe(1);
    expect(await before('ordered', withoutHeader)).toBe(0);
    expect(await before('ordered', { api_key: 'key of acme' })).toBe(1);
    expect(await before('ordered', withoutKey)).toBe(0);
    expect(await before('ordered', { consumer: 'acme' })).toBe(1);
    expect(await before('ordered', { ip: '203.0.113.9' })).toBe(0);
  });

  it('never give two consumers of different sources one counter', async () => {
    const name = 'acme';
    for (const body of [{ api_key: 'key of acme' }, { consumer: name }, { headers: { 'x-user': name } }]) {
      expect(await before('ordered', body)).toBe(0);
    }
    expect(await before('ordered', { consumer: 'key:acme' })).toBe(0);
    expect(await before('ordered', { headers: { 'x-user': 'key:acme' } })).toBe(0);
    expect(await before('ordered', { consumer: '203.0.113.9' })).toBe(0);
    expect(await before('ordered', { ip: '203.0.113.9' })).toBe(0);
  });

  it('pass over a header that is empty or longer than an id may be', async () => {
    for (const user of ['', 'x'.repeat(257)]) await ask('ordered', { headers: { 'x-user': user }, consumer: 'bob' });
    expect(await before('ordered', { consumer: 'bob' })).toBe(2);
    expect(await before('ordered', { headers: { 'x-user': 'x'.repeat(256) }, consumer: 'bob' })).toBe(0);
  });

  it('find an API key in the header that they name, with or without "Bearer"', async () => {
    expect(await before('bearer', { headers: { Authorization: 'Bearer key of acme' } })).toBe(0);
    expect(await before('bearer', { headers: { authorization: 'bearer   key of acme' } })).toBe(1);
    expect(await before('bearer', { headers: { authorization: 'key of acme' } })).toBe(2);
    expect(await before('bearer', { headers: { 'x-api-key': 'key of acme' }, ip: '203.0.113.9' })).toBe(0);
    expect(await before('bearer', { headers: { authorization: 'Bearer wrong' } })).toBe('INVALID_API_KEY');
  });
});

describe('the tenant', () => {
  it('is that of the API key, whatever the caller says; the caller’s word where the key has none', async () => {
    expect(await before('tenants', { api_key: 'key of a tenant' })).toBe(0);
    expect(await before('tenants', { api_key: 'key of a tenant', tenant: 'us' })).toBe(1);
    expect(await before('tenants', { consumer: 'bob', tenant: 'eu' })).toBe(2);
    expect(await before('tenants', { api_key: 'key of acme', tenant: 'us' })).toBe(0);
    expect(await before('tenants', { consumer: 'bob', tenant: 'us' })).toBe(1);
  });
});

describe('a request that says nothing of who sends it', () => {
  it('is denied where an identity is required', async () => {
    const { status, body } = await ask('deny', { consumer: 'acme', ip: '203.0.113.9' });
    expect(status).toBe(200);
    expect(body).toMatchObject({
      action: 'BLOCK',
      allowed: false,
      reason: 'IDENTITY_MISSING',
      triggered_by: 'Authentication',
    });
    expect(await before('deny', { api_key: 'key of acme' })).toBe(0);
  });

  it('is not subject to rules by consumer where these are skipped', async () => {
    expect(await before('skip', { ip: '203.0.113.9' })).toBe('WITHIN_LIMIT');
    expect(await before('skip', { consumer: 'acme', ip: '203.0.113.9' })).toBe(0);
  });

  it('is the address of the client, if there is one', async () => {
    expect(await before('client', { ip: '203.0.113.9' })).toBe(0);
    expect(await before('client', { ip: '203.0.113.9' })).toBe(1);
    expect(await before('client', {})).toBe('WITHIN_LIMIT');
  });
});

describe('an API key that is not valid in the domain', () => {
  it.each(['wrong', 'key of a guest', 'key of a stranger', 'disabled key'])('is refused alike: %s', async (key) => {
    const unknown = await ask('plain', { api_key: 'nobody has it', request_id: 'r-1' });
    const answer = await ask('plain', { api_key: key, request_id: 'r-1' });
    expect(answer.status).toBe(401);
    expect(answer.body).toEqual(unknown.body);
  });

  it('counts for nothing where such requests are anonymous: the next source says who it is', async () => {
    expect(await before('anonymous', { api_key: 'wrong', consumer: 'bob' })).toBe(0);
    expect(await before('anonymous', { api_key: 'disabled key', consumer: 'bob' })).toBe(1);
    expect(await before('anonymous', { api_key: 'wrong', ip: '203.0.113.9' })).toBe(0);
    expect(await before('anonymous', { api_key: 'key of acme', consumer: 'bob' })).toBe(0);
    expect(await server.redis.keys('sluice:default:ip1:*')).toEqual([]);
  });

  it('is valid in a domain that is granted to its namespace, and in no other', async () => {
    expect(await before('granted', { api_key: 'key of a guest' })).toBe(0);
    expect(await before('granted', { api_key: 'key of acme' })).toBe(0);
    expect(await before('granted', { api_key: 'key of a stranger' })).toBe('INVALID_API_KEY');
    expect(await before('plain', { api_key: 'key of a guest' })).toBe('INVALID_API_KEY');
  });
});

describe('an IPv6 client', () => {
  it.each([
    ['plain', '2001:db8:1:2::1', '2001:db8:1:2:ffff::2', '2001:db8:1:3::1'],
    ['wide', '2001:db8:1:2::1', '2001:db8:1:ffff::2', '2001:db8:2:2::1'],
    ['exact', '2001:db8:1:2::1', '2001:db8:1:2:0:0::1', '2001:db8:1:2::2'],
  ])('is its network as the domain counts it: %s', async (domain, one, same, other) => {
    expect(await before(domain, { ip: one })).toBe(0);
    expect(await before(domain, { ip: same })).toBe(1);
    expect(await before(domain, { ip: other })).toBe(0);
  });
});

describe('a key of our own format', () => {
  const wrong = [
    `${OWN_FORMAT.slice(0, -1)}${OWN_FORMAT.endsWith('0') ? '1' : '0'}`,
    OWN_FORMAT.replace('slk_a', 'slk_b'),
    'slk_short',
    `${OWN_FORMAT}x`,
  ];

  it('passes with its checksum', async () => {
    expect(await before('plain', { api_key: OWN_FORMAT })).toBe(0);
  });

  it.each(wrong)('with a wrong one is refused: %s', async (key) => {
    expect(await before('plain', { api_key: key })).toBe('INVALID_API_KEY');
  });

  // The last: an answer about a key that has to be looked up is not to be had any more.
  it('with a wrong one never reaches Redis', async () => {
    await server.stopServer();
    await eventually(async () => {
      expect((await ask('plain', { api_key: 'never seen before' })).body['triggered_by']).toBe('FailurePolicy');
    });
    for (const key of wrong) expect(await before('plain', { api_key: key })).toBe('INVALID_API_KEY');
    expect((await ask('plain', { api_key: 'key of acme' })).body['triggered_by']).toBe('FailurePolicy');
  });
});
