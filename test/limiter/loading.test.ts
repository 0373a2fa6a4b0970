import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type Document, toStored } from '../../policy/documents.ts';
import { listPods, type PodReport } from '../../store/acknowledgements.ts';
import { callsOf, resetCommandStats } from '../harness/command-stats.ts';
import { eventually } from '../harness/eventually.ts';
import { get, startTestLimiter, targetOn, type TestLimiter, untilRevision } from '../harness/limiter.ts';
import { aPolicy, aRawDocument, type Entry, publishEntries, type Target } from '../harness/publish.ts';
import { type PrivateRedis, privateRedis } from '../harness/redis.ts';
import { redisMicros } from '../harness/redis-time.ts';

let server: PrivateRedis;
let target: Target;
let limiter: TestLimiter;

beforeEach(async () => {
  server = await privateRedis();
  target = targetOn(server);
});
afterEach(async () => {
  await limiter.stop();
  await server.stop();
});

/** A policy by whose limit an answer shows which one is enforced. */
const aPolicyOf = (requests: number): Entry =>
  aPolicy({
    rules: [
      {
        name: 'per-consumer',
        countBy: ['consumer'],
        algorithm: 'TokenBucket',
        limits: [{ windowSeconds: 3_600, requests }],
      },
    ],
  });

async function enforcedLimit(): Promise<unknown> {
  return (await limiter.check({ domain: 'payments', consumer: 'alice' })).body['limit'];
}

/** A limiter that enforces revision 1, a limit of 100. */
async function givenLoaded(): Promise<void> {
  const { revision } = await publishEntries(target, [aPolicyOf(100)]);
  limiter = await startTestLimiter({ redisUrl: server.url });
  await untilRevision(limiter, revision);
}

async function report(): Promise<PodReport['acknowledgement']> {
  const { pods } = await listPods(target.redis, target.names);
  const own = pods.find(({ acknowledgement }) => acknowledgement.pod === limiter.pod);
  if (own === undefined) throw new Error('the pod has not reported');
  return own.acknowledgement;
}

const readyz = () => get(`${limiter.opsUrl}/readyz`);

describe('a limiter that starts', () => {
  it('is not ready, and decides nothing, until a configuration is published', async () => {
    limiter = await startTestLimiter({ redisUrl: server.url });
    await eventually(async () => expect(await report()).toMatchObject({ pod: limiter.pod, formats: [1] }));
    expect(await report()).not.toHaveProperty('identity');
    expect(await readyz()).toMatchObject({ status: 503, body: { status: 'starting' } });
    expect(await get(`${limiter.url}/health`)).toMatchObject({
      status: 503,
      body: { status: 'starting', redis: 'ok', revision: 0 },
    });
    const { status, headers, body } = await limiter.check({ domain: 'payments', consumer: 'alice' });
    expect(status).toBe(503);
    expect(headers.get('content-type')).toBe('application/problem+json');
    expect(body).toMatchObject({ status: 503, code: 'NOT_READY' });
    const plain = await fetch(`${limiter.url}/check`, { method: 'POST', body: '{"identifier": "alice"}' });
    expect([plain.status, await plain.json()]).toEqual([503, { detail: 'no configuration is loaded yet' }]);
    await publishEntries(target, [aPolicyOf(100)]);
    await untilRevision(limiter, 1);
    expect(await readyz()).toMatchObject({ status: 200, body: { status: 'ok' } });
    expect(await enforcedLimit()).toBe(100);
  });

  it('while Redis is away is alive and not ready, and becomes ready by itself', async () => {
    await server.stopServer();
    limiter = await startTestLimiter({ redisUrl: server.url });
    await eventually(() => expect(limiter.logged().map(({ event }) => event)).toContain('redis_down'));
    expect(await get(`${limiter.opsUrl}/livez`)).toMatchObject({ status: 200 });
    expect(await readyz()).toMatchObject({ status: 503 });
    expect((await get(`${limiter.url}/health`)).body).toMatchObject({ status: 'starting', redis: 'unreachable' });
    await server.startServer();
    await eventually(() => publishEntries(target, [aPolicyOf(100)]));
    await untilRevision(limiter, 1);
    expect(await readyz()).toMatchObject({ status: 200 });
    expect(await enforcedLimit()).toBe(100);
  });
});

