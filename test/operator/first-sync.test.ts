import { afterAll, beforeAll, expect, it } from 'vitest';
import { ApiClient } from '../../operator/kubernetes/api-client.ts';
import { readHead, readManifest } from '../../store/configuration.ts';
import { createNames } from '../../store/names.ts';
import { type ApiProxy, kubeConfigFor, refuse, startApiProxy } from '../harness/api-proxy.ts';
import { type Cluster, startCluster } from '../harness/cluster.ts';
import { eventually } from '../harness/eventually.ts';
import { setEndpoints, startTestOperator } from '../harness/operator.ts';
import { type PrivateRedis, privateRedis } from '../harness/redis.ts';

const names = createNames('default');

let cluster: Cluster;
let redis: PrivateRedis;
let http: ApiProxy;
beforeAll(async () => {
  [cluster, redis] = await Promise.all([startCluster(), privateRedis()]);
  http = await startApiProxy(cluster.controlPlane);
  await setEndpoints(cluster, []);
});
afterAll(async () => {
  await http.close();
  await redis.stop();
  await cluster.stop();
});

/** The names of policies in force; undefined while there is no head. */
async function inForce(): Promise<string[] | undefined> {
  const head = await readHead(redis.redis, names);
  if (head === undefined) return undefined;
  return [...(await readManifest(redis.redis, names, head.manifest)).entries.values()].map(({ name }) => name);
}

const aSpec = {
  rules: [
    { name: 'all', countBy: ['consumer'], algorithm: 'TokenBucket', limits: [{ windowSeconds: 60, requests: 5 }] },
  ],
};

it('nothing is published before every kind has been read: what is in force stays while one cannot be', async () => {
  for (const name of ['one', 'other']) await cluster.apply('RateLimitPolicy', name, aSpec);
  const first = startTestOperator(cluster, redis);
  await eventually(async () => expect((await inForce())?.toSorted()).toEqual(['one', 'other']), 60_000);
  const before = await readHead(redis.redis, names);
  await first.stop();

  http.intervene((request, response) =>
    request.url?.includes('/ratelimitpolicies?') ? refuse(response, 500) : undefined,
  );
  const second = startTestOperator(cluster, redis, {}, new ApiClient(kubeConfigFor(http.port)));
  await eventually(() => {
    for (const kind of ['consumers', 'systemhealths', 'ratelimitdomains', 'ratelimitoverrides']) {
      expect(second.logged()).toContain(`"resource":"${kind}","objects"`);
    }
    expect(http.count(/\/ratelimitpolicies\?/)).toBeGreaterThan(2);
  }, 60_000);
  expect(second.operator.hasSynced()).toBe(false);
  expect(await readHead(redis.redis, names)).toEqual(before);

  await cluster.remove('RateLimitPolicy', 'other');
  http.intervene(undefined);
  await eventually(async () => expect(await inForce()).toEqual(['one']), 60_000);
  await second.stop();
}, 180_000);
