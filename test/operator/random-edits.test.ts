import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { listPods } from '../../store/acknowledgements.ts';
import { findUnsafeDocuments, type Head, readHead, readManifest } from '../../store/configuration.ts';
import type { ConfigurationIdentity } from '../../policy/snapshot.ts';
import { createNames } from '../../store/names.ts';
import { type Cluster, startCluster } from '../harness/cluster.ts';
import { eventually } from '../harness/eventually.ts';
import { startTestLimiter, type TestLimiter } from '../harness/limiter.ts';
import { setEndpoints, startTestOperator, type TestOperator } from '../harness/operator.ts';
import { type PrivateRedis, privateRedis } from '../harness/redis.ts';

const names = createNames('default');
const PODS = ['pod-a', 'pod-b'] as const;
const PATIENCE_MILLIS = 60_000;
const POLICIES = 5;

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

type Mode = 'NORMAL' | 'DEGRADED';

type Edit =
  | { readonly do: 'put'; readonly policy: number; readonly requests: number }
  | { readonly do: 'break' | 'delete' | 'forge'; readonly policy: number }
  | { readonly do: 'declare'; readonly mode: Mode };
type Disruption = { readonly do: 'restart operator' | 'restart limiter' | 'flush Redis' | 'lose a document' };
type Step = Edit | Disruption;

type Wanted = {
  readonly generation: number;
  readonly isGood: boolean;
  /**
   * Which generation stays in force if this one is broken, 0 = none: one of several, as the operator may not have seen
   * what was good for a moment only.
   */
  readonly lastGood: ReadonlySet<number>;
  readonly spec: string;
};

const DEGRADED_REQUESTS = 1;

const aSpec = (policy: string, requests: number, path = '/'): object => ({
  domain: `default.${policy}`,
  rules: [
    {
      name: 'all',
      match: { paths: [{ type: 'Prefix', value: path }] },
      countBy: ['consumer'],
      algorithm: 'TokenBucket',
      limits: [{ windowSeconds: 60, requests, degraded: DEGRADED_REQUESTS }],
    },
  ],
});

/** Valid for the API server, not for the operator. */
const aBrokenSpec = (policy: string): object => aSpec(policy, 1, '/a/../b');

class World {
  readonly #model = new Map<string, Wanted>();
  /** What each generation of the policies that are there says, by `name/generation`. */
  readonly #requests = new Map<string, number>();
  readonly #limiters = new Map<string, TestLimiter>();
  #mode: Mode = 'NORMAL';
  #operator: TestOperator | undefined;

  async start(): Promise<void> {
    this.#operator = startTestOperator(cluster, redis, { auditMillis: 300 });
    for (const pod of PODS) await this.#startLimiter(pod);
    await this.#untilPublished(undefined);
  }