describe('a limiter that is loaded', () => {
  it('follows what is published, and acknowledges exactly that', async () => {
    await givenLoaded();
    for (const requests of [200, 300]) {
      const before = await redisMicros(target.redis);
      const published = await publishEntries(target, [aPolicyOf(requests)]);
      await untilRevision(limiter, published.revision);
      expect(await enforcedLimit()).toBe(requests);
      await eventually(async () => expect((await report()).identity).toEqual(published));
      // By the clock of Redis, which a pod knows to within a round trip.
      const { sinceMicros } = await report();
      expect(sinceMicros).toBeGreaterThan(before - 1_000_000);
      expect(sinceMicros).toBeLessThan((await redisMicros(target.redis)) + 1_000_000);
    }
    expect(await report()).not.toHaveProperty('problem');
  });

  it('follows what is published without an announcement', async () => {
    await givenLoaded();
    const { names, redis } = target;
    await publishEntries({ ...target, names: { ...names, changes: 'nobody listens here' } }, [aPolicyOf(200)]);
    await untilRevision(limiter, 2);
    expect(await redis.hget(names.head, 'revision')).toBe('2');
  });

  it('acknowledges a new revision of the same content, in force since the first of them', async () => {
    await givenLoaded();
    const { sinceMicros } = await eventually(async () => {
      const first = await report();
      expect(first.identity?.revision).toBe(1);
      return first;
    });
    await target.redis.hset(target.names.head, { revision: 7 });
    await eventually(async () => expect(await report()).toMatchObject({ identity: { revision: 7 }, sinceMicros }));
  });

  it('fetches only the documents that it does not have', async () => {
    const unchanged = aPolicy(
      {
        domain: 'payments.other',
        rules: [
          { name: 'r', countBy: ['consumer'], algorithm: 'TokenBucket', limits: [{ windowSeconds: 1, requests: 1 }] },
        ],
      },
      'other',
    );
    await publishEntries(target, [aPolicyOf(100), unchanged]);
    limiter = await startTestLimiter({ redisUrl: server.url });
    await untilRevision(limiter, 1);
    await publishEntries(target, [aPolicyOf(200), unchanged]);
    await untilRevision(limiter, 2);
    const loads = limiter.logged().filter(({ event }) => event === 'snapshot_loaded');
    expect(loads).toMatchObject([
      { revision: 1, documents: 2, fetched: 2 },
      { revision: 2, documents: 2, fetched: 1 },
    ]);
  });

  it('keeps the newer of two revisions of one incarnation when head is set back, and says so', async () => {
    await givenLoaded();
    const old = await target.redis.hgetall(target.names.head);
    const newer = await publishEntries(target, [aPolicyOf(200)]);
    await untilRevision(limiter, 2);
    await target.redis.hset(target.names.head, old);
    const since = limiter.logged().length;
    await target.redis.hdel(target.names.pods, limiter.pod);
    await target.redis.publish(target.names.changes, 'head 1');
    // It has reported again, so it has seen the old head.
    await eventually(async () => expect((await report()).identity).toEqual(newer));
    expect(await enforcedLimit()).toBe(200);
    expect(limiter.logged().slice(since)).toEqual([]);
    const next = { ...old, revision: '3', manifest: newer.manifest };
    await target.redis.hset(target.names.head, next);
    await untilRevision(limiter, 3);
    expect(await enforcedLimit()).toBe(200);
  });

  it('follows another incarnation, whatever its revision', async () => {
    await givenLoaded();
    await publishEntries(target, [aPolicyOf(200)]);
    await untilRevision(limiter, 2);
    await target.redis.flushall();
    const fresh = await publishEntries(target, [aPolicyOf(300)]);
    expect(fresh.revision).toBe(1);
    await eventually(async () => expect((await report()).identity).toEqual(fresh));
    expect(await enforcedLimit()).toBe(300);
  });

  it('follows a higher epoch with a lower revision', async () => {
    await givenLoaded();
    await publishEntries(target, [aPolicyOf(200)]);
    await untilRevision(limiter, 2);
    await target.redis.hset(target.names.head, { epoch: 2, revision: 0 });
    const taken = await publishEntries(target, [aPolicyOf(300)]);
    expect(taken).toMatchObject({ epoch: 2, revision: 1 });
    await eventually(async () => expect((await report()).identity).toEqual(taken));
    expect(await enforcedLimit()).toBe(300);
  });
});

