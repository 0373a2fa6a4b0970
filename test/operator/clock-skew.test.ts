// The clock of the operator's host is wrong: only what people read as a time may be.
import { pino } from 'pino';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { ApiClient } from '../../operator/kubernetes/api-client.ts';
import { loadKubeConfig } from '../../operator/kubernetes/connection.ts';
import { LeaderElection } from '../../operator/kubernetes/leader-election.ts';
import { type Cluster, startCluster } from '../harness/cluster.ts';
import { eventually } from '../harness/eventually.ts';
import { setEndpoints, startTestOperator, TestPod, type TestOperator } from '../harness/operator.ts';
import { type PrivateRedis, privateRedis } from '../harness/redis.ts';

const HOUR_MILLIS = 3_600_000;
const RULE = {
  name: 'all',
  countBy: ['consumer'],
  algorithm: 'TokenBucket',
  limits: [{ windowSeconds: 60, requests: 5 }],
};

let cluster: Cluster;
let redis: PrivateRedis;
let running: TestOperator;
let client: ApiClient;
beforeAll(async () => {
  [cluster, redis] = await Promise.all([startCluster(), privateRedis()]);
  await setEndpoints(cluster, ['pod-a']);
});
afterAll(async () => {
  await redis.stop();
  await cluster.stop();
});
afterEach(async () => {
  vi.useRealTimers();
  await running.stop();
  await client.close();
});

/** From `from` until `to`, in hours from now by the time that is right. */
function anOverride(from: number, to: number): object {
  const at = (hours: number): string => `${new Date(Date.now() + hours * HOUR_MILLIS).toISOString().slice(0, 19)}Z`;
  return {
    policyRef: { name: 'policy' },
    subject: { consumer: 'key:acme' },
    action: 'Block',
    startsAt: at(from),
    expiresAt: at(to),
  };
}

describe('an operator whose host is days off', { timeout: 120_000 }, () => {
  it.each([-72, 72])('(%i hours) leads, judges pods and overrides by the time of Redis', async (hours) => {
    const overrides = { Pending: anOverride(1, 2), Enforced: anOverride(-1, 1), Expired: anOverride(-2, -1) };
    // Nothing but the clock that tells the date: it stands still, too.
    vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + hours * HOUR_MILLIS });
    const pod = new TestPod(redis, 'pod-a');
    client = new ApiClient(loadKubeConfig(cluster.controlPlane.kubeconfigPath));
    const leadership = new LeaderElection({
      client,
      lease: { namespace: 'default', name: `skew-${hours < 0 ? 'behind' : 'ahead'}` },
      identity: 'skewed',
      log: pino({ level: 'silent' }),
    });
    running = startTestOperator(cluster, redis, { leadership });
    await cluster.apply('RateLimitPolicy', 'policy', { rules: [RULE] });
    for (const [reason, spec] of Object.entries(overrides)) {
      await cluster.apply('RateLimitOverride', reason.toLowerCase(), spec);
    }
    await eventually(() => pod.start(), 30_000);
    for (const reason of Object.keys(overrides)) {
      await eventually(async () => {
        const { metadata, status } = await cluster.get('RateLimitOverride', reason.toLowerCase());
        expect(status.observedGeneration).toBe(metadata.generation);
        expect(status.conditions?.find(({ type }) => type === 'Enforced')?.reason).toBe(reason);
      }, 60_000);
    }
    await pod.stop();
  });
});
