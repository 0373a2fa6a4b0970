import fc from 'fast-check';
import { expect, it } from 'vitest';
import { CompileCache } from '../../operator/compile-cache.ts';
import { computeDesired, type Desired } from '../../operator/desired.ts';
import type { WrittenConsumer } from '../../operator/key-set.ts';
import type { Published } from '../../operator/published.ts';
import { conditionsOf, statusOf, type World } from '../../operator/report.ts';
import { StatusKeeper } from '../../operator/status-keeper.ts';
import type { ManifestEntry, StoredDocument } from '../../policy/documents.ts';
import { idOf, type RawResource } from '../../policy/resource.ts';
import { ShardedMap } from '../../policy/sharded-map.ts';
import { consumer, edited, object, policy, rule } from './judging.ts';

/** Whether it fits depends on another object. */
const AGREED = { limits: [{ policy: 'p0', rule: 'r1', limits: [{ windowSeconds: 1, requests: 5 }] }] };

const HOUR_MICROS = 3_600_000_000;
const START_MICROS = Date.parse('2026-01-01T00:00:00Z') * 1000;

const hour = (number: number): string => new Date(START_MICROS / 1000 + number * 3_600_000).toISOString();
const anOverride = (starts: number): object => ({
  policyRef: { name: 'p0' },
  subject: { consumer: 'key:acme' },
  action: 'Block',
  startsAt: hour(starts),
  expiresAt: hour(starts + 2),
});

const FIRST: readonly RawResource[] = [
  ...['p0', 'p1', 'p2', 'p3'].map((name) => policy(name, { domain: `shop.${name}` })),
  consumer('acme', AGREED),
  consumer('other'),
  object('SystemHealth', 'incident', { mode: 'NORMAL' }, { namespace: '' }),
  object('RateLimitOverride', 'override', anOverride(0)),
];

type Step = {
  readonly do:
    | 'edit'
    | 'break'
    | 'delete'
    | 'forge'
    | 'publish'
    | 'acknowledge'
    | 'leave'
    | 'fail'
    | 'fall behind'
    | 'wait';
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
  #hour = 0;

  take({ do: what, which }: Step): void {
    const raw = FIRST[which] ?? FIRST[0];
    if (raw === undefined) return;
    const id = idOf(raw);
    const now = this.objects.get(id) ?? raw;
    const pod = which % 2 === 0 ? 'pod-a' : 'pod-b';
    const bad = { rules: [], apiKeyHashes: ['no hash'], mode: 'no mode' };
    switch (what) {
      case 'edit':
        return void this.objects.set(id, edited(now, anEdit(raw, now, this.#hour)));
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
      case 'wait':
        this.#hour += 1;
        return;
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
      nowMicros: START_MICROS + this.#hour * HOUR_MICROS,
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

function anEdit({ kind, metadata: { name } }: RawResource, { metadata }: RawResource, now: number): object {
  switch (kind) {
    case 'Consumer':
      return AGREED;
    case 'SystemHealth':
      return { mode: 'DEGRADED', reason: 'at random', expiresAt: hour(now + 2) };
    case 'RateLimitOverride':
      return anOverride(now + 1);
    default:
      return { domain: `shop.${name}`, rules: [rule(`r${metadata.generation % 3}`)] };
  }
}

/** Takes steps, and after each of them lets a keeper write what it finds; then every status has to be right. */
async function takeAll(scene: Scene, steps: readonly Step[]): Promise<void> {
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
    for (const raw of scene.objects.values()) expect([idOf(raw), statusOf(raw, world)]).toEqual([idOf(raw), undefined]);
  }
  keeper.stop();
}

it('whatever changes, no status is left as it was that should be another one', async () => {
  const steps = fc.array(step, { minLength: 20, maxLength: 60 });
  await fc.assert(
    fc.asyncProperty(steps, (some) => takeAll(new Scene(), some)),
    { numRuns: 100 },
  );
});

it('says in time what changes with time, by the times that are in force', async () => {
  const scene = new Scene();
  const OVERRIDE = FIRST.length - 1;
  const reason = (): unknown =>
    conditionsOf(scene.objects.get('RateLimitOverride/shop/override')?.status).find(({ type }) => type === 'Enforced')
      ?.reason;
  const everywhere = (['publish', 'acknowledge', 'acknowledge'] as const).map((what, which) => ({ do: what, which }));
  const wait = { do: 'wait', which: 0 } as const;
  await takeAll(scene, [...everywhere, { do: 'edit', which: OVERRIDE }, ...everywhere]);
  expect(reason()).toBe('Pending');
  await takeAll(scene, [wait]);
  expect(reason()).toBe('Enforced');
  const edit = { do: 'edit', which: OVERRIDE } as const;
  await takeAll(scene, [edit, ...everywhere, wait, wait, wait, edit, ...everywhere, wait, wait, wait]);
  expect(reason()).toBe('Expired');
});
