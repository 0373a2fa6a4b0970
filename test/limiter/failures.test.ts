import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { listPods } from '../../store/acknowledgements.ts';
import { eventually } from '../harness/eventually.ts';
import {
  get,
  type Json,
  metric,
  PEPPER,
  post,
  startTestLimiter,
  targetOn,
  type TestLimiter,
  untilRevision,
} from '../harness/limiter.ts';
import { aPolicy, publishEntries, publishKeys, type Target, type TestKey } from '../harness/publish.ts';
import { type PrivateRedis, privateRedis } from '../harness/redis.ts';
import { startTcpProxy, type TcpProxy } from '../harness/tcp-proxy.ts';

const POLICY = aPolicy({
  rules: [
    {
      name: 'per-consumer',
      countBy: ['consumer'],
      algorithm: 'TokenBucket',
      failurePolicy: 'Open',
      limits: [{ windowSeconds: 3_600, requests: 10 }],
    },
  ],
});
const KEYS: readonly TestKey[] = [
  { key: 'key of acme', consumer: 'acme' },
  { key: 'key of zeta', consumer: 'zeta' },
];

let server: PrivateRedis;
let proxy: TcpProxy;
let target: Target;
const started: TestLimiter[] = [];

beforeEach(async () => {
  server = await privateRedis();
  proxy = await startTcpProxy(server.port);
  target = targetOn(server);
  await publishKeys(target, KEYS, PEPPER);
  await publishEntries(target, [POLICY]);
});
afterEach(async () => {
  proxy.releaseReplies();
  await Promise.all(started.splice(0).map((limiter) => limiter.stop()));
  await proxy.close();
  await server.stop();
});

async function start(pod = 'pod-a', redisDeadlineMillis = 20_000): Promise<TestLimiter> {
  const limiter = await startTestLimiter({ redisUrl: `redis://127.0.0.1:${proxy.port}`, pod, redisDeadlineMillis });
  started.push(limiter);
  await untilRevision(limiter, 1);
  return limiter;
}

const ask = async (limiter: TestLimiter, body: Json = {}): Promise<Json> =>
  (await limiter.check({ domain: 'payments', consumer: 'alice', ...body })).body;

const eventsOf = (limiter: TestLimiter): unknown[] => limiter.logged().map(({ event }) => event);

const FAIL_OPEN = { action: 'ALLOW', allowed: true, reason: 'FAIL_OPEN', triggered_by: 'FailurePolicy', limit: null };
const WITHIN_LIMIT = { action: 'ALLOW', reason: 'WITHIN_LIMIT', limit: 10 };

const storeErrors = (limiter: TestLimiter, code: string): Promise<number> =>
  metric(limiter, `sluice_store_errors_total{code="${code}"}`);

describe('when Redis is killed, a loaded limiter', () => {
  it('allows, says why and counts it, stays ready, and limits again when Redis is back', async () => {
    const limiter = await start();
    expect(await ask(limiter, { cost: 10 })).toMatchObject(WITHIN_LIMIT);
    expect(await ask(limiter)).toMatchObject({ action: 'THROTTLE' });
    await server.stopServer();
    await eventually(async () => expect(await ask(limiter)).toMatchObject(FAIL_OPEN));
    expect(await ask(limiter, { cost: 5 })).toMatchObject(FAIL_OPEN);
    const plain = await post(`${limiter.url}/check`, '{"identifier": "alice"}');
    expect(plain).toMatchObject({ status: 200, body: { allowed: true, limit: null } });
    const series = 'sluice_decisions_total{domain="payments",policy="",action="ALLOW",reason="FAIL_OPEN"}';
    expect(await metric(limiter, series)).toBe(await storeErrors(limiter, 'UNAVAILABLE'));
    expect(await metric(limiter, series)).toBeGreaterThanOrEqual(3);
    expect(await metric(limiter, 'sluice_fail_open_total{domain="payments"}')).toBe(await metric(limiter, series));
    expect(await metric(limiter, 'sluice_redis_round_trip_seconds_count')).toBeGreaterThanOrEqual(1);
    // No heartbeat says any more that the configuration is the published one.
    const age = await metric(limiter, 'sluice_snapshot_age_seconds');
    await eventually(async () =>
      expect(await metric(limiter, 'sluice_snapshot_age_seconds')).toBeGreaterThan(age + 2.5),
    );
    expect(await get(`${limiter.opsUrl}/readyz`)).toMatchObject({ status: 200 });
    await eventually(async () => {
      expect(await get(`${limiter.url}/health`)).toMatchObject({
        status: 200,
        body: { status: 'ok', redis: 'unreachable' },
      });
    });
    expect(await metric(limiter, 'sluice_redis_reachable')).toBe(0);
    await server.startServer();
    // Redis is empty: the configuration is what the pod holds, the counters begin anew.
    await eventually(async () => expect(await ask(limiter)).toMatchObject(WITHIN_LIMIT));
    await eventually(async () => {
      expect((await get(`${limiter.url}/health`)).body).toMatchObject({ redis: 'ok', revision: 1 });
      const { pods } = await listPods(target.redis, target.names);
      expect(pods.map(({ acknowledgement }) => acknowledgement.identity?.revision)).toEqual([1]);
    });
    expect(limiter.logged().filter(({ event, role }) => event === 'redis_down' && role === 'decisions')).toHaveLength(
      1,
    );
  });

  it('still knows the keys that it has seen, and turns none away that it has not', async () => {
    const limiter = await start();
    expect(await ask(limiter, { api_key: 'key of acme' })).toMatchObject(WITHIN_LIMIT);
    await server.stopServer();
    for (const { key } of [...KEYS, { key: 'wrong' }]) {
      const { status, body } = await limiter.check({ domain: 'payments', api_key: key });
      expect(status).toBe(200);
      expect(body).toMatchObject(FAIL_OPEN);
    }
    expect(await storeErrors(limiter, 'IDENTITY_UNAVAILABLE')).toBe(2);
  });
});