  async stop(): Promise<void> {
    for (const kind of ['RateLimitPolicy', 'SystemHealth'] as const) {
      for (const { metadata } of await cluster.list(kind)) await cluster.remove(kind, metadata.name);
    }
    await Promise.all([...this.#limiters.values()].map((limiter) => limiter.stop()));
    await this.#operator?.stop();
    await redis.redis.flushall();
  }

  async take(step: Step): Promise<void> {
    switch (step.do) {
      case 'put':
        return this.#put(step.policy, step.requests);
      case 'break':
        await this.#apply(`p${step.policy}`, aBrokenSpec(`p${step.policy}`), false);
        return;
      case 'delete':
        if (this.#model.delete(`p${step.policy}`)) await cluster.remove('RateLimitPolicy', `p${step.policy}`);
        return;
      case 'forge':
        return this.#forge(`p${step.policy}`);
      case 'declare':
        this.#mode = step.mode;
        return cluster.apply('SystemHealth', 'incident', { mode: step.mode, reason: 'at random' });
      case 'restart operator': {
        const before = await readHead(redis.redis, names);
        await this.#operator?.stop();
        this.#operator = startTestOperator(cluster, redis, { auditMillis: 300 });
        return this.#untilPublished(before?.epoch);
      }
      case 'restart limiter':
        await this.#limiters.get('pod-b')?.stop();
        return this.#startLimiter('pod-b');
      case 'flush Redis':
        await redis.redis.flushall();
        return this.#untilPublished(undefined);
      case 'lose a document': {
        const [document] = await redis.redis.keys('sluice:default:{config}:doc:*');
        if (document !== undefined) await redis.redis.del(document);
        await eventually(() => this.#checkDocuments(), PATIENCE_MILLIS);
        return;
      }
    }
  }

  /** Statuses, Redis, pods and their decisions say what the model says, and one of them what the others do. */
  async check(): Promise<void> {
    const head = await this.#checkDocuments();
    const { pods } = await listPods(redis.redis, names);
    expect(pods.map(({ acknowledgement }) => acknowledgement.pod).toSorted()).toEqual(PODS);
    for (const { acknowledgement } of pods) expect(acknowledgement.identity).toEqual(identityOf(head));
    const active = await this.#checkStatuses();
    const { entries } = await readManifest(redis.redis, names, head.manifest);
    const published = [...entries.values()].filter(({ kind }) => kind === 'RateLimitPolicy');
    expect(published.map(({ name, generation }) => `${name}@${generation}`).toSorted()).toEqual(
      [...active].flatMap(([name, generation]) => (generation === 0 ? [] : [`${name}@${generation}`])).toSorted(),
    );
    for (const limiter of this.#limiters.values()) await this.#checkDecisions(limiter, active);
    // From here on it is known what the operator has seen.
    for (const [name, generation] of active) {
      this.#model.set(name, { ...this.#wanted(name), lastGood: new Set([generation]) });
    }
  }

  /** Nothing that head refers to is lost, or will be. */
  async #checkDocuments(): Promise<Head> {
    const head = await readHead(redis.redis, names);
    if (head === undefined) throw new Error('there is no head');
    const { entries, parts } = await readManifest(redis.redis, names, head.manifest);
    const wanted = [...parts, ...[...entries.values()].map(({ document }) => document)];
    expect(await findUnsafeDocuments(redis.redis, names, wanted)).toEqual([]);
    return head;
  }

  /** The active generation of every policy. */
  async #checkStatuses(): Promise<Map<string, number>> {
    const objects = await cluster.list('RateLimitPolicy');
    expect(objects.map(({ metadata }) => metadata.name).toSorted()).toEqual([...this.#model.keys()].toSorted());
    const active = new Map<string, number>();
    for (const { metadata, status } of objects) {
      const { generation, isGood, lastGood } = this.#wanted(metadata.name);
      const said = Number(status['activeGeneration']);
      expect(status.observedGeneration).toBe(generation);
      expect(isGood ? [generation] : [...lastGood]).toContain(said);
      const enforced = status.conditions?.find(({ type }) => type === 'Enforced');
      const otherwise = said === 0 ? 'NothingActive' : 'LastGoodActive';
      expect(enforced?.reason).toBe(said === generation ? 'Enforced' : otherwise);
      active.set(metadata.name, said);
    }
    return active;
  }

  async #checkDecisions(limiter: TestLimiter, active: ReadonlyMap<string, number>): Promise<void> {
    for (let policy = 0; policy < POLICIES; policy += 1) {
      const name = `p${policy}`;
      const generation = active.get(name) ?? 0;
      const { body } = await limiter.check({ domain: `default.${name}`, consumer: 'someone', path: '/', mode: 'peek' });
      if (generation === 0) expect(body).toMatchObject({ action: 'ALLOW', reason: 'NO_POLICY' });
      else {
        const limit = this.#mode === 'DEGRADED' ? DEGRADED_REQUESTS : this.#requests.get(`${name}/${generation}`);
        expect(body).toMatchObject({ action: 'ALLOW', policy: `default/${name}`, mode: this.#mode, limit });
      }
    }
  }

  async #put(policy: number, requests: number): Promise<void> {
    const name = `p${policy}`;
    const generation = await this.#apply(name, aSpec(name, requests), true);
    this.#requests.set(`${name}/${generation}`, requests);
  }

  /** Returns the generation that this makes. */
  async #apply(name: string, spec: object, isGood: boolean): Promise<number> {
    await cluster.apply('RateLimitPolicy', name, spec);
    const known = this.#model.get(name);
    const text = JSON.stringify(spec);
    if (known?.spec === text) return known.generation;
    const generation = (known?.generation ?? 0) + 1;
    const before = known?.lastGood ?? [0];
    const lastGood = new Set(isGood ? [...before, generation] : before);
    this.#model.set(name, { generation, isGood, lastGood, spec: text });
    return generation;
  }

  #wanted(name: string): Wanted {
    const wanted = this.#model.get(name);
    if (wanted === undefined) throw new Error(`${name} should not be there`);
    return wanted;
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

  async #startLimiter(pod: string): Promise<void> {
    this.#limiters.set(pod, await startTestLimiter({ redisUrl: redis.url, pod }));
  }

  async #untilPublished(after: number | undefined): Promise<void> {
    await eventually(async () => {
      const head = await readHead(redis.redis, names);
      if (head === undefined || head.epoch === after) throw new Error(`not published: ${this.#operator?.logged()}`);
    }, PATIENCE_MILLIS);
  }
}

const identityOf = ({ incarnation, epoch, revision, manifest }: Head): ConfigurationIdentity => ({
  incarnation,
  epoch,
  revision,
  manifest,
});

const policy = fc.integer({ min: 0, max: POLICIES - 1 });
const edit: fc.Arbitrary<Edit> = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.record({ do: fc.constant('put' as const), policy, requests: fc.integer({ min: 2, max: 9 }) }),
  },
  { weight: 5, arbitrary: fc.record({ do: fc.constant('break' as const), policy }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constantFrom('delete' as const, 'forge' as const), policy }) },
  {
    weight: 1,
    arbitrary: fc.record({ do: fc.constant('declare' as const), mode: fc.constantFrom<Mode>('NORMAL', 'DEGRADED') }),
  },
);
const disruption: fc.Arbitrary<Disruption> = fc.record({
  do: fc.constantFrom('restart operator', 'restart limiter', 'flush Redis', 'lose a document'),
});
/** So many edits, something that happens in the middle of them, and then everything has to be right. */
const round: fc.Arbitrary<Step[]> = fc
  .tuple(fc.array(edit, { minLength: 25, maxLength: 25 }), disruption, fc.nat(25))
  .map(([edits, disrupted, at]) => [...edits.slice(0, at), disrupted, ...edits.slice(at)]);

