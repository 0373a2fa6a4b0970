import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { hashOfKey, recordNameOf } from '../../policy/api-key.ts';
import { readHead } from '../../store/configuration.ts';
import { createNames } from '../../store/names.ts';
import { type Cluster, startCluster, type Stored } from '../harness/cluster.ts';
import { eventually } from '../harness/eventually.ts';
import { PEPPER, startTestLimiter, type TestLimiter, untilRevision } from '../harness/limiter.ts';
import { setEndpoints, startTestOperator, TestPod, type TestOperator } from '../harness/operator.ts';
import { type PrivateRedis, privateRedis } from '../harness/redis.ts';

const names = createNames('default');
const SLOW = 180_000;

let cluster: Cluster;
let redis: PrivateRedis;
let running: TestOperator;
beforeAll(async () => {
  [cluster, redis] = await Promise.all([startCluster(), privateRedis()]);
});
afterAll(async () => {
  await redis.stop();
  await cluster.stop();
});
beforeEach(async () => {
  await redis.redis.flushall();
  for (const kind of ['RateLimitPolicy', 'Consumer', 'SystemHealth'] as const) {
    for (const { metadata } of await cluster.list(kind)) await cluster.remove(kind, metadata.name);
  }
});
afterEach(() => running.stop());

const aSpec = (requests: number, extra: object = {}): object => ({
  rules: [
    {
      name: 'all',
      countBy: ['consumer'],
      algorithm: 'TokenBucket',
      limits: [{ windowSeconds: 60, requests }],
      ...extra,
    },
  ],
});

const reasonOf = ({ status }: Stored, type: string): string | undefined =>
  status.conditions?.find((condition) => condition.type === type)?.reason;

function untilEnforcedIs(name: string, reason: string): Promise<Stored> {
  return eventually(async () => {
    const object = await cluster.get('RateLimitPolicy', name);
    if (reasonOf(object, 'Enforced') !== reason) throw new Error(JSON.stringify(object.status));
    return object;
  }, 60_000);
}

async function aPod(name: string): Promise<TestPod> {
  const pod = new TestPod(redis, name);
  await pod.start();
  return pod;
}

type Event = {
  readonly reason: string;
  readonly action: string;
  readonly type: string;
  readonly note: string;
  readonly series?: { readonly count: number };
  readonly regarding: { readonly name: string };
};

async function eventsOf(name: string): Promise<Event[]> {
  const { items } = (await cluster.client.call('/apis/events.k8s.io/v1/namespaces/default/events')) as {
    items: Event[];
  };
  return items.filter(({ regarding }) => regarding.name === name);
}

