// Another installation uses the same names in the same Redis: what becomes of its data, and of what is said of ours.
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { Mirror } from '../../operator/mirror.ts';
import type { RateLimitPolicySpec } from '../../policy/schema/rate-limit-policy.ts';
import { acknowledge } from '../../store/acknowledgements.ts';
import { readHead } from '../../store/configuration.ts';
import { writeKeySet } from '../../store/consumer-keys.ts';
import { createNames } from '../../store/names.ts';
import { type Cluster, startCluster, type Stored } from '../harness/cluster.ts';
import { contentsOf } from '../harness/contents.ts';
import { eventually } from '../harness/eventually.ts';
import { setEndpoints, startTestOperator, TestPod, type TestOperator } from '../harness/operator.ts';
import { aPolicy, publishEntries } from '../harness/publish.ts';
import { type PrivateRedis, privateRedis } from '../harness/redis.ts';

const OTHER = 'another installation';
const names = createNames('default');
const SPEC: RateLimitPolicySpec = {
  rules: [
    { name: 'all', countBy: ['consumer'], algorithm: 'TokenBucket', limits: [{ windowSeconds: 60, requests: 5 }] },
  ],
};

let cluster: Cluster;
let redis: PrivateRedis;
let running: TestOperator;
let pod: TestPod;
beforeAll(async () => {
  [cluster, redis] = await Promise.all([startCluster(), privateRedis()]);
  await setEndpoints(cluster, ['pod-a']);
});
afterAll(async () => {
  await redis.stop();
  await cluster.stop();
});
beforeEach(async () => {
  await redis.redis.flushall();
  pod = new TestPod(redis, 'pod-a');
});
afterEach(async () => {
  await running.stop();
  await pod.stop();
  for (const { metadata } of await cluster.list('RateLimitPolicy'))
    await cluster.remove('RateLimitPolicy', metadata.name);
});

/** Head, documents, keys and a pod, which bears the name of one of ours. */
async function moveIn(): Promise<void> {
  const { incarnation, epoch, revision, manifest } = await publishEntries({ redis: redis.redis, names, owner: OTHER }, [
    aPolicy(SPEC),
  ]);
  await writeKeySet(redis.redis, names, { owner: OTHER, incarnation, epoch, seenSequence: 0 }, []);
  const identity = { incarnation, epoch, revision, manifest };
  const acknowledgement = { pod: 'pod-a', instance: 'theirs', identity, formats: [1], keySequence: 1 };
  await acknowledge(redis.redis, names, OTHER, { acknowledgement, isNew: true });
}

const untilEnforcedIs = (reason: string): Promise<Stored> =>
  eventually(async () => {
    const object = await cluster.get('RateLimitPolicy', 'ours');
    const enforced = object.status.conditions?.find(({ type }) => type === 'Enforced');
    if (enforced?.reason !== reason) throw new Error(JSON.stringify(object.status));
    return object;
  }, 60_000);

const REFUSED = [
  { type: 'Accepted', status: 'True' },
  { type: 'Enforced', status: 'Unknown', reason: 'RedisOwnedByOther', message: expect.stringContaining(`"${OTHER}"`) },
  { type: 'Ready', status: 'Unknown', reason: 'RedisOwnedByOther' },
  { type: 'Reconciling', status: 'True', reason: 'RedisOwnedByOther' },
].map((condition) => expect.objectContaining(condition));

describe('an operator that finds another installation in its Redis', { timeout: 180_000 }, () => {
  it('says so in every status, touches nothing of it, and goes on when it has left', async () => {
    await moveIn();
    const theirs = await contentsOf(redis.redis);
    running = startTestOperator(cluster, redis, { auditMillis: 200 });
    await cluster.apply('RateLimitPolicy', 'ours', SPEC);
    const { status } = await untilEnforcedIs('RedisOwnedByOther');
    expect(status.conditions).toEqual(expect.arrayContaining(REFUSED));
    expect(status.conditions).toHaveLength(REFUSED.length);
    await cluster.apply('RateLimitPolicy', 'ours', { ...SPEC, mode: 'Shadow' });
    await eventually(async () =>
      expect((await cluster.get('RateLimitPolicy', 'ours')).status.observedGeneration).toBe(2),
    );
    expect(await contentsOf(redis.redis)).toEqual(theirs);
    expect(running.logged().match(/redis_owned_by_other/g)).toHaveLength(1);

    await redis.redis.flushall();
    await pod.start();
    await untilEnforcedIs('Shadow');
    expect(running.logged()).toContain('redis_ours');
    expect(running.logged()).not.toContain('operator_displaced');
  });

  it('does the same when it comes later, and still hands out its own snapshot', async () => {
    running = startTestOperator(cluster, redis, { auditMillis: 200 });
    await pod.start();
    await cluster.apply('RateLimitPolicy', 'ours', SPEC);
    await untilEnforcedIs('Enforced');
    const ours = running.operator.snapshot();
    await pod.stop();
    // Until it comes in between: the operator writes what was lost.
    await eventually(async () => {
      await redis.redis.flushall();
      await moveIn();
    });
    await untilEnforcedIs('RedisOwnedByOther');
    expect((await readHead(redis.redis, names))?.owner).toBe(OTHER);
    expect(running.operator.snapshot()).toEqual(ours);
  });

  it('does not hand out that one as its own while it stands by', async () => {
    running = startTestOperator(cluster, redis);
    await eventually(async () => expect(await readHead(redis.redis, names)).toBeDefined());
    const mirror = new Mirror(redis.redis, names, OTHER);
    await mirror.refresh();
    expect(mirror.copy).toBeUndefined();
  });
});
