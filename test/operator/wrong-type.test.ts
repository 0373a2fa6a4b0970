import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createNames } from '../../store/names.ts';
import { type Cluster, startCluster } from '../harness/cluster.ts';
import { eventually } from '../harness/eventually.ts';
import { setEndpoints, startTestOperator, TestPod, type TestOperator } from '../harness/operator.ts';
import { type PrivateRedis, privateRedis } from '../harness/redis.ts';

const names = createNames('default');
const PATIENCE_MILLIS = 60_000;

let cluster: Cluster;
let redis: PrivateRedis;
let running: TestOperator;
let pod: TestPod;
beforeAll(async () => {
  [cluster, redis] = await Promise.all([startCluster(), privateRedis()]);
  await setEndpoints(cluster, ['pod-a']);
  running = startTestOperator(cluster, redis);
  pod = new TestPod(redis, 'pod-a');
  await pod.start();
});
afterAll(async () => {
  await pod.stop();
  await running.stop();
  await redis.stop();
  await cluster.stop();
});

const aSpec = (requests: number): object => ({
  rules: [{ name: 'all', countBy: ['consumer'], algorithm: 'TokenBucket', limits: [{ windowSeconds: 60, requests }] }],
});

type Said = { readonly generation: number; readonly reason: string; readonly message?: unknown };

const untilSaid = (said: Said): Promise<void> =>
  eventually(async () => {
    const { status } = await cluster.get('RateLimitPolicy', 'told');
    const enforced = status.conditions?.find(({ type }) => type === 'Enforced');
    const { generation, ...verdict } = said;
    expect({ ...enforced, generation: status.observedGeneration }).toMatchObject({ generation, ...verdict });
  }, PATIENCE_MILLIS);

describe('an operator that finds something else under a key of its own in Redis', { timeout: 180_000 }, () => {
  it.each([
    ['the pods', names.pods],
    ['head', names.head],
    ['the marker of the key set', names.consumerKeysMarker],
  ])('(%s) says so, goes on, and is right when it has been taken away', async (_what, key) => {
    await cluster.apply('RateLimitPolicy', 'told', aSpec(5));
    const { generation } = (await cluster.get('RateLimitPolicy', 'told')).metadata;
    await untilSaid({ generation, reason: 'Enforced' });
    await redis.redis.del(key);
    await redis.redis.set(key, 'nobody of ours');
    await cluster.apply('RateLimitPolicy', 'told', aSpec(5 + generation));
    await untilSaid({
      generation: generation + 1,
      reason: 'RedisUnavailable',
      message: expect.stringContaining('WRONG_TYPE'),
    });
    await redis.redis.del(key);
    await untilSaid({ generation: generation + 1, reason: 'Enforced' });
    expect(running.logged()).not.toContain('operator_displaced');
  });
});