describe('Enforced is said', { timeout: SLOW }, () => {
  it('only when every pod has acknowledged that requests are sent to; who has not is named', async () => {
    await setEndpoints(cluster, ['pod-a', 'pod-b'], ['pod-c']);
    running = startTestOperator(cluster, redis);
    const [a, stray] = [await aPod('pod-a'), await aPod('not-of-the-service')];
    await cluster.apply('RateLimitPolicy', 'named', aSpec(5));
    const lagging = await untilEnforcedIs('named', 'PodsLagging');
    expect(lagging.status).toMatchObject({ pods: { ready: 2, acknowledged: 1 } });
    expect(JSON.stringify(lagging.status)).toContain('not acknowledged by pod-b (has not reported)');
    const b = await aPod('pod-b');
    const enforced = await untilEnforcedIs('named', 'Enforced');
    expect(enforced.status).toMatchObject({ pods: { ready: 2, acknowledged: 2 } });
    await Promise.all([a, b, stray].map((pod) => pod.stop()));
  });

  it('no longer when no pod is ready, or a ready one falls silent', async () => {
    await setEndpoints(cluster, ['pod-a', 'pod-b']);
    running = startTestOperator(cluster, redis);
    const pods = [await aPod('pod-a'), await aPod('pod-b')];
    await cluster.apply('RateLimitPolicy', 'silent', aSpec(5));
    await untilEnforcedIs('silent', 'Enforced');
    await pods[1]?.stop();
    expect(JSON.stringify((await untilEnforcedIs('silent', 'PodsLagging')).status)).toContain('pod-b');
    await setEndpoints(cluster, [], ['pod-a', 'pod-b']);
    expect(reasonOf(await untilEnforcedIs('silent', 'NoPods'), 'Ready')).toBe('NoPods');
    await pods[0]?.stop();
  });

  it('again when somebody has edited the status by hand', async () => {
    await setEndpoints(cluster, ['pod-a']);
    running = startTestOperator(cluster, redis);
    const pod = await aPod('pod-a');
    await cluster.apply('RateLimitPolicy', 'forged', aSpec(5));
    const { status } = await untilEnforcedIs('forged', 'Enforced');
    const forged = { status: { ...status, activeGeneration: 99, conditions: [] } };
    await cluster.controlPlane.kubectl([
      'patch',
      'ratelimitpolicy',
      'forged',
      '--subresource=status',
      '--type=merge',
      '-p',
      JSON.stringify(forged),
    ]);
    await eventually(async () =>
      expect((await cluster.get('RateLimitPolicy', 'forged')).status).toMatchObject({ activeGeneration: 1 }),
    );
    await untilEnforcedIs('forged', 'Enforced');
    await pod.stop();
  });
});

describe('bad input', { timeout: SLOW }, () => {
  it('that only the operator can see is refused with the field, and the last good stays in force', async () => {
    await setEndpoints(cluster, ['pod-a']);
    running = startTestOperator(cluster, redis);
    const pod = await aPod('pod-a');
    await cluster.apply('RateLimitPolicy', 'bad', aSpec(5));
    await untilEnforcedIs('bad', 'Enforced');
    await cluster.apply(
      'RateLimitPolicy',
      'bad',
      aSpec(5, { match: { paths: [{ type: 'Prefix', value: '/a/../b' }] } }),
    );
    const { status } = await untilEnforcedIs('bad', 'LastGoodActive');
    expect(status).toMatchObject({
      observedGeneration: 2,
      activeGeneration: 1,
      problems: [{ path: 'spec.rules[0].match.paths[0].value', reason: 'PathNotNormal' }],
    });
    await pod.stop();
  });

  it('does not keep others from being enforced', async () => {
    await setEndpoints(cluster, ['pod-a']);
    running = startTestOperator(cluster, redis);
    const pod = await aPod('pod-a');
    const rules = (count: number): object => ({
      rules: Array.from({ length: count }, (_, i) => ({
        name: `r${i}`,
        match: { paths: [{ type: 'Exact', value: `/%C3%B6ffentlich/${'x'.repeat(200)}/${i}` }] },
        countBy: ['consumer'],
        algorithm: 'SlidingWindow',
        limits: [{ windowSeconds: 60, requests: 5 }],
      })),
    });
    await expect(cluster.apply('RateLimitPolicy', 'huge', rules(300))).rejects.toMatchObject({ status: 422 });
    await cluster.apply('RateLimitPolicy', 'large', rules(32));
    await cluster.apply('RateLimitPolicy', 'fleeting', aSpec(7));
    await cluster.remove('RateLimitPolicy', 'fleeting');
    await cluster.apply('RateLimitPolicy', 'good', aSpec(5));
    await cluster.apply('SystemHealth', 'incident', { mode: 'DEGRADED', reason: 'Zürich 東京 🔥' });
    await untilEnforcedIs('good', 'Enforced');
    await eventually(async () => {
      expect((await cluster.get('RateLimitPolicy', 'large')).status.observedGeneration).toBe(1);
      expect(reasonOf(await cluster.get('SystemHealth', 'incident'), 'Enforced')).toBe('Enforced');
    });
    expect(running.logged()).not.toContain('work_failed');
    await pod.stop();
  });
});

