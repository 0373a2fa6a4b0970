import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { DirectorySource } from '../../operator/directory/directory-source.ts';
import { conditionsOf } from '../../operator/report.ts';
import { type Cluster, startCluster } from '../harness/cluster.ts';
import { eventually } from '../harness/eventually.ts';
import { setEndpoints, startTestOperator, TestPod } from '../harness/operator.ts';
import { type PrivateRedis, privateRedis } from '../harness/redis.ts';

const POLICIES = 10_000;

let cluster: Cluster;
let redis: PrivateRedis;
let folder: string;
beforeAll(async () => {
  [cluster, redis] = await Promise.all([startCluster(), privateRedis()]);
  folder = mkdtempSync(join(tmpdir(), 'sluice-rollout-'));
});
afterAll(async () => {
  await redis.stop();
  await cluster.stop();
  rmSync(folder, { recursive: true });
});

const aPolicy = (index: number): string =>
  JSON.stringify({
    apiVersion: 'sluice.dev/v1alpha1',
    kind: 'RateLimitPolicy',
    metadata: { name: `p${index}`, namespace: `team-${index % 100}` },
    spec: {
      domain: `team-${index % 100}.service-${index}`,
      rules: [
        { name: 'all', countBy: ['consumer'], algorithm: 'TokenBucket', limits: [{ windowSeconds: 60, requests: 5 }] },
      ],
    },
  });

const until = (check: () => void): Promise<void> => eventually(check, 240_000);

describe('scaling the limiter from 3 to 12 pods and back', () => {
  it(`writes fewer than 50 statuses of ${POLICIES} policies`, { timeout: 600_000 }, async () => {
    writeFileSync(
      join(folder, 'policies.yaml'),
      Array.from({ length: POLICIES }, (_, i) => aPolicy(i)).join('\n---\n'),
    );
    const enforced = new Set<string>();
    let writes = 0;
    const source = new DirectorySource(folder, {
      onFileProblems: (problems) => expect(problems).toEqual([]),
      onStatus: ({ metadata }, status) => {
        writes += 1;
        const condition = conditionsOf(status).find(({ type }) => type === 'Enforced');
        if (condition?.status === 'True') enforced.add(metadata.name);
        else enforced.delete(metadata.name);
      },
    });
    const pods = Array.from({ length: 12 }, (_, i) => ({ name: `pod-${i}`, pod: new TestPod(redis, `pod-${i}`) }));
    const namesOf = (count: number): string[] => pods.slice(0, count).map(({ name }) => name);
    for (const { pod } of pods.slice(0, 3)) await pod.start();
    await setEndpoints(cluster, namesOf(3));
    const running = startTestOperator(cluster, redis, { source });
    await until(() => expect(enforced.size).toBe(POLICIES));

    writes = 0;
    for (const [index, { pod }] of pods.entries()) {
      if (index < 3) continue;
      // Every other one is sent requests a moment before its first word arrives.
      if (index % 2 === 0) await setEndpoints(cluster, namesOf(index + 1));
      await pod.start();
      await setEndpoints(cluster, namesOf(index + 1));
    }
    for (const [index, { pod }] of [...pods.entries()].toReversed()) {
      if (index < 3) break;
      // And every other one has left before it is taken from the list.
      if (index % 2 === 0) await pod.stop();
      await setEndpoints(cluster, namesOf(index));
      await pod.stop();
    }
    // An edit that comes after all of this shows that the operator has seen it.
    writeFileSync(join(folder, 'last.yaml'), aPolicy(POLICIES));
    await until(() => expect(enforced.has(`p${POLICIES}`)).toBe(true));
    expect(enforced.size).toBe(POLICIES + 1);
    expect(writes).toBeLessThan(50);
    for (const { pod } of pods.slice(0, 3)) await pod.stop();
    await running.stop();
  });
});
