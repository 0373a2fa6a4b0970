// A key is sent everywhere that a key can be sent, and to places where it does not belong; then it is looked for.
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { PEPPER, startTestLimiter, targetOn, type TestLimiter, untilRevision } from '../harness/limiter.ts';
import { aDomain, aPolicy, publishEntries, publishKeys } from '../harness/publish.ts';
import { type PrivateRedis, privateRedis } from '../harness/redis.ts';

const GOOD = 'good-key-that-nobody-may-see';
const BAD = 'bad-key-that-nobody-may-see';
const SECRET = /key-that-nobody-may-see/;

let server: PrivateRedis;
let limiter: TestLimiter;
beforeAll(async () => {
  server = await privateRedis();
  const { revision } = await publishEntries(targetOn(server), [
    aDomain({ ipBlock: { invalidKeys: 3, withinSeconds: 60, forSeconds: 60, mode: 'Enforce' } }),
    aPolicy({
      rules: [
        { name: 'r', countBy: ['consumer'], algorithm: 'TokenBucket', limits: [{ windowSeconds: 3_600, requests: 2 }] },
      ],
      penalty: { countBy: ['consumer'], tolerancePercent: 0, warn: { violations: 1, forSeconds: 60 } },
    }),
  ]);
  await publishKeys(targetOn(server), [{ key: GOOD, consumer: 'acme' }], PEPPER);
  limiter = await startTestLimiter({ redisUrl: server.url, logAllowedPerSecond: 1_000, logDeniedPerSecond: 1_000 });
  await untilRevision(limiter, revision);
});
afterAll(async () => {
  await limiter.stop();
  await server.stop();
});

/** Every way to show a key, and bodies that are refused. */
function requestsWith(key: string): readonly Promise<Response>[] {
  const send = (path: string, body: unknown, headers: Record<string, string> = {}): Promise<Response> =>
    fetch(`${limiter.url}${path}`, { method: 'POST', body: JSON.stringify(body), headers });
  const shown = { 'x-api-key': key, authorization: `Bearer ${key}` };
  // Of a client that is named: a gateway itself is never blocked, whatever keys it passes on.
  const check = { ip: '203.0.113.9', domain: 'payments', api_key: key };
  const descriptors = [{ entries: [{ key: 'api_key', value: key }] }];
  return [
    send('/v1/decision/check', check),
    send('/v1/decision/check', { domain: 'payments', headers: shown }, shown),
    send('/v1/decision/check', { ...check, cost: 'many' }),
    send('/v1/decision/check', { ...check, cost: 1_000 }),
    send('/v1/decision/batch', { checks: [check, { ...check, headers: shown }] }),
    send('/json', { domain: 'payments', descriptors }),
    send('/authz/payments/v1', {}, shown),
    fetch(`${limiter.opsUrl}/explain`, { method: 'POST', body: JSON.stringify(check) }),
    fetch(`${limiter.opsUrl}/denied?domain=payments`),
    fetch(`${limiter.opsUrl}/penalties?domain=payments`),
  ];
}

/** Everything that Redis holds, as text. */
async function everythingInRedis(): Promise<string> {
  const { redis } = server;
  const texts: unknown[] = [];
  for (const key of await redis.keys('*')) {
    texts.push(key, await valueOf(key, await redis.type(key)));
  }
  return JSON.stringify(texts);
}

function valueOf(key: string, type: string): Promise<unknown> {
  const { redis } = server;
  switch (type) {
    case 'hash':
      return redis.hgetall(key);
    case 'set':
      return redis.smembers(key);
    case 'zset':
      return redis.zrange(key, 0, '-1');
    case 'string':
      return redis.get(key);
    default:
      throw new Error(`this test cannot read the ${type} ${key}`);
  }
}

describe('an API key', () => {
  it('is in no answer, log line or metric, nor in Redis, wherever it was sent', async () => {
    const answers: string[] = [];
    for (const key of [GOOD, BAD]) {
      for (let round = 0; round < 5; round += 1) {
        for (const answer of await Promise.all(requestsWith(key))) {
          answers.push(JSON.stringify([...answer.headers]), await answer.text());
        }
      }
    }
    expect(answers.join('\n')).not.toMatch(SECRET);
    const lines = limiter.logged().map((line) => JSON.stringify(line));
    for (const expected of [/"action":"ALLOW"/, /"action":"THROTTLE"/, /INVALID_API_KEY/, /security_alert/]) {
      expect(lines).toContainEqual(expect.stringMatching(expected));
    }
    expect(lines.join('\n')).not.toMatch(SECRET);
    expect(await (await fetch(`${limiter.opsUrl}/metrics`)).text()).not.toMatch(SECRET);
    const stored = await everythingInRedis();
    expect(stored).toContain('acme');
    expect(stored).not.toMatch(SECRET);
  });
});
