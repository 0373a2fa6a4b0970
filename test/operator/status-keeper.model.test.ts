import fc from 'fast-check';
import { expect, it } from 'vitest';
import { CompileCache } from '../../operator/compile-cache.ts';
import { computeDesired, type Desired } from '../../operator/desired.ts';
import type { WrittenConsumer } from '../../operator/key-set.ts';
import type { Published } from '../../operator/published.ts';
import { statusOf, type World } from '../../operator/report.ts';
import { StatusKeeper } from '../../operator/status-keeper.ts';
import type { ManifestEntry, StoredDocument } from '../../policy/documents.ts';
import { idOf, type RawResource } from '../../policy/resource.ts';
import { ShardedMap } from '../../policy/sharded-map.ts';
import { consumer, edited, object, policy, rule } from './judging.ts';

/** Whether it fits depends on another object. */
const AGREED = { limits: [{ policy: 'p0', rule: 'r1', limits: [{ windowSeconds: 1, requests: 5 }] }] };

const FIRST: readonly RawResource[] = [
  ...['p0', 'p1', 'p2', 'p3'].map((name) => policy(name, { domain: `shop.${name}` })),
  consumer('acme', AGREED),
  consumer('other'),
  object('SystemHealth', 'incident', { mode: 'NORMAL' }, { namespace: '' }),
];

type Step = {
  readonly do: 'edit' | 'break' | 'delete' | 'forge' | 'publish' | 'acknowledge' | 'leave' | 'fail' | 'fall behind';
  readonly which: number;
};

const step: fc.Arbitrary<Step> = fc.record({
  do: fc.constantFrom(
    'edit',
    'edit',
    'break',
    'delete',
    'forge',
    'publish',
    'publish',
    'acknowledge',
    'leave',
    'fail',
    'fall behind',
  ),
  which: fc.nat(FIRST.length - 1),
});

type Pod = { readonly identity: Published['identity']; readonly keySequence: number; readonly isFailing: boolean };

/** Objects, what is in force of them, and pods; everything that has not changed is the same object. */
class Scene {
  objects = new Map(FIRST.map((raw) => [idOf(raw), raw]));
  readonly #cache = new CompileCache();
  readonly #pods = new Map<string, Pod>();
  #entries = ShardedMap.of<ManifestEntry>([]);
  #documents = ShardedMap.of<StoredDocument>([]);
  #consumers = ShardedMap.of<WrittenConsumer>([]);
  #revision = 0;

  take({ do: what, which }: Step): void {
    const raw = FIRST[which] ?? FIRST[0];
    if (raw === undefined) return;
    const id = idOf(raw);
    const now = this.objects.get(id) ?? raw;
    const pod = which % 2 === 0 ? 'pod-a' : 'pod-b';
    const bad = { rules: [], apiKeyHashes: ['no hash'], mode: 'no mode' };
    switch (what) {
      case 'edit':
        return void this.objects.set(id, edited(now, raw.kind === 'Consumer' ? AGREED : withRules(raw, now)));
      case 'break':
        return void this.objects.set(id, edited(now, bad));
      case 'delete':
        return void this.objects.delete(id);
      case 'forge':
        return void (this.objects.has(id) && this.objects.set(id, { ...now, status: { conditions: [] } }));
      case 'publish':
        return this.#publish();
      case 'acknowledge':
        return this.#hear(pod, this.#revision);
      case 'fall behind':
        return this.#hear(pod, Math.max(0, this.#revision - 2));
      case 'leave':
        return void this.#pods.delete(pod);
      case 'fail':
        return this.#hear(pod, this.#revision, true);
    }
  }

  world(): World {
    return {
      desired: this.#desired(),
      published: {
        identity: identityOf(this.#revision),
        entries: this.#entries,
        parts: [],
        documents: this.#documents,
      },
      knows: () => true,
      consumers: this.#consumers,
      pods: [...this.#pods].map(([name, { identity, keySequence, isFailing }]) => ({
        acknowledgement: { pod: name, instance: 'i', identity, formats: [1], keySequence },
        heartbeatMicros: 0,
        isPassing: false,
        isFailing,
      })),
      isOverdue: false,
      nowMicros: 0,
      now: '2026-11-21T10:00:00Z',
    };
  }

  #hear(pod: string, revision: number, isFailing = false): void {
    this.#pods.set(pod, { identity: identityOf(revision), keySequence: revision, isFailing });
  }

  #desired(): Desired {
    return computeDesired(
      [...this.objects.values()],
      { entries: this.#entries, documents: this.#documents },
      this.#cache,
    );
  }

  #publish(): void {
    const { entries, documents, consumers } = this.#desired();
    this.#revision += 1;
    const fresh = [...entries].filter(([, { revision }]) => revision === 0);
    this.#entries = entries.with(fresh.map(([id, entry]) => [id, { ...entry, revision: this.#revision }]));
    this.#documents = this.#documents.with(documents);
    for (const written of consumers) {
      const { uid, generation } = written.metadata;
      if (this.#consumers.get(idOf(written))?.generation === generation) continue;
      const keys = { uid, generation, sequence: this.#revision, keys: '' };
      this.#consumers = this.#consumers.with([[idOf(written), keys]]);
    }
  }
}

const identityOf = (revision: number): Published['identity'] => ({
  incarnation: 'one',
  epoch: 1,
  revision,
  manifest: `m${revision}`,
});

const withRules = (raw: RawResource, { metadata }: RawResource): object =>
  raw.kind === 'SystemHealth'
    ? { mode: metadata.generation % 2 === 0 ? 'NORMAL' : 'DEGRADED', reason: 'at random' }
    : { domain: `shop.${raw.metadata.name}`, rules: [rule(`r${metadata.generation % 3}`)] };

it('whatever changes, no status is left as it was that should be another one', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 20, maxLength: 60 }), async (steps) => {
      const scene = new Scene();
      let writes = 0;
      const keeper = new StatusKeeper({
        source: {
          writeStatus: (raw, status) => {
            writes += 1;
            scene.objects.set(idOf(raw), { ...raw, status });
            return Promise.resolve('recorded' as const);
          },
        },
        isInterrupted: () => false,
        again: () => undefined,
      });
      for (const one of steps) {
        scene.take(one);
        const world = scene.world();
        do {
          writes = 0;
          keeper.invalidate();
          await keeper.pass([...scene.objects.values()], world);
        } while (writes > 0);
        for (const raw of scene.objects.values())
          expect([idOf(raw), statusOf(raw, world)]).toEqual([idOf(raw), undefined]);
      }
      keeper.stop();
    }),
    { numRuns: 100 },
  );
});
