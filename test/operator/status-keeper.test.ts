import { expect, it } from 'vitest';
import { CompileCache } from '../../operator/compile-cache.ts';
import { computeDesired } from '../../operator/desired.ts';
import { conditionsOf, type World } from '../../operator/report.ts';
import { StatusKeeper } from '../../operator/status-keeper.ts';
import type { WrittenConsumer } from '../../operator/key-set.ts';
import type { ManifestEntry } from '../../policy/documents.ts';
import type { RawResource } from '../../policy/resource.ts';
import { ShardedMap } from '../../policy/sharded-map.ts';

const IDENTITY = { incarnation: 'one', epoch: 1, revision: 5, manifest: 'manifest' };

const aPolicy = (index: number): RawResource => ({
  kind: 'RateLimitPolicy',
  metadata: { namespace: 'shop', name: `p${index}`, uid: `uid-${index}`, generation: 1, creationTimestamp: '' },
  spec: {
    domain: `shop.d${index}`,
    rules: [
      { name: 'all', countBy: ['consumer'], algorithm: 'TokenBucket', limits: [{ windowSeconds: 60, requests: 5 }] },
    ],
  },
});

/** Everything is published with revision 5, and these pods have it. */
function aWorld(resources: readonly RawResource[], pods: readonly string[]): World {
  const nothing = new Map<string, ManifestEntry>();
  const desired = computeDesired(resources, { entries: nothing, documents: new Map() }, new CompileCache());
  const entries = ShardedMap.of([...desired.entries].map(([id, entry]) => [id, { ...entry, revision: 5 }]));
  return {
    desired,
    published: { identity: IDENTITY, entries, parts: [], documents: ShardedMap.of(desired.documents) },
    knows: () => true,
    consumers: ShardedMap.of<WrittenConsumer>([]),
    pods: pods.map((pod) => ({
      acknowledgement: { pod, instance: 'i', identity: IDENTITY, formats: [1], keySequence: 0 },
      heartbeatMicros: 0,
      isPassing: false,
      isFailing: false,
    })),
    isOverdue: false,
    nowMicros: 0,
    now: '2026-11-21T10:00:00Z',
  };
}

const COUNT = 100;
const WRITE_MILLIS = 100;

it('a pass that takes long is ended for a new look, so that nothing is said that was so minutes ago', async () => {
  let objects = Array.from({ length: COUNT }, (_, index) => aPolicy(index));
  let nowMillis = 0;
  let pods: readonly string[] = [];
  const written: { readonly atMillis: number; readonly reason: string | undefined }[] = [];
  let hasMore = true;
  const keeper = new StatusKeeper({
    source: {
      writeStatus: (raw, status) => {
        nowMillis += WRITE_MILLIS;
        const enforced = conditionsOf(status).find(({ type }) => type === 'Enforced');
        written.push({ atMillis: nowMillis, reason: enforced?.reason });
        objects = objects.map((object) => (object.metadata.uid === raw.metadata.uid ? { ...object, status } : object));
        return Promise.resolve('recorded' as const);
      },
    },
    isInterrupted: () => false,
    again: () => {
      hasMore = true;
    },
    monotonicMillis: () => nowMillis,
  });
  while (hasMore) {
    hasMore = false;
    await keeper.pass(objects, aWorld(objects, pods));
    // Right after the first look the pods have come.
    pods = ['a', 'b'];
  }
  const wrong = written.filter(({ reason }) => reason === 'NoPods');
  expect(wrong.length).toBeGreaterThan(0);
  expect(wrong.at(-1)?.atMillis).toBeLessThan(4_000);
  // Each once, and those again that were written too early.
  expect(written).toHaveLength(COUNT + wrong.length);
  await keeper.pass(objects, aWorld(objects, pods));
  expect(written).toHaveLength(COUNT + wrong.length);
  keeper.stop();
});
