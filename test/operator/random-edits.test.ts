import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { listPods } from '../../store/acknowledgements.ts';
import { readHead, readManifest } from '../../store/configuration.ts';
import { createNames } from '../../store/names.ts';
import { type Cluster, startCluster } from '../harness/cluster.ts';
import { eventually } from '../harness/eventually.ts';
import { setEndpoints, startTestOperator, TestPod, type TestOperator } from '../harness/operator.ts';
import { type PrivateRedis, privateRedis } from '../harness/redis.ts';

const names = createNames('default');
const PODS = ['pod-a', 'pod-b'] as const;
const PATIENCE_MILLIS = 60_000;

let cluster: Cluster;
let redis: PrivateRedis;
beforeAll(async () => {
  [cluster, redis] = await Promise.all([startCluster(), privateRedis()]);
  await setEndpoints(cluster, PODS);
});
afterAll(async () => {
  await redis.stop();
  await cluster.stop();
});

type Step =
  | { readonly do: 'put'; readonly policy: number; readonly requests: number }
  | { readonly do: 'break' | 'delete' | 'forge'; readonly policy: number }
  | { readonly do: 'restart operator' | 'restart pod' | 'flush Redis' | 'lose a document' };

/** What one policy should have become. */
type Wanted = { readonly generation: number; readonly activeGeneration: number; readonly spec: string };

const aSpec = (requests: number, path = '/'): object => ({
  rules: [
    {
      name: 'all',
      match: { paths: [{ type: 'Prefix', value: path }] },
      countBy: ['consumer'],
      algorithm: 'TokenBucket',
      limits: [{ windowSeconds: 60, requests }],
    },
  ],
});

/** Valid for the API server, not for the operator. */
const BROKEN = aSpec(1, '/a/../b');

class World {
  readonly #model = new Map<string, Wanted>();
  readonly #pods = new Map<string, TestPod>();
  #operator: TestOperator | undefined;

  async start(): Promise<void> {
    this.#operator = startTestOperator(cluster, redis, { auditMillis: 500 });
    for (const name of PODS) await this.#startPod(name);
    await this.#untilPublished(undefined);
  }

