// Exemptions, overrides, negotiated limits and costs: over HTTP, by a limiter and a Redis of the test's own.
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { RateLimitOverrideSpec } from '../../policy/schema/rate-limit-override.ts';
import type { RateLimitPolicySpec, Rule } from '../../policy/schema/rate-limit-policy.ts';
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
import { aDomain, anOverride, aPolicy, type Entry, publishEntries, publishKeys } from '../harness/publish.ts';
import { type PrivateRedis, privateRedis } from '../harness/redis.ts';

const HOUR = 3_600;
let server: PrivateRedis;
let limiter: TestLimiter;

const rule = (fields: Partial<Rule> = {}): Rule => ({
  name: 'own',
  countBy: ['consumer'],
  algorithm: 'SlidingWindow',
  limits: [{ windowSeconds: HOUR, requests: 10 }],
  ...fields,
});
/** The policy and the domain have one name, below payments. */
const policyOf = (name: string, spec: Partial<RateLimitPolicySpec> = {}): Entry =>
  aPolicy({ domain: `payments.${name}`, rules: [rule()], ...spec }, name);
const overrideOf = (policy: string, name: string, spec: Partial<RateLimitOverrideSpec>): Entry =>
  anOverride(
    {
      policyRef: { name: policy },
      subject: { consumer: `caller:${name}` },
      action: 'Block',
      expiresAt: new Date(Date.now() + HOUR * 1000).toISOString(),
      ...spec,
    },
    `${policy}-${name}`,
  );

const PROBES = { name: 'probes', match: { paths: [{ type: 'Prefix' as const, value: '/healthz' }] } };
const identified = { sources: [{ type: 'ApiKey' as const }, { type: 'Caller' as const }], onMissing: 'Deny' as const };

beforeAll(async () => {
  server = await privateRedis();
  const target = targetOn(server);
  const agreed = { windowSeconds: HOUR, requests: 77, capacity: 77, degraded: 77 };
  await publishKeys(
    target,
    [
      {
        key: 'negotiator',
        consumer: 'big',
        limits: [{ policy: 'payments/overridden', rule: 'own', limits: [agreed] }],
      },
    ],
    PEPPER,
  );
  const { revision } = await publishEntries(target, [
    policyOf('overridden'),
    overrideOf('overridden', 'blocked', { action: 'Block' }),
    overrideOf('overridden', 'exempt', { action: 'Exempt' }),
    overrideOf('overridden', 'replaced', { action: 'Replace', limits: [{ windowSeconds: HOUR, requests: 3 }] }),
    overrideOf('overridden', 'scaled', { action: 'Scale', percent: 250 }),
    overrideOf('overridden', 'address', { subject: { clientIP: '2001:DB8:0:0:1::' } }),
    aDomain({ identity: identified }, 'payments.probed'),
    policyOf('probed', { exemptions: [PROBES] }),
    aDomain({ identity: identified }, 'payments.half'),
    policyOf('half', { exemptions: [PROBES] }),
    aPolicy({ domain: 'payments.half', rules: [rule()] }, 'other-half'),
    policyOf('staff', { exemptions: [{ name: 'staff', match: { tenants: ['staff'] } }] }),
    policyOf('priced', {
      rules: [rule({ cost: { default: 2, header: 'x-cost', max: 5 } }), rule({ name: 'plain', headers: 'Hide' })],
    }),
    aDomain({ partitionBy: 'tenant' }, 'payments.spread'),
    policyOf('spread', { rules: [rule({ countBy: ['tenant'] })] }),
  ]);
  limiter = await startTestLimiter({ redisUrl: server.url });
  await untilRevision(limiter, revision);
});
afterAll(async () => {
  await limiter.stop();
  await server.stop();
});

const answer = (domain: string, body: Json): Promise<Answer> =>
  limiter.check({ domain: `payments.${domain}`, ...body });
const ask = async (domain: string, body: Json): Promise<Json> => (await answer(domain, body)).body;
const counters = (): Promise<string[]> => server.redis.keys('sluice:default:c1:*');

describe('an override', () => {
  it('blocks, and says until when', async () => {
    const body = await ask('overridden', { consumer: 'blocked' });
    expect(body).toMatchObject({
      action: 'BLOCK',
      allowed: false,
      reason: 'OVERRIDE_BLOCK',
      triggered_by: 'Override',
      limit: null,
    });
    expect(body['retry_after']).toBeGreaterThan(HOUR - 600);
    expect(body['retry_after']).toBeLessThanOrEqual(HOUR);
  });

  it('blocks an address by any way to write its network', async () => {
    expect(await ask('overridden', { consumer: 'bob', ip: '2001:db8::9' })).toMatchObject({ reason: 'OVERRIDE_BLOCK' });
    expect(await ask('overridden', { consumer: 'bob', ip: '2001:db8:0:1::9' })).toMatchObject({ allowed: true });
  });

  it('exempts, and counts nothing', async () => {
    const before = await counters();
    for (let i = 0; i < 12; i += 1) {
      expect(await ask('overridden', { consumer: 'exempt' })).toMatchObject({
        action: 'ALLOW',
        reason: 'OVERRIDE_EXEMPT',
        triggered_by: 'Override',
        limit: null,
      });
    }
    expect(await counters()).toEqual(before);
  });

  it('replaces and scales the limits, of its subject only', async () => {
    expect(await ask('overridden', { consumer: 'replaced' })).toMatchObject({ limit: 3, remaining: 2 });
    expect(await ask('overridden', { consumer: 'scaled' })).toMatchObject({ limit: 25, remaining: 24 });
    expect(await ask('overridden', { consumer: 'another' })).toMatchObject({ limit: 10, remaining: 9 });
  });
});