/** Every list of every match as long as its schema allows, and every text: about a megabyte as JSON. */
function aHugeSpec(rules: number): object {
  const long = (prefix: string, index: number, length: number): string => `${prefix}${index}-`.padEnd(length, 'x');
  const many = <T>(count: number, make: (index: number) => T): T[] => Array.from({ length: count }, (_, i) => make(i));
  const match = (seed: number): object => ({
    paths: many(16, (i) => ({ type: 'Exact', value: long(`/${seed}-`, i, 256) })),
    hosts: many(16, (i) => `${long('h', i, 60)}.${'y'.repeat(63)}.${'z'.repeat(63)}.example`),
    headers: many(8, (i) => ({ name: long('h', i, 64), type: 'Exact', value: long('v', i, 256) })),
    attributes: many(8, (i) => ({ name: long('a', i, 64), type: 'Exact', value: '東京'.repeat(128) })),
    tenants: many(32, (i) => long('t', i, 128)),
    consumers: many(32, (i) => long('key:', i, 260)),
  });
  return {
    exemptions: many(16, (i) => ({ name: `e${i}`, match: match(i) })),
    rules: many(rules, (i) => ({
      name: `r${i}`,
      match: match(100 + i),
      countBy: ['consumer'],
      algorithm: 'TokenBucket',
      limits: [{ windowSeconds: 60, requests: 5 }],
    })),
  };
}

describe('a policy as large as the API server takes', { timeout: SLOW }, () => {
  it('is enforced by a real limiter, and a larger one is refused by the API server', async () => {
    await setEndpoints(cluster, ['pod-a']);
    running = startTestOperator(cluster, redis);
    const limiter = await startTestLimiter({ redisUrl: redis.url });
    const huge = aHugeSpec(24);
    expect(JSON.stringify(huge).length).toBeGreaterThan(1_000_000);
    await create('huge', huge);
    await cluster.apply('RateLimitPolicy', 'neighbour', aSpec(5));
    await untilEnforcedIs('huge', 'Enforced');
    await untilEnforcedIs('neighbour', 'Enforced');
    await expect(create('larger', aHugeSpec(64))).rejects.toThrow('larger than max');
    expect(running.logged()).not.toContain('work_failed');
    await limiter.stop();
  });
});

/** Unlike server-side apply, this does not store the names of all fields a second time. */
async function create(name: string, spec: object): Promise<void> {
  await cluster.client.call('/apis/sluice.dev/v1alpha1/namespaces/default/ratelimitpolicies', {
    method: 'POST',
    body: { apiVersion: 'sluice.dev/v1alpha1', kind: 'RateLimitPolicy', metadata: { name }, spec },
  });
}

describe('Events', { timeout: SLOW }, () => {
  it('tell every change of state, and count what repeats', async () => {
    await setEndpoints(cluster, ['pod-a']);
    running = startTestOperator(cluster, redis);
    const pod = await aPod('pod-a');
    const bad = { match: { paths: [{ type: 'Prefix', value: '/a/../b' }] } };
    for (const extra of [{}, bad, {}, bad, {}]) {
      await cluster.apply('RateLimitPolicy', 'told', aSpec(5, extra));
      await untilEnforcedIs('told', extra === bad ? 'LastGoodActive' : 'Enforced');
    }
    const told = await eventually(async () => {
      const events = await eventsOf('told');
      expect(events.find(({ reason }) => reason === 'Invalid')?.series?.count).toBe(2);
      expect(events.find(({ reason }) => reason === 'Enforced')?.series?.count).toBe(3);
      return events;
    });
    const invalid = told.find(({ reason }) => reason === 'Invalid');
    expect(invalid).toMatchObject({
      type: 'Warning',
      action: 'Accepted',
      note: expect.stringContaining('spec.rules[0]'),
    });
    expect(told.filter(({ reason }) => reason === 'Enforced')).toHaveLength(1);
    await pod.stop();
  });
});

