// Clients that try API keys: on two limiters and one Redis of the test's own.
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
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

const RULE = {
  name: 'own',
  countBy: ['consumer'],
  algorithm: 'TokenBucket' as const,
  limits: [{ windowSeconds: 3_600, requests: 1_000 }],
};

let server: PrivateRedis;
let first: TestLimiter;
let second: TestLimiter;

function domainWith(name: string, ipBlock?: RateLimitDomainSpec['ipBlock']): Entry[] {
  const domain = `payments.${name}`;
  return [aDomain(ipBlock === undefined ? {} : { ipBlock }, domain), aPolicy({ domain, rules: [RULE] }, name)];
}

beforeAll(async () => {
  server = await privateRedis();
  const target = targetOn(server);
  await publishKeys(target, [{ key: 'valid' }], PEPPER);
  const { revision } = await publishEntries(target, [
    ...domainWith('usual'),
    ...domainWith('other'),
    ...domainWith('short', { invalidKeys: 2, forSeconds: 1 }),
    ...domainWith('shadow', { invalidKeys: 2, mode: 'Shadow' }),
    ...domainWith('shared', { invalidKeys: 2 }),
    ...domainWith('outage', { invalidKeys: 1 }),
  ]);
  first = await startTestLimiter({ redisUrl: server.url, pod: 'pod-a' });
  second = await startTestLimiter({ redisUrl: server.url, pod: 'pod-b' });
  await Promise.all([first, second].map((limiter) => untilRevision(limiter, revision)));
});
afterAll(async () => {
  await Promise.all([first, second].map((limiter) => limiter.stop()));
  await server.stop();
});

const IP = '203.0.113.9';
const ask = (limiter: TestLimiter, domain: string, body: Json = {}): Promise<Answer> =>
  limiter.check({ domain: `payments.${domain}`, api_key: 'wrong', ip: IP, ...body });
const statusOf = async (...request: Parameters<typeof ask>): Promise<number> => (await ask(...request)).status;
const reasonOf = async (...request: Parameters<typeof ask>): Promise<unknown> => {
  const { body } = await ask(...request);
  return body['reason'] ?? body['code'];
};

const alerts = (domain: string): readonly Json[] =>
  [first, second].flatMap((limiter) =>
    limiter.logged().filter((line) => line['kind'] === 'ip_blocked' && line['domain'] === `payments.${domain}`),
  );

