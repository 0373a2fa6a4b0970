import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  type AccessRule,
  clusterRules,
  limiterNamespaceRules,
  ownNamespaceRules,
} from '../../operator/kubernetes/access.ts';
import { hashOfKey } from '../../policy/api-key.ts';
import { eventually } from '../harness/eventually.ts';
import { setEndpoints } from '../harness/operator.ts';
import { type Cluster, startCluster } from '../harness/cluster.ts';
import { type SluiceProcess, startSluice } from '../harness/processes.ts';
import { type PrivateRedis, privateRedis } from '../harness/redis.ts';

const LEASE = { namespace: 'sluice-system', name: 'sluice-operator-default' };
const ACCOUNT = { namespace: LEASE.namespace, name: 'operator' };
const PEPPER_SECRET = 'sluice-pepper';

let cluster: Cluster;
let redis: PrivateRedis;
let folder: string;
beforeAll(async () => {
  [cluster, redis] = await Promise.all([startCluster(), privateRedis()]);
  folder = mkdtempSync(join(tmpdir(), 'sluice-access-'));
});
afterAll(async () => {
  await redis.stop();
  await cluster.stop();
  rmSync(folder, { recursive: true });
});

const create = (object: object): Promise<string> =>
  cluster.controlPlane.kubectl(['create', '-f', '-'], { stdin: JSON.stringify(object) });

async function grant(name: string, rules: readonly AccessRule[], namespace?: string): Promise<void> {
  const kind = namespace === undefined ? 'ClusterRole' : 'Role';
  const metadata = { name, ...(namespace === undefined ? {} : { namespace }) };
  const apiVersion = 'rbac.authorization.k8s.io/v1';
  await create({ apiVersion, kind, metadata, rules });
  await create({
    apiVersion,
    kind: `${kind}Binding`,
    metadata,
    roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind, name },
    subjects: [{ kind: 'ServiceAccount', ...ACCOUNT }],
  });
}

/** A kubeconfig of the service account, as which nobody may do more than was granted. */
async function kubeconfigOfAccount(): Promise<string> {
  const { kubectl, kubeconfigPath } = cluster.controlPlane;
  const token = await kubectl(['create', 'token', ACCOUNT.name, '-n', ACCOUNT.namespace]);
  const config = JSON.parse(readFileSync(kubeconfigPath, 'utf8')) as { users: unknown };
  config.users = [{ name: 'admin', user: { token: token.trim() } }];
  const path = join(folder, 'kubeconfig.json');
  writeFileSync(path, JSON.stringify(config), { mode: 0o600 });
  return path;
}

async function metrics(operator: SluiceProcess): Promise<string> {
  const port = /"ops_port":(\d+)/.exec(operator.output())?.[1];
  return (await fetch(`http://127.0.0.1:${port}/metrics`)).text();
}

describe('the access that the operator is granted', { timeout: 180_000 }, () => {
  it('is enough for everything that it does, and for nothing else', async () => {
    for (const name of [LEASE.namespace, 'edge']) {
      await create({ apiVersion: 'v1', kind: 'Namespace', metadata: { name } });
    }
    await create({ apiVersion: 'v1', kind: 'ServiceAccount', metadata: ACCOUNT });
    await grant('sluice', clusterRules());
    await grant('own', ownNamespaceRules({ lease: LEASE, pepperSecret: PEPPER_SECRET }), LEASE.namespace);
    await grant('limiter', limiterNamespaceRules(), 'default');
    await setEndpoints(cluster, []);
    const args = ['--kubeconfig', await kubeconfigOfAccount(), '--host', '127.0.0.1', '--ops-port', '0'];
    const operator = startSluice(['operator', ...args], {
      SLUICE_REDIS_URL: redis.url,
      SLUICE_POD_NAMESPACE: LEASE.namespace,
      SLUICE_LIMITER_SERVICE: 'default/limiter',
      SLUICE_PEPPER_SECRET: PEPPER_SECRET,
      SLUICE_LEASE_SECONDS: '6',
    });
    try {
      await cluster.apply('Consumer', 'acme', { apiKeyHashes: [`sha256:${hashOfKey('key')}`] });
      await cluster.apply('SystemHealth', 'incident', { mode: 'NORMAL' });
      await eventually(async () => {
        for (const kind of ['Consumer', 'SystemHealth'] as const) {
          expect((await cluster.list(kind))[0]?.status.observedGeneration).toBe(1);
        }
        const { items } = (await cluster.client.call('/apis/events.k8s.io/v1/events')) as { items: unknown[] };
        expect(items.length).toBeGreaterThanOrEqual(4);
        expect(await redis.redis.keys('sluice:default:{keys}:key:*')).toHaveLength(1);
      }, 90_000);
      await cluster.controlPlane.kubectl(['get', 'secret', PEPPER_SECRET, '-n', LEASE.namespace]);
      const series = (await metrics(operator))
        .split('\n')
        .filter((line) => line.startsWith('rest_client_requests_total'));
      expect(series.filter((line) => /code="(401|403)"/.test(line) && !line.endsWith(' 0'))).toEqual([]);
      expect(series.some((line) => /method="POST"/.test(line) && !line.endsWith(' 0'))).toBe(true);
      expect(await operator.stop()).toBe(0);
    } finally {
      await operator.kill();
    }
    const whoAmI = ['--as', `system:serviceaccount:${ACCOUNT.namespace}:${ACCOUNT.name}`];
    for (const forbidden of [
      ['list', 'secrets', '-A'],
      ['get', 'secrets/other', '-n', LEASE.namespace],
      ['delete', 'ratelimitpolicies', '-A'],
      ['update', 'ratelimitpolicies', '-A'],
      ['update', 'leases/other', '-n', LEASE.namespace],
    ]) {
      const answer = await cluster.controlPlane.kubectl(['auth', 'can-i', ...forbidden, ...whoAmI], {
        expectFailure: true,
      });
      expect([forbidden, answer.includes('yes')]).toEqual([forbidden, false]);
    }
  });
});