describe('what Redis has lost', { timeout: SLOW }, () => {
  it('is written again: a document, a key, or everything', async () => {
    await setEndpoints(cluster, []);
    running = startTestOperator(cluster, redis, { auditMillis: 300 });
    await cluster.apply('RateLimitPolicy', 'lost', aSpec(5));
    await cluster.apply('Consumer', 'frank', { apiKeyHashes: [`sha256:${hashOfKey('key')}`] });
    const record = names.consumerKey(recordNameOf(PEPPER, hashOfKey('key')));
    const stored = async (): Promise<string[]> => (await redis.redis.keys('sluice:default:{config}:doc:*')).toSorted();
    await eventually(async () => expect(await redis.redis.exists(record)).toBe(1));
    const complete = await eventually(async () => {
      const documents = await stored();
      expect(documents.length).toBeGreaterThanOrEqual(3);
      return documents;
    });
    for (const document of complete) {
      if ((await redis.redis.pttl(document)) !== -1) continue;
      await redis.redis.del(document);
      await eventually(async () => expect(await redis.redis.pttl(document)).toBe(-1));
    }
    const text = await redis.redis.get(record);
    await redis.redis.del(record);
    await eventually(async () => expect(await redis.redis.get(record)).toBe(text));
    await redis.redis.set(record, '{}');
    await eventually(async () => expect(await redis.redis.get(record)).toBe(text));
    const before = await readHead(redis.redis, names);
    await redis.redis.flushall();
    await eventually(async () => {
      const head = await readHead(redis.redis, names);
      expect(head?.incarnation).toEqual(expect.any(String));
      expect(head?.incarnation).not.toBe(before?.incarnation);
      expect(await redis.redis.get(record)).not.toBeNull();
    });
    expect(running.logged()).toContain('store_damaged');
  });

  it('can be had from the operator while Redis is away, exactly as it was', async () => {
    await setEndpoints(cluster, []);
    running = startTestOperator(cluster, redis);
    await cluster.apply('RateLimitPolicy', 'kept', aSpec(5));
    await untilEnforcedIs('kept', 'NoPods');
    const head = await readHead(redis.redis, names);
    const documents = await redis.redis.keys('sluice:default:{config}:doc:*');
    const texts = new Map(
      await Promise.all(
        documents.map(async (key) => [key.slice(key.lastIndexOf(':') + 1), await redis.redis.get(key)] as const),
      ),
    );
    await redis.stopServer();
    const snapshot = running.operator.snapshot();
    const body = JSON.parse(snapshot?.body ?? '{}') as { head: object; documents: Record<string, string> };
    await redis.startServer();
    expect(body.head).toEqual(head);
    expect(Object.keys(body.documents).length).toBeGreaterThanOrEqual(3);
    for (const [name, text] of Object.entries(body.documents)) expect(text).toBe(texts.get(name));
  });
});

describe('a real limiter', { timeout: SLOW }, () => {
  let limiter: TestLimiter;
  afterEach(() => limiter.stop());

  it('is what Enforced speaks of', async () => {
    await setEndpoints(cluster, ['limiter-a']);
    running = startTestOperator(cluster, redis);
    limiter = await startTestLimiter({ redisUrl: redis.url, pod: 'limiter-a' });
    await cluster.apply('RateLimitPolicy', 'real', aSpec(2));
    const { status } = await untilEnforcedIs('real', 'Enforced');
    await untilRevision(limiter, Number(status['revision']));
    const answers = [];
    for (let i = 0; i < 3; i += 1) answers.push(await limiter.check({ domain: 'default', consumer: 'erin' }));
    expect(answers.map(({ body }) => body['action'])).toEqual(['ALLOW', 'ALLOW', 'THROTTLE']);
  });
});
