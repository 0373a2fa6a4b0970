import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { type Cluster, startCluster } from '../harness/cluster.ts';
import { eventually } from '../harness/eventually.ts';
import { OWNER, PEPPER, startTestLimiter } from '../harness/limiter.ts';
import { setEndpoints, startTestOperator } from '../harness/operator.ts';
import { startSluice } from '../harness/processes.ts';
import { freePort, type PrivateRedis, privateRedis } from '../harness/redis.ts';

const OLDER = join(import.meta.dirname, '../harness/older-format.ts');

let cluster: Cluster;
let redis: PrivateRedis;
beforeAll(async () => {
  [cluster, redis] = await Promise.all([startCluster(), privateRedis()]);
});
afterAll(async () => {
  await redis.stop();
  await cluster.stop();
});

const aSpec = (requests: number): object => ({
  rules: [{ name: 'all', countBy: ['consumer'], algorithm: 'TokenBucket', limits: [{ windowSeconds: 60, requests }] }],
});

async function untilSaid(reason: string, message: string): Promise<void> {
  await eventually(async () => {
    const { metadata, status } = await cluster.get('RateLimitPolicy', 'both');
    const enforced = status.conditions?.find(({ type }) => type === 'Enforced');
    expect(enforced).toMatchObject({
      observedGeneration: metadata.generation,
      reason,
      message: expect.stringContaining(message),
    });
  }, 60_000);
}

it('a limiter of an earlier version beside a new one is named with what it cannot read, until it is gone', async () => {
  await setEndpoints(cluster, ['new']);
  const running = startTestOperator(cluster, redis);
  const limiter = await startTestLimiter({ redisUrl: redis.url, pod: 'new' });
  await cluster.apply('RateLimitPolicy', 'both', aSpec(5));
  await untilSaid('Enforced', 'every ready limiter pod');
  const ports = ['--port', '--ops-port', '--grpc-port'];
  const args = await Promise.all(ports.map(async (option) => [option, String(await freePort())]));
  const older = startSluice(
    ['limiter', '--pod-name', 'older', '--owner', OWNER, '--host', '127.0.0.1', '--drain-ms', '0', ...args.flat()],
    { SLUICE_REDIS_URL: redis.url, SLUICE_PEPPER: PEPPER, NODE_OPTIONS: `--import=${OLDER}` },
  );
  await setEndpoints(cluster, ['new', 'older']);
  await cluster.apply('RateLimitPolicy', 'both', aSpec(6));
  await untilSaid('PodsLagging', 'not acknowledged by older (revision ');
  // The new one enforces meanwhile, and what is said is what holds.
  await eventually(async () => {
    const { body } = await limiter.check({ domain: 'default', consumer: 'someone', mode: 'peek' });
    expect(body).toMatchObject({ policy: 'default/both', limit: 6 });
  });
  expect(await older.stop()).toBe(0);
  await setEndpoints(cluster, ['new']);
  await untilSaid('Enforced', 'every ready limiter pod');
  await limiter.stop();
  await running.stop();
}, 180_000);