describe('when Redis stalls, a loaded limiter', () => {
  it('allows after its deadline, and limits again when Redis answers', async () => {
    const limiter = await start('pod-a', 50);
    await eventually(async () => expect(await ask(limiter)).toMatchObject(WITHIN_LIMIT));
    const before = await storeErrors(limiter, 'TIMEOUT');
    proxy.holdReplies();
    expect(await ask(limiter)).toMatchObject(FAIL_OPEN);
    // The connection has not been given up yet: it was the deadline that answered.
    expect(eventsOf(limiter)).not.toContain('redis_down');
    expect(await storeErrors(limiter, 'TIMEOUT')).toBe(before + 1);
    proxy.releaseReplies();
    await eventually(async () => expect(await ask(limiter)).toMatchObject(WITHIN_LIMIT));
  });

  it('waits no longer for the owner of an API key', async () => {
    const limiter = await start('pod-a', 50);
    await eventually(async () => expect(await ask(limiter)).toMatchObject(WITHIN_LIMIT));
    proxy.holdReplies();
    const { status, body } = await limiter.check({ domain: 'payments', api_key: 'key of acme' });
    expect(status).toBe(200);
    expect(body).toMatchObject(FAIL_OPEN);
    expect(eventsOf(limiter)).not.toContain('redis_down');
    expect(await storeErrors(limiter, 'IDENTITY_UNAVAILABLE')).toBe(1);
  });
});

describe('when Redis refuses', () => {
  it('for want of memory, requests pass and are counted', async () => {
    const limiter = await start();
    await server.redis.config('SET', 'maxmemory', '1');
    expect(await ask(limiter)).toMatchObject(FAIL_OPEN);
    expect(await storeErrors(limiter, 'REFUSED')).toBe(1);
    await server.redis.config('SET', 'maxmemory', '0');
    await eventually(async () => expect(await ask(limiter)).toMatchObject(WITHIN_LIMIT));
  });

  it('for want of memory, nobody gets more than a share whom no key and no caller names [P26]', async () => {
    const limiter = await start();
    await server.redis.config('SET', 'maxmemory', '1');
    const anonymous = { consumer: undefined, ip: '203.0.113.9' };
    const answers = await Promise.all(Array.from({ length: 30 }, () => ask(limiter, anonymous)));
    expect(answers.filter(({ reason }) => reason === 'LOCAL_FALLBACK')).toHaveLength(10);
    expect(answers.filter(({ reason }) => reason === 'LOCAL_FALLBACK_EXCEEDED')).toHaveLength(20);
    expect(await ask(limiter)).toMatchObject(FAIL_OPEN);
    expect(await ask(limiter, { api_key: 'key of acme' })).toMatchObject(FAIL_OPEN);
  });

  it('one counter that is none, only its own requests pass, and are counted', async () => {
    const limiter = await start();
    await ask(limiter, { consumer: 'planted' });
    const [key = ''] = await server.redis.keys('sluice:default:c1:*');
    await server.redis.set(key, 'not a hash');
    const answers = await Promise.all([ask(limiter), ask(limiter, { consumer: 'planted' }), ask(limiter)]);
    expect(answers).toMatchObject([WITHIN_LIMIT, FAIL_OPEN, WITHIN_LIMIT]);
    expect(await storeErrors(limiter, 'WRONG_TYPE')).toBe(1);
  });
});