describe('limits that were agreed with a Consumer', () => {
  it('hold for it instead of those of the rule', async () => {
    expect(await ask('overridden', { api_key: 'negotiator' })).toMatchObject({ limit: 77, remaining: 76 });
    expect(await ask('staff', { api_key: 'negotiator' })).toMatchObject({ limit: 10 });
  });
});

describe('an exemption', () => {
  it('of everyone lets a probe pass without an identity, if all policies of the domain have one', async () => {
    const exempt = { action: 'ALLOW', reason: 'EXEMPT', triggered_by: 'Exemption', limit: null };
    expect(await ask('probed', { path: '/healthz/live' })).toMatchObject(exempt);
    expect(await ask('probed', { path: '/healthz', api_key: 'wrong' })).toMatchObject(exempt);
    expect(await ask('probed', { path: '/v1' })).toMatchObject({ reason: 'IDENTITY_MISSING' });
    expect(await ask('probed', {})).toMatchObject({ reason: 'IDENTITY_MISSING' });
    expect(await ask('half', { path: '/healthz' })).toMatchObject({ reason: 'IDENTITY_MISSING' });
  });

  it('of one policy leaves the request to the others', async () => {
    expect(await ask('half', { path: '/healthz', consumer: 'bob' })).toMatchObject({
      reason: 'EXEMPT',
      policy: 'payments/other-half',
      remaining: 9,
    });
  });

  it('by identity is looked at once that is known', async () => {
    expect(await ask('staff', { tenant: 'staff', consumer: 'bob' })).toMatchObject({ reason: 'EXEMPT', limit: null });
    expect(await ask('staff', { tenant: 'guests', consumer: 'bob' })).toMatchObject({ reason: 'WITHIN_LIMIT' });
    expect(await ask('staff', { consumer: 'bob' })).toMatchObject({ reason: 'WITHIN_LIMIT', remaining: 8 });
  });
});

describe('the cost of a request', () => {
  it('is that of each rule, which says no more of a hidden one than when to come again', async () => {
    expect(await ask('priced', { consumer: 'a' })).toMatchObject({ rule: 'own', remaining: 8 });
    expect(await ask('priced', { consumer: 'a', headers: { 'X-Cost': '4' } })).toMatchObject({ remaining: 4 });
    expect(await ask('priced', { consumer: 'a', headers: { 'x-cost': '4.5' } })).toMatchObject({ remaining: 2 });
    expect(await ask('priced', { consumer: 'b', cost: 9 })).toMatchObject({ rule: 'own', remaining: 5 });
    // The rule that is hidden has one left.
    const denied = await ask('priced', { consumer: 'b', cost: 2 });
    expect(denied).toMatchObject({ reason: 'RATE_LIMIT_EXCEEDED', rule: null, limit: null, remaining: null });
    expect(denied['retry_after']).toBeGreaterThan(0);
  });
});

describe('a domain that is partitioned', () => {
  it('spreads its counters by the values of its axis, and counts as any other', async () => {
    const before = new Set(await counters());
    const tenants = ['t1', 't2', 't3', 't1', 't1'];
    const remaining = [];
    for (const tenant of tenants) remaining.push((await ask('spread', { tenant }))['remaining']);
    expect(remaining).toEqual([9, 9, 9, 8, 7]);
    const added = (await counters()).filter((key) => !before.has(key));
    const tags = added.map((key) => /\{(.*?)\}/.exec(key)?.[1]);
    expect(new Set(tags).size).toBe(3);
    expect(added).toHaveLength(3);
  });

  it('does not limit a request that lacks the axis', async () => {
    expect(await ask('spread', { consumer: 'bob' })).toMatchObject({ reason: 'WITHIN_LIMIT', limit: null });
  });
});

// The last, as it puts other objects in force.
describe('an override for a time', () => {
  it('begins and ends by the clock of Redis, with nobody to tell the pod', async () => {
    const [seconds] = await server.redis.time();
    const at = (secondsLater: number): string => new Date((Number(seconds) + secondsLater) * 1000).toISOString();
    const { revision } = await publishEntries(targetOn(server), [
      policyOf('timed'),
      overrideOf('timed', 'later', { startsAt: at(4), expiresAt: at(HOUR) }),
      overrideOf('timed', 'until', { startsAt: at(0), expiresAt: at(4) }),
    ]);
    await untilRevision(limiter, revision);
    const reason = async (consumer: string): Promise<unknown> => {
      const { reason: said, revision: by } = await ask('timed', { consumer, mode: 'peek' });
      expect(by).toBe(revision);
      return said;
    };
    await eventually(async () => {
      expect([await reason('later'), await reason('until')]).toEqual(['OVERRIDE_BLOCK', 'WITHIN_LIMIT']);
    });
  });
});