const futureDocument: Document = { format: 1, requires: ['quota'], kind: 'SystemHealth', name: 'x', mode: 'NORMAL' };

describe('what a limiter cannot follow', () => {
  it.each([
    ['a document of another format', '{"format": 2, "requires": [], "kind": "RateLimitPolicy"}', 'format 1'],
    ['a document that needs a feature which it lacks', toStored(futureDocument).text, 'quota'],
    ['a document that is broken', '{"format": 1', 'not JSON'],
  ])('%s: keeps the last good configuration and says so, then follows what it can read', async (_title, text, says) => {
    await givenLoaded();
    const good = (await report()).identity;
    await publishEntries(target, [aPolicyOf(200), aRawDocument(text, 'unreadable')]);
    const acknowledgement = await eventually(async () => {
      const current = await report();
      expect(current.problem).toContain('revision 2 cannot be read');
      return current;
    });
    expect(acknowledgement.problem).toContain(says);
    expect(acknowledgement.identity).toEqual(good);
    expect(await enforcedLimit()).toBe(100);
    expect(await readyz()).toMatchObject({ status: 200, body: { status: 'ok', problem: acknowledgement.problem } });
    // Tried once: as long as head names it, nothing is read again.
    await resetCommandStats(target.redis);
    await target.redis.publish(target.names.changes, 'head 2');
    await eventually(async () => expect(await callsOf(target.redis, 'evalsha')).toBeGreaterThan(0));
    expect(await callsOf(target.redis, 'mget')).toBe(0);
    await publishEntries(target, [aPolicyOf(300)]);
    await untilRevision(limiter, 3);
    expect(await enforcedLimit()).toBe(300);
    await eventually(async () => expect(await report()).not.toHaveProperty('problem'));
    expect(limiter.logged().filter(({ event }) => event === 'snapshot_refused')).toHaveLength(1);
  });

  it('a document that is missing: keeps what it has, says so, and goes on when it is there', async () => {
    const { names, redis } = target;
    const missing = aPolicyOf(200);
    const { manifest } = await publishEntries(target, [missing]);
    await publishEntries(target, [aPolicyOf(100)]);
    limiter = await startTestLimiter({ redisUrl: server.url });
    await untilRevision(limiter, 2);
    await redis.del(names.document(missing.document.name));
    await redis.hset(names.head, { manifest, revision: 3 });
    await eventually(async () =>
      expect((await report()).problem).toContain(`document ${missing.document.name} is not`),
    );
    expect(await enforcedLimit()).toBe(100);
    expect((await report()).identity?.revision).toBe(2);
    await redis.set(names.document(missing.document.name), missing.document.text);
    await untilRevision(limiter, 3);
    expect(await enforcedLimit()).toBe(200);
    await eventually(async () => expect(await report()).not.toHaveProperty('problem'));
  });

  it('the configuration of another owner: keeps its own, says so, and is not on the list of theirs', async () => {
    await givenLoaded();
    const own = await target.redis.hgetall(target.names.head);
    await target.redis.flushall();
    await publishEntries({ ...target, owner: 'somebody else' }, [aPolicyOf(200)]);
    await eventually(async () => expect((await readyz()).body['problem']).toContain('"somebody else"'));
    expect(await readyz()).toMatchObject({ status: 200 });
    expect(await enforcedLimit()).toBe(100);
    expect(limiter.logged()).toContainEqual(expect.objectContaining({ reason: 'RedisOwnedByOther' }));
    await target.redis.del(target.names.pods);
    await resetCommandStats(target.redis);
    await target.redis.publish(target.names.changes, 'head 1');
    await eventually(async () => expect(await callsOf(target.redis, 'evalsha')).toBeGreaterThan(1));
    expect(await target.redis.exists(target.names.pods)).toBe(0);
    await target.redis.hset(target.names.head, own);
    await eventually(async () => expect((await report()).identity?.manifest).toBe(own['manifest']));
    await eventually(async () => expect((await readyz()).body).toEqual({ status: 'ok' }));
    expect(await enforcedLimit()).toBe(100);
  });
});
