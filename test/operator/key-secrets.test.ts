import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { PepperSecret } from '../../operator/kubernetes/pepper-secret.ts';
import { hashOfKey, recordNameOf } from '../../policy/api-key.ts';
import { createNames } from '../../store/names.ts';
import { pino } from 'pino';
import { type Cluster, startCluster } from '../harness/cluster.ts';
import { eventually } from '../harness/eventually.ts';
import { PEPPER } from '../harness/limiter.ts';
import { setEndpoints, startTestOperator, type TestOperator } from '../harness/operator.ts';
import { type PrivateRedis, privateRedis } from '../harness/redis.ts';

const names = createNames('default');
const SECRETS = '/api/v1/namespaces/default/secrets';

let cluster: Cluster;
let redis: PrivateRedis;
let running: TestOperator | undefined;
beforeAll(async () => {
  [cluster, redis] = await Promise.all([startCluster(), privateRedis()]);
  await setEndpoints(cluster, []);
});
afterAll(async () => {
  await redis.stop();
  await cluster.stop();
});
afterEach(async () => {
  await running?.stop();
  running = undefined;
});

async function putSecret(name: string, data: Record<string, string>, labels: object = { 'sluice.dev/api-key': '' }) {
  const encoded = Object.fromEntries(
    Object.entries(data).map(([key, value]) => [key, Buffer.from(value).toString('base64')]),
  );
  await cluster.client.call(`${SECRETS}/${name}`, {
    method: 'PATCH',
    query: { fieldManager: 'test', force: 'true' },
    contentType: 'application/apply-patch+yaml',
    body: { apiVersion: 'v1', kind: 'Secret', metadata: { name, labels }, data: encoded },
  });
}

const isKnown = async (key: string, pepper = PEPPER): Promise<boolean> =>
  (await redis.redis.exists(names.consumerKey(recordNameOf(pepper, hashOfKey(key))))) === 1;

async function problemsOf(name: string): Promise<string[]> {
  const { status } = await cluster.get('Consumer', name);
  expect(status.observedGeneration).toBe(1);
  const problems = (status['problems'] ?? []) as { path: string; reason: string }[];
  return problems.map(({ path, reason }) => `${path} ${reason}`);
}

describe('API keys in Secrets', { timeout: 120_000 }, () => {
  it('hold while the Secret holds them, and are said to be missing when it does not', async () => {
    running = startTestOperator(cluster, redis);
    await cluster.apply('Consumer', 'acme', {
      apiKeyHashes: [`sha256:${hashOfKey('listed')}`],
      apiKeySecretRefs: [
        { name: 'acme', key: 'one' },
        { name: 'acme', key: 'two' },
      ],
    });
    await eventually(async () =>
      expect(await problemsOf('acme')).toEqual([
        'spec.apiKeySecretRefs[0] SecretMissing',
        'spec.apiKeySecretRefs[1] SecretMissing',
      ]),
    );
    await putSecret('acme', { one: 'first key\n', two: '' });
    await eventually(async () =>
      expect(await problemsOf('acme')).toEqual(['spec.apiKeySecretRefs[1] SecretKeyUnusable']),
    );
    expect([await isKnown('listed'), await isKnown('first key')]).toEqual([true, true]);
    await putSecret('acme', { one: 'changed key', two: 'second key' });
    await eventually(async () => {
      expect(await problemsOf('acme')).toEqual([]);
      expect([await isKnown('first key'), await isKnown('changed key'), await isKnown('second key')]).toEqual([
        false,
        true,
        true,
      ]);
    });
    await cluster.client.call(`${SECRETS}/acme`, { method: 'DELETE' });
    await eventually(async () => {
      expect([await isKnown('listed'), await isKnown('changed key')]).toEqual([true, false]);
      expect(await problemsOf('acme')).toHaveLength(2);
    });
    expect(running.logged()).not.toContain('changed key');
  });

  it('count only in labelled Secrets, and for the Consumer that has the key already', async () => {
    running = startTestOperator(cluster, redis);
    await putSecret('private', { key: 'unlabelled' }, {});
    await putSecret('shared', { key: 'listed by another' });
    await cluster.apply('Consumer', 'owner', { apiKeyHashes: [`sha256:${hashOfKey('listed by another')}`] });
    await cluster.apply('Consumer', 'taker', {
      apiKeySecretRefs: [
        { name: 'private', key: 'key' },
        { name: 'shared', key: 'key' },
      ],
    });
    await eventually(async () =>
      expect(await problemsOf('taker')).toEqual([
        'spec.apiKeySecretRefs[0] SecretMissing',
        'spec.apiKeySecretRefs[1] Conflicted',
      ]),
    );
    expect(await isKnown('unlabelled')).toBe(false);
  });
});

describe('the pepper in a Secret', { timeout: 120_000 }, () => {
  const log = pino({ level: 'silent' });
  const pepperSecret = (name: string): PepperSecret =>
    new PepperSecret({ client: cluster.client, secret: { namespace: 'default', name }, log });

  it('is made once, also by two that come at the same time', async () => {
    const [one, other] = await Promise.all([pepperSecret('made').read(), pepperSecret('made').read()]);
    expect(one).toEqual(other);
    expect(one[0]).toMatch(/^.{43}$/);
    expect(await pepperSecret('made').read()).toEqual(one);
  });

  it('is refused when it is too short, without being repeated', async () => {
    await putSecret('short', { pepper: 'too short' });
    const failure = await pepperSecret('short').read().catch(String);
    expect(failure).toBe('Error: Secret default/short: "pepper" must hold at least 16 characters');
  });

  it('is rotated while keys are found by the old one and by the new one', async () => {
    const [old, next] = ['the pepper that was used', 'the pepper that comes next'];
    await putSecret('rotated', { pepper: old });
    running = startTestOperator(cluster, redis, { pepper: pepperSecret('rotated'), auditMillis: 200 });
    await cluster.apply('Consumer', 'rotating', { apiKeyHashes: [`sha256:${hashOfKey('rotating')}`] });
    await eventually(async () => expect(await isKnown('rotating', old)).toBe(true));
    await putSecret('rotated', { pepper: next, 'previous-pepper': old });
    await eventually(async () => expect(await isKnown('rotating', next)).toBe(true));
    expect(await isKnown('rotating', old)).toBe(true);
    await putSecret('rotated', { pepper: next });
    await eventually(async () => expect(await isKnown('rotating', old)).toBe(false));
    expect(await isKnown('rotating', next)).toBe(true);
  });
});
