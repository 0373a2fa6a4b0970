import { describe, expect, it } from 'vitest';
import { CompileCache } from '../../operator/compile-cache.ts';
import { computeDesired } from '../../operator/desired.ts';
import { ReadyPods } from '../../operator/ready-pods.ts';
import { expiryOf, statusOf, type World } from '../../operator/report.ts';
import type { WrittenConsumer } from '../../operator/key-set.ts';
import type { ManifestEntry, StoredDocument } from '../../policy/documents.ts';
import type { RawResource } from '../../policy/resource.ts';
import { ShardedMap } from '../../policy/sharded-map.ts';
import type { ConfigurationIdentity } from '../../policy/snapshot.ts';
import type { PodReport } from '../../store/acknowledgements.ts';

const NOW_MICROS = 1_790_000_000_000_000;
const current: ConfigurationIdentity = { incarnation: 'one', epoch: 3, revision: 9, manifest: 'm9' };

const policy: RawResource = {
  kind: 'RateLimitPolicy',
  metadata: { namespace: 'shop', name: 'p', uid: 'uid', generation: 4, creationTimestamp: '' },
  spec: {
    rules: [
      { name: 'all', countBy: ['consumer'], algorithm: 'TokenBucket', limits: [{ windowSeconds: 60, requests: 5 }] },
    ],
  },
};

/** In force since revision 7. */
const entry: ManifestEntry = {
  kind: 'RateLimitPolicy',
  namespace: 'shop',
  name: 'p',
  uid: 'uid',
  generation: 4,
  revision: 7,
  document: 'd',
};

const aPod = (identity: Partial<ConfigurationIdentity> | undefined, silentSeconds = 1): PodReport => ({
  acknowledgement: {
    pod: 'pod-a',
    instance: 'i',
    ...(identity === undefined ? {} : { identity: { ...current, ...identity } }),
    formats: [1],
    keySequence: 0,
  },
  heartbeatMicros: NOW_MICROS - silentSeconds * 1_000_000,
});

function aWorld(pods: readonly PodReport[]): World {
  const entries = ShardedMap.of([['RateLimitPolicy/shop/p', entry]]);
  return {
    desired: computeDesired([policy], { entries, documents: new Map() }, new CompileCache()),
    published: { identity: current, entries, parts: [], documents: ShardedMap.of<StoredDocument>([]) },
    knows: ({ revision, manifest }) => manifest === `m${revision}`,
    consumers: ShardedMap.of<WrittenConsumer>([]),
    pods: new ReadyPods(0).view(pods, undefined, { nowMicros: NOW_MICROS, nowMillis: 0 }),
    isOverdue: true,
    nowMicros: NOW_MICROS,
    now: '2026-11-21T10:00:00Z',
  };
}

const enforced = (pods: readonly PodReport[], raw = policy): unknown => {
  const status = statusOf(raw, aWorld(pods)) as { conditions: { type: string; reason: string }[] };
  return status.conditions.find(({ type }) => type === 'Enforced')?.reason;
};

it('a policy is not said to be enforced while a pod that holds it cannot have its decisions from Redis', () => {
  const { acknowledgement, heartbeatMicros } = aPod({});
  const failing: PodReport = { acknowledgement: { ...acknowledgement, decisions: 'failing' }, heartbeatMicros };
  expect(statusOf(policy, aWorld([failing]))).toMatchObject({
    conditions: expect.arrayContaining([
      expect.objectContaining({
        type: 'Enforced',
        status: 'Unknown',
        reason: 'RedisUnavailable',
        message: 'Redis fails the decisions of pod-a: failure policies decide there',
      }),
    ]),
  });
  expect(enforced([{ acknowledgement: { ...acknowledgement, decisions: 'ok' }, heartbeatMicros }])).toBe('Enforced');
});

describe('a policy counts as enforced', () => {
  it.each<[string, PodReport, string]>([
    ['by a pod that holds what is published', aPod({}), 'Enforced'],
    [
      'by a pod that holds the same manifest from before Redis lost its data',
      aPod({ incarnation: 'zero', revision: 2 }),
      'Enforced',
    ],
    ['by a pod that is behind, but not for this policy', aPod({ revision: 8, manifest: 'm8' }), 'Enforced'],
    ['not by a pod that is behind for this policy', aPod({ revision: 6, manifest: 'm6' }), 'PodsLagging'],
    ['not by a pod that holds a revision of another history', aPod({ revision: 8, manifest: 'stray' }), 'PodsLagging'],
    [
      'not by a pod of another incarnation with another manifest',
      aPod({ incarnation: 'zero', revision: 8, manifest: 'm8' }),
      'PodsLagging',
    ],
    ['not by a pod that has been silent for long', aPod({}, 9), 'NoPods'],
    ['not by a pod that holds nothing yet', aPod(undefined), 'NoPods'],
  ])('%s', (_when, pod, reason) => {
    expect(enforced([pod])).toBe(reason);
  });

  it('only when every ready pod does', () => {
    expect(enforced([aPod({}), aPod({ revision: 6, manifest: 'm6' })])).toBe('PodsLagging');
  });

  it('not under its name when it was made anew', () => {
    const anew = { ...policy, metadata: { ...policy.metadata, uid: 'another' } };
    expect(enforced([aPod({})], anew)).toBe('NotPublished');
  });
});

describe('a status that is right', () => {
  it('is not written again', () => {
    const world = aWorld([aPod({})]);
    const status = statusOf(policy, world);
    expect(status).toMatchObject({ activeGeneration: 4, revision: 7, pods: { ready: 1, acknowledged: 1 } });
    expect(statusOf({ ...policy, status }, { ...world, now: '2026-11-21T11:00:00Z' })).toBeUndefined();
  });
});

it.each([
  ['RateLimitOverride', 'shop'],
  ['SystemHealth', ''],
] as const)('a %s that a later version published does not keep statuses from being written', (kind, namespace) => {
  // As after a downgrade: this version refuses what it does not know, and the last good form of it stays in force.
  const metadata = { namespace, name: 'o', uid: 'o', generation: 2, creationTimestamp: '' };
  const said = kind === 'SystemHealth' ? { effectiveMode: 'DEGRADED' } : {};
  const later: RawResource = {
    kind,
    metadata,
    spec: { ofLaterVersions: true },
    status: { activeGeneration: 0, ...said },
  };
  const id = `${kind}/${namespace}/o`;
  const entries = ShardedMap.of([
    [id, { kind, namespace, name: 'o', uid: 'o', generation: 1, revision: 7, document: 'd' }],
  ]);
  const documents = new Map([['d', { name: 'd', text: '{"format":2}' }]]);
  const world: World = {
    ...aWorld([aPod({})]),
    desired: computeDesired([later], { entries, documents }, new CompileCache()),
    published: { identity: current, entries, parts: [], documents: ShardedMap.of(documents) },
  };
  expect(statusOf(later, world)).toMatchObject({
    ...said,
    activeGeneration: 1,
    conditions: expect.arrayContaining([expect.objectContaining({ type: 'Enforced', reason: 'LastGoodActive' })]),
  });
  expect(expiryOf(later, world)).toBeUndefined();
});