describe('a client that tries API keys', () => {
  it('is refused ten times, on whichever pod, and then blocked on all', async () => {
    for (let i = 0; i < 10; i += 1) {
      expect(await statusOf(i % 2 === 0 ? first : second, 'usual', { api_key: `guess ${i}` })).toBe(401);
    }
    for (const limiter of [first, second, first]) {
      const { status, body } = await ask(limiter, 'usual', { api_key: 'yet another guess' });
      expect(status).toBe(200);
      expect(body).toMatchObject({
        action: 'BLOCK',
        allowed: false,
        reason: 'IP_BLOCKED',
        triggered_by: 'IPBlock',
        limit: null,
      });
      expect(body['retry_after']).toBeGreaterThan(800);
      expect(body['retry_after']).toBeLessThanOrEqual(900);
    }
    expect(alerts('usual')).toMatchObject([{ event: 'security_alert', client_ip: IP, for_seconds: 900 }]);
  });

  it('still passes with a valid key, and without any', async () => {
    expect(await reasonOf(first, 'usual')).toBe('IP_BLOCKED');
    expect(await reasonOf(first, 'usual', { api_key: 'valid' })).toBe('WITHIN_LIMIT');
    expect(await reasonOf(second, 'usual', { api_key: undefined })).toBe('WITHIN_LIMIT');
  });

  it('leaves other addresses and other domains alone', async () => {
    expect(await reasonOf(first, 'usual')).toBe('IP_BLOCKED');
    expect(await reasonOf(first, 'usual', { ip: '203.0.113.10' })).toBe('INVALID_API_KEY');
    expect(await reasonOf(first, 'other')).toBe('INVALID_API_KEY');
  });

  it('is the whole network of an IPv6 address', async () => {
    for (let i = 0; i < 10; i += 1) await ask(first, 'usual', { ip: `2001:db8:1:2::${i}` });
    expect(await reasonOf(second, 'usual', { ip: '2001:db8:1:2:ffff::1' })).toBe('IP_BLOCKED');
    expect(await reasonOf(second, 'usual', { ip: '2001:db8:1:3::1' })).toBe('INVALID_API_KEY');
  });

  it('is nobody where the caller says no address: the caller itself is never blocked', async () => {
    for (let i = 0; i < 12; i += 1) expect(await reasonOf(first, 'usual', { ip: undefined })).toBe('INVALID_API_KEY');
  });

  it('is nobody where a gateway says no address: the gateway itself is never blocked', async () => {
    const statuses: number[] = [];
    for (let i = 0; i < 12; i += 1) {
      const headers = { 'x-api-key': `guess ${i}` };
      const { status } = await fetch(`${first.url}/authz/payments.usual/v1`, { headers });
      statuses.push(status);
    }
    expect(statuses).toEqual(Array(12).fill(401));
  });

  it('is answered alike when somebody only looks, which counts nothing', async () => {
    const look = (ip: string): Promise<unknown> => reasonOf(first, 'usual', { mode: 'peek', ip });
    for (let i = 0; i < 12; i += 1) expect(await look('203.0.113.60')).toBe('INVALID_API_KEY');
    expect(await reasonOf(second, 'usual', { ip: '203.0.113.60' })).toBe('INVALID_API_KEY');
    for (let i = 0; i < 10; i += 1) await ask(second, 'usual', { ip: '203.0.113.61' });
    expect(await look('203.0.113.61')).toBe('IP_BLOCKED');
  });

  it('is counted where whoever asks is not trusted, also by a peek: or keys could be tried by peeks', async () => {
    const doors = { trustedCallers: ['192.0.2.0/24'] };
    const suspicious = await startTestLimiter({ redisUrl: server.url, pod: 'pod-c', doors });
    try {
      await untilRevision(suspicious, 1);
      const reasons: unknown[] = [];
      for (let i = 0; i < 3; i += 1) reasons.push(await reasonOf(suspicious, 'shared', { mode: 'peek' }));
      expect(reasons).toEqual(['INVALID_API_KEY', 'INVALID_API_KEY', 'IP_BLOCKED']);
    } finally {
      await suspicious.stop();
    }
  });

  it('is free again when the block ends, and begins anew', async () => {
    const reasons = [];
    for (let i = 0; i < 3; i += 1) reasons.push(await reasonOf(first, 'short'));
    expect(reasons).toEqual(['INVALID_API_KEY', 'INVALID_API_KEY', 'IP_BLOCKED']);
    await eventually(async () => expect(await reasonOf(first, 'short')).toBe('INVALID_API_KEY'));
  });

  it('is only reported in Shadow', async () => {
    for (let i = 0; i < 5; i += 1) expect(await statusOf(first, 'shadow')).toBe(401);
    expect(alerts('shadow')).toHaveLength(1);
  });
});

describe('while Redis is away', () => {
  it('a block that a pod knows of holds, and an unknown key is never called invalid', async () => {
    expect(await reasonOf(first, 'outage')).toBe('INVALID_API_KEY');
    expect(await reasonOf(first, 'outage')).toBe('IP_BLOCKED');
    await server.stopServer();
    await eventually(async () => {
      const { body } = await ask(second, 'outage', { api_key: 'never seen before' });
      expect(body).toMatchObject({ triggered_by: 'FailurePolicy', allowed: true });
    });
    // Of a malformed key it is known without Redis that it is not valid.
    const malformed = { api_key: 'slk_malformed' };
    expect(await reasonOf(first, 'outage', malformed)).toBe('IP_BLOCKED');
    expect(await reasonOf(first, 'outage', { ...malformed, ip: '203.0.113.77' })).toBe('INVALID_API_KEY');
  });
});
