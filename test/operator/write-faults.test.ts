import type { ServerResponse } from 'node:http';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { ApiClient } from '../../operator/kubernetes/api-client.ts';
import { type ApiProxy, kubeConfigFor, refuse, startApiProxy } from '../harness/api-proxy.ts';
import { type Cluster, startCluster } from '../harness/cluster.ts';
import { eventually } from '../harness/eventually.ts';
import { setEndpoints, startTestOperator, TestPod, type TestOperator } from '../harness/operator.ts';
import { type PrivateRedis, privateRedis } from '../harness/redis.ts';
import { startTcpProxy, type TcpProxy } from '../harness/tcp-proxy.ts';

let cluster: Cluster;
let redis: PrivateRedis;
let http: ApiProxy;
let tcp: TcpProxy;
let pod: TestPod;
let running: TestOperator;
beforeAll(async () => {
  [cluster, redis] = await Promise.all([startCluster(), privateRedis()]);
  http = await startApiProxy(cluster.controlPlane);
  await setEndpoints(cluster, ['pod-a']);
  pod = new TestPod(redis, 'pod-a');
  await pod.start();
});
afterAll(async () => {
  await pod.stop();
  await http.close();
  await redis.stop();
  await cluster.stop();
});
beforeEach(async () => {
  tcp = await startTcpProxy(http.port);
  const client = new ApiClient(kubeConfigFor(tcp.port), { deadlineMillis: 2_000 });
  running = startTestOperator(cluster, redis, {}, client);
  await eventually(() => expect(running.operator.hasSynced()).toBe(true));
});
afterEach(async () => {
  http.intervene(undefined);
  tcp.releaseReplies();
  await running.stop();
  await tcp.close();
});

const aSpec = (requests: number): object => ({
  rules: [{ name: 'all', countBy: ['consumer'], algorithm: 'TokenBucket', limits: [{ windowSeconds: 60, requests }] }],
});

async function isEnforced(name: string, generation: number): Promise<void> {
  await eventually(async () => {
    const { status } = await cluster.get('RateLimitPolicy', name);
    expect(status).toMatchObject({ observedGeneration: generation, activeGeneration: generation });
    expect(status.conditions?.find(({ type }) => type === 'Ready')).toMatchObject({ status: 'True' });
  }, 90_000);
}

const STATUS = /\/status\?/;

describe('a status is right in the end although writing it fails', { timeout: 150_000 }, () => {
  it.each<[string, number, (response: ServerResponse) => 'answered']>([
    ['the server fails', 3, (response) => refuse(response, 500)],
    ['the server is too busy', 2, (response) => refuse(response, 429, { headers: { 'retry-after': '0.2' } })],
    ['the object has just changed', 2, (response) => refuse(response, 409, { reason: 'Conflict' })],
    ['it is forbidden for a while', 3, (response) => refuse(response, 403, { reason: 'Forbidden' })],
    [
      'the connection breaks',
      3,
      (response) => {
        response.destroy();
        return 'answered';
      },
    ],
    ['no answer ever comes', 1, () => 'answered'],
  ])('because %s', async (why, times, fault) => {
    const name = why.replaceAll(' ', '-');
    let left = times;
    http.intervene((request, response) => {
      if (left === 0 || !STATUS.test(request.url ?? '') || !request.url?.includes(name)) return undefined;
      left -= 1;
      return fault(response);
    });
    await cluster.apply('RateLimitPolicy', name, aSpec(5));
    await isEnforced(name, 1);
    expect(left).toBe(0);
  });

  it('because replies are stalled, and the connections are reset at last', async () => {
    const stalled = /^PATCH .*\/stalled\/status\?/;
    http.intervene((request) => {
      if (stalled.test(`${request.method} ${request.url}`)) tcp.holdReplies();
      return undefined;
    });
    await cluster.apply('RateLimitPolicy', 'stalled', aSpec(5));
    // The first write has met its deadline: it may have been done or not.
    await eventually(() => expect(http.count(stalled)).toBeGreaterThan(1), 60_000);
    http.intervene(undefined);
    tcp.reset();
    tcp.releaseReplies();
    await cluster.apply('RateLimitPolicy', 'stalled', aSpec(6));
    await isEnforced('stalled', 2);
  });

  it('because one object cannot be written, which keeps no other from being right', async () => {
    http.intervene((request, response) =>
      STATUS.test(request.url ?? '') && request.url?.includes('hopeless') ? refuse(response, 500) : undefined,
    );
    await cluster.apply('RateLimitPolicy', 'hopeless', aSpec(5));
    await cluster.apply('RateLimitPolicy', 'hopeful', aSpec(5));
    await isEnforced('hopeful', 1);
    http.intervene(undefined);
    await isEnforced('hopeless', 1);
  });
});