describe('when Redis loses everything', () => {
  it('no valid key is ever turned away, and pods follow the new incarnation once it is published', async () => {
    const limiters = [await start('pod-a'), await start('pod-b')];
    const keys = ['key of acme'];
    const statuses = new Set<number>();
    const reasons = new Set<unknown>();
    const over = new AbortController();
    let rounds = 0;
    const load = limiters.map(async (limiter) => {
      for (; !over.signal.aborted; rounds += 1) {
        for (const key of keys) {
          const { status, body } = await limiter.check({ domain: 'payments', api_key: key });
          statuses.add(status);
          reasons.add(body['reason']);
        }
      }
    });
    const moreRounds = async (): Promise<void> => {
      const wanted = rounds + 20;
      await eventually(() => expect(rounds).toBeGreaterThan(wanted));
    };
    await moreRounds();
    await server.redis.flushall();
    // This one no pod has seen before: nobody can say who it is, until the keys are there again.
    keys.push('key of zeta');
    await moreRounds();
    const fresh = await publishEntries(target, [POLICY]);
    await moreRounds();
    await publishKeys(target, KEYS, PEPPER);
    await moreRounds();
    await eventually(async () => {
      const { pods } = await listPods(target.redis, target.names);
      const enforced = pods.map(({ acknowledgement }) => acknowledgement.identity);
      expect(enforced).toEqual([fresh, fresh]);
    });
    over.abort();
    await Promise.all(load);
    expect([...statuses]).toEqual([200]);
    expect(reasons).toEqual(new Set(['WITHIN_LIMIT', 'RATE_LIMIT_EXCEEDED', 'FAIL_OPEN']));
    for (const limiter of limiters) {
      expect(await limiter.check({ domain: 'payments', api_key: 'wrong' })).toMatchObject({ status: 401 });
    }
  });

  it('a key that no pod has seen is nobody’s fault: what else limits the request still does', async () => {
    const limiter = await start();
    await server.redis.flushall();
    const { status, body } = await limiter.check({ domain: 'payments', api_key: 'key of zeta' });
    expect(status).toBe(200);
    expect(body).toMatchObject(FAIL_OPEN);
    expect(await storeErrors(limiter, 'IDENTITY_UNAVAILABLE')).toBe(1);
    await publishKeys(target, KEYS, PEPPER);
    expect(await ask(limiter, { api_key: 'key of zeta' })).toMatchObject(WITHIN_LIMIT);
    expect(await limiter.check({ domain: 'payments', api_key: 'wrong' })).toMatchObject({ status: 401 });
  });
});

describe('two limiters', () => {
  it('share their counters', async () => {
    const limiters = [await start('pod-a'), await start('pod-b')];
    const answers = await Promise.all(
      Array.from({ length: 30 }, (_, i) => limiters.slice(i % 2, (i % 2) + 1).map((limiter) => ask(limiter))).flat(),
    );
    expect(answers.filter(({ allowed }) => allowed)).toHaveLength(10);
    expect(answers.filter(({ reason }) => reason === 'RATE_LIMIT_EXCEEDED')).toHaveLength(20);
  });

  it('follow one change of the keys, each on its own', async () => {
    const limiters = [await start('pod-a'), await start('pod-b')];
    for (const limiter of limiters) expect(await ask(limiter, { api_key: 'key of acme' })).toMatchObject(WITHIN_LIMIT);
    const sequence = await publishKeys(target, [{ key: 'new key', consumer: 'acme' }], PEPPER);
    await eventually(async () => {
      const { pods } = await listPods(target.redis, target.names);
      expect(pods.map(({ acknowledgement }) => acknowledgement.keySequence)).toEqual([sequence, sequence]);
    });
    for (const limiter of limiters) expect(await ask(limiter, { api_key: 'new key' })).toMatchObject(WITHIN_LIMIT);
  });
});