const RUNS = 4;
const ROUNDS = 10;

/** What must be tried every time: a last good state outlives a restart, and the loss of everything. */
const EXAMPLE: readonly (readonly Step[])[] = [
  [
    { do: 'put', policy: 0, requests: 2 },
    { do: 'put', policy: 1, requests: 2 },
  ],
  [{ do: 'break', policy: 0 }, { do: 'break', policy: 2 }, { do: 'restart operator' }],
  [{ do: 'flush Redis' }, { do: 'lose a document' }],
  [
    { do: 'delete', policy: 1 },
    { do: 'put', policy: 1, requests: 3 },
    { do: 'put', policy: 2, requests: 3 },
    { do: 'declare', mode: 'DEGRADED' },
    { do: 'restart limiter' },
  ],
];

describe('whatever is done to it', () => {
  it('in the end statuses, Redis, pods and decisions say what the resources say', { timeout: 900_000 }, async () => {
    let edits = 0;
    await fc.assert(
      fc.asyncProperty(fc.array(round, { minLength: ROUNDS, maxLength: ROUNDS }), async (rounds) => {
        const world = new World();
        await world.start();
        try {
          for (const steps of rounds) {
            for (const step of steps) await world.take(step);
            edits += steps.length;
            await eventually(() => world.check(), PATIENCE_MILLIS);
          }
        } finally {
          await world.stop();
        }
      }),
      { numRuns: RUNS + 1, endOnFailure: true, examples: [[EXAMPLE.map((steps) => [...steps])]] },
    );
    expect(edits).toBeGreaterThan(1_000);
  });
});