  async stop(): Promise<void> {
    for (const { metadata } of await cluster.list('RateLimitPolicy')) {
      await cluster.remove('RateLimitPolicy', metadata.name);
    }
    await Promise.all([...this.#pods.values()].map((pod) => pod.stop()));
    await this.#operator?.stop();
    await redis.redis.flushall();
  }

  async take(step: Step): Promise<void> {
    switch (step.do) {
      case 'put':
        return this.#put(`p${step.policy}`, aSpec(step.requests), true);
      case 'break':
        await this.#untilActive(`p${step.policy}`);
        return this.#put(`p${step.policy}`, BROKEN, false);
      case 'delete':
        if (this.#model.delete(`p${step.policy}`)) await cluster.remove('RateLimitPolicy', `p${step.policy}`);
        return;
      case 'forge':
        return this.#forge(`p${step.policy}`);
      case 'restart operator': {
        const before = await readHead(redis.redis, names);
        await this.#operator?.stop();
        this.#operator = startTestOperator(cluster, redis, { auditMillis: 500 });
        return this.#untilPublished(before?.epoch);
      }
      case 'restart pod':
        await this.#pods.get('pod-b')?.stop();
        return this.#startPod('pod-b');
      case 'flush Redis':
        await redis.redis.flushall();
        return this.#untilPublished(undefined);
      case 'lose a document': {
        const [document] = await redis.redis.keys('sluice:default:{config}:doc:*');
        if (document !== undefined) await redis.redis.del(document);
        return;
      }
    }
  }

  /** Statuses, Redis and pods say what the model says. */
  async check(): Promise<void> {
    const head = await readHead(redis.redis, names);
    if (head === undefined) throw new Error('there is no head');
    const { entries, parts } = await readManifest(redis.redis, names, head.manifest);
    const published = [...entries.values()].map(({ name, generation }) => `${name}@${generation}`).toSorted();
    const wanted = [...this.#model].filter(([, { activeGeneration }]) => activeGeneration > 0);
    expect(published).toEqual(wanted.map(([name, { activeGeneration }]) => `${name}@${activeGeneration}`).toSorted());
    for (const name of [...parts, ...[...entries.values()].map(({ document }) => document)]) {
      expect(await redis.redis.pttl(names.document(name))).toBe(-1);
    }
    const { pods } = await listPods(redis.redis, names);
    expect(pods.map(({ acknowledgement }) => acknowledgement.pod).toSorted()).toEqual(PODS);
    for (const { acknowledgement } of pods) expect(acknowledgement.identity?.manifest).toBe(head.manifest);
    const objects = await cluster.list('RateLimitPolicy');
    expect(objects.map(({ metadata }) => metadata.name).toSorted()).toEqual([...this.#model.keys()].toSorted());
    for (const { metadata, status } of objects) {
      const { generation, activeGeneration } = this.#model.get(metadata.name) ?? {};
      expect(status).toMatchObject({ observedGeneration: generation, activeGeneration });
      const enforced = status.conditions?.find(({ type }) => type === 'Enforced');
      const lastGood = activeGeneration === 0 ? 'NothingActive' : 'LastGoodActive';
      expect(enforced?.reason).toBe(activeGeneration === generation ? 'Enforced' : lastGood);
    }
  }

  async #put(name: string, spec: object, isGood: boolean): Promise<void> {
    await cluster.apply('RateLimitPolicy', name, spec);
    const known = this.#model.get(name);
    const text = JSON.stringify(spec);
    if (known?.spec === text) return;
    const generation = (known?.generation ?? 0) + 1;
    this.#model.set(name, {
      generation,
      activeGeneration: isGood ? generation : (known?.activeGeneration ?? 0),
      spec: text,
    });
  }

  /** What the operator has never seen it cannot keep: so what is good is seen before it is broken. */
  async #untilActive(name: string): Promise<void> {
    const known = this.#model.get(name);
    if (known === undefined || known.activeGeneration !== known.generation) return;
    await eventually(async () => {
      const { status } = await cluster.get('RateLimitPolicy', name);
      expect(status['activeGeneration']).toBe(known.generation);
    }, PATIENCE_MILLIS);
  }

  async #forge(name: string): Promise<void> {
    if (!this.#model.has(name)) return;
    const path = `/apis/sluice.dev/v1alpha1/namespaces/default/ratelimitpolicies/${name}/status`;
    await cluster.client.call(path, {
      method: 'PATCH',
      contentType: 'application/merge-patch+json',
      body: { status: { observedGeneration: 77, activeGeneration: 77, conditions: [] } },
    });
  }

  async #startPod(name: string): Promise<void> {
    const pod = new TestPod(redis, name);
    this.#pods.set(name, pod);
    await pod.start();
  }

  async #untilPublished(after: number | undefined): Promise<void> {
    await eventually(async () => {
      const head = await readHead(redis.redis, names);
      if (head === undefined || head.epoch === after) throw new Error(`not published: ${this.#operator?.logged()}`);
    }, PATIENCE_MILLIS);
  }
}

const policy = fc.integer({ min: 0, max: 2 });
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({ do: fc.constant('put' as const), policy, requests: fc.integer({ min: 1, max: 3 }) }),
  },
  {
    weight: 6,
    arbitrary: fc.record({
      do: fc.constantFrom('break' as const, 'break' as const, 'delete' as const, 'forge' as const),
      policy,
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constantFrom(
        'restart operator' as const,
        'restart pod' as const,
        'flush Redis' as const,
        'lose a document' as const,
      ),
    }),
  },
);

/** What must be tried every time: a last good state outlives a restart, and the loss of everything. */
const EXAMPLE: readonly Step[] = [
  { do: 'put', policy: 0, requests: 1 },
  { do: 'put', policy: 1, requests: 1 },
  { do: 'break', policy: 0 },
  { do: 'break', policy: 2 },
  { do: 'restart operator' },
  { do: 'flush Redis' },
  { do: 'lose a document' },
  { do: 'delete', policy: 1 },
  { do: 'put', policy: 1, requests: 2 },
  { do: 'put', policy: 2, requests: 2 },
];

describe('whatever is done to it', () => {
  it('what statuses, Redis and pods say is in the end what the resources say', { timeout: 600_000 }, async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 4, maxLength: 14 }), async (steps) => {
        const world = new World();
        await world.start();
        try {
          for (const each of steps) await world.take(each);
          await eventually(() => world.check(), PATIENCE_MILLIS);
        } finally {
          await world.stop();
        }
      }),
      { numRuns: 10, endOnFailure: true, examples: [[[...EXAMPLE]]] },
    );
  });
});
