import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { listPods } from '../../store/acknowledgements.ts';
import { eventually } from '../harness/eventually.ts';
import { type Json, metric, startTestLimiter, targetOn, type TestLimiter, untilRevision } from '../harness/limiter.ts';
import { aPolicy, publishEntries, type Target } from '../harness/publish.ts';
import { type PrivateRedis, privateRedis } from '../harness/redis.ts';
import { startTcpProxy, type TcpProxy } from '../harness/tcp-proxy.ts';

const POLICY = aPolicy({
  rules: [
    {
      name: 'per-consumer',
      countBy: ['consumer'],
      algorithm: 'TokenBucket',
      failurePolicy: 'Open',
      limits: [{ windowSeconds: 3_600, requests: 1_000 }],
    },
  ],
});

let server: PrivateRedis;
let proxy: TcpProxy;
let target: Target;
let limiter: TestLimiter;

beforeEach(async () => {
  server = await privateRedis();
  proxy = await startTcpProxy(server.port);
  target = targetOn(server);
  await publishEntries(target, [POLICY]);
});
afterEach(async () => {
  proxy.releaseReplies();
  await limiter.stop();
  await proxy.close();
  await server.stop();
});

async function start(redisDeadlineMillis: number): Promise<void> {
  limiter = await startTestLimiter({ redisUrl: `redis://127.0.0.1:${proxy.port}`, redisDeadlineMillis });
  await untilRevision(limiter, 1);
}

const ask = async (): Promise<Json> => (await limiter.check({ domain: 'payments', consumer: 'alice' })).body;

const acknowledged = async (): Promise<unknown> =>
  (await listPods(target.redis, target.names)).pods[0]?.acknowledgement.decisions;

const OPENED = 'sluice_breaker_transitions_total{to="OPEN"}';
const CLOSED = 'sluice_breaker_transitions_total{to="CLOSED"}';
const REFUSED_BY_BREAKER = 'sluice_store_errors_total{code="BREAKER_OPEN"}';

describe('a limiter whose Redis stalls for long', () => {
  it('waits for its deadline a few times, then answers by the failure policy at once, says so, and recovers', async () => {
    await start(200);
    await eventually(async () => expect(await ask()).toMatchObject({ reason: 'WITHIN_LIMIT' }));
    expect(await metric(limiter, 'sluice_breaker_state')).toBe(0);
    proxy.holdReplies();
    await eventually(async () => {
      const answers = await Promise.all(Array.from({ length: 20 }, ask));
      expect(new Set(answers.map(({ reason }) => reason))).toEqual(new Set(['FAIL_OPEN']));
      expect(await metric(limiter, OPENED)).toBeGreaterThan(0);
    });
    await eventually(async () => {
      expect(await ask()).toMatchObject({ reason: 'FAIL_OPEN' });
      expect(await metric(limiter, REFUSED_BY_BREAKER)).toBeGreaterThan(0);
    });
    proxy.releaseReplies();
    await eventually(async () => expect(await ask()).toMatchObject({ reason: 'WITHIN_LIMIT' }));
    await eventually(async () => expect(await metric(limiter, 'sluice_breaker_state')).toBe(0));
    expect(await metric(limiter, CLOSED)).toBeGreaterThan(0);
    expect(limiter.logged().filter(({ event }) => event === 'breaker')).toEqual(
      expect.arrayContaining([
        expect.objectContaining({ state: 'OPEN' }),
        expect.objectContaining({ state: 'CLOSED' }),
      ]),
    );
  });
});

describe('a limiter whose decisions are refused while its configuration can be read', () => {
  it('acknowledges that its decisions fail, until they do not', async () => {
    await start(20_000);
    await ask();
    await eventually(async () => expect(await acknowledged()).toBe('ok'));
    const keys = 'sluice:default:{config}:*';
    await server.redis.call('ACL', 'SETUSER', 'default', 'resetkeys', `~${keys}`, '~sluice:default:{keys}:*');
    await eventually(async () => {
      expect(await ask()).toMatchObject({ reason: 'FAIL_OPEN' });
      expect(await acknowledged()).toBe('failing');
    });
    await server.redis.call('ACL', 'SETUSER', 'default', 'allkeys');
    await eventually(async () => {
      expect(await ask()).toMatchObject({ reason: 'WITHIN_LIMIT' });
      expect(await acknowledged()).toBe('ok');
    });
  });
});
