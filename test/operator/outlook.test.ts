// How soon a status tells of pods that fail: a real Redis, and a clock that the test sets.
import { pino } from 'pino';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { Configurer } from '../../operator/configurer.ts';
import { alone } from '../../operator/leadership.ts';
import { LOOK_MILLIS, Outlook } from '../../operator/outlook.ts';
import { conditionsOf, statusOf } from '../../operator/report.ts';
import type { RawResource } from '../../policy/resource.ts';
import type { Acknowledgement } from '../../store/acknowledgements.ts';
import { createNames } from '../../store/names.ts';
import { type PrivateRedis, privateRedis } from '../harness/redis.ts';

const names = createNames('outlook');
const BEAT_MILLIS = 2_000;
const PROMISED_MILLIS = 10_000;

let server: PrivateRedis;
beforeAll(async () => {
  server = await privateRedis();
});
afterAll(() => server.stop());
beforeEach(() => server.redis.flushall());

const aPolicy = (generation: number): RawResource => {
  const limits = [{ windowSeconds: 60, requests: generation }];
  return {
    kind: 'RateLimitPolicy',
    metadata: { namespace: 'shop', name: 'p', uid: 'uid', generation, creationTimestamp: '2026-01-01T00:00:00Z' },
    spec: { rules: [{ name: 'all', countBy: ['consumer'], algorithm: 'TokenBucket', limits }] },
  };
};

/** Pods and an operator in a time of their own, which goes on as the test says. */
class Scene {
  nowMillis = 1_000_000;
  endpoints: Set<string> | undefined;
  /** How often the status had to be written. */
  writes = 0;
  #policy = aPolicy(1);
  readonly #lastWords = new Map<string, { readonly atMillis: number; readonly text: string }>();
  readonly #configurer: Configurer;
  readonly #outlook: Outlook;

  constructor() {
    const monotonicMillis = (): number => this.nowMillis;
    this.#configurer = new Configurer({
      redis: server.redis,
      names,
      owner: 'test',
      pepper: 'a pepper that is only for tests',
      leadership: alone(),
      log: pino({ level: 'silent' }),
      monotonicMillis,
    });
    this.#outlook = new Outlook({
      redis: server.redis,
      names,
      configurer: this.#configurer,
      endpoints: () => this.endpoints,
      monotonicMillis,
    });
  }

  async edit(generation: number): Promise<void> {
    this.#policy = { ...aPolicy(generation), status: this.#policy.status };
    await this.#configurer.pass([this.#policy]);
  }

  /** The pod says that it enforces what is in force now. */
  beat(pod: string): void {
    const { publisher, consumers } = this.#configurer;
    const identity = publisher.published?.identity;
    const word: Acknowledgement = {
      pod,
      instance: 'i',
      formats: [1],
      keySequence: consumers.size,
      ...(identity && { identity }),
    };
    this.#lastWords.set(pod, { atMillis: this.nowMillis, text: JSON.stringify(word) });
  }

  /** What the status says of the policy now, after a look by the time of the scene. */
  async look(): Promise<string | undefined> {
    const [seconds, micros] = await server.redis.time();
    const redisMicros = Number(seconds) * 1_000_000 + Number(micros);
    for (const [pod, { atMillis, text }] of this.#lastWords) {
      const heartbeat = Math.round(redisMicros - (this.nowMillis - atMillis) * 1000);
      await server.redis.hset(names.pods, pod, `${heartbeat} ${text}`);
    }
    const { world } = await this.#outlook.look();
    if (world === undefined) throw new Error('there is nothing to say');
    const status = statusOf(this.#policy, world);
    if (status !== undefined) {
      this.#policy = { ...this.#policy, status };
      this.writes += 1;
    }
    return conditionsOf(this.#policy.status).find(({ type }) => type === 'Enforced')?.reason;
  }

  /** Two pods that have acknowledged a policy, as the operator has seen. */
  async settle(): Promise<void> {
    await this.edit(1);
    for (const pod of ['a', 'b']) this.beat(pod);
    expect(await this.look()).toBe('Enforced');
  }

  /** How long it is from now until a look finds this, while some pods go on beating. */
  async millisUntil(
    reason: string,
    beating: readonly string[],
    offset: number,
    patienceMillis = 60_000,
  ): Promise<number> {
    const sinceMillis = this.nowMillis;
    let nextBeat = sinceMillis;
    for (let next = sinceMillis + offset; next < sinceMillis + patienceMillis; next += LOOK_MILLIS) {
      for (; nextBeat <= next; nextBeat += BEAT_MILLIS) {
        this.nowMillis = nextBeat;
        for (const pod of beating) this.beat(pod);
      }
      this.nowMillis = next;
      if ((await this.look()) === reason) return next - sinceMillis;
    }
    return Number.POSITIVE_INFINITY;
  }
}

// However the looks of the operator and the moment of the failure fall together.
const OFFSETS = [0, 1, LOOK_MILLIS / 2, LOOK_MILLIS - 1];

async function longest(measure: (scene: Scene, offset: number) => Promise<number>): Promise<number> {
  let worst = 0;
  for (const offset of OFFSETS) {
    await server.redis.flushall();
    const scene = new Scene();
    await scene.settle();
    worst = Math.max(worst, await measure(scene, offset));
  }
  return worst;
}

describe('a status tells within ten seconds', () => {
  it('that a pod does not acknowledge an edit, before its silence alone would count', async () => {
    const millis = await longest(async (scene, offset) => {
      scene.endpoints = new Set(['a', 'b']);
      await scene.edit(2);
      expect(await scene.look()).toBe('Propagating');
      return scene.millisUntil('PodsLagging', ['a'], offset);
    });
    expect(millis).toBeGreaterThan(5_000);
    expect(millis).toBeLessThan(8_000);
  });

  it('that a ready pod has fallen silent right after a heartbeat', async () => {
    const millis = await longest((scene, offset) => {
      scene.endpoints = new Set(['a', 'b']);
      return scene.millisUntil('PodsLagging', ['a'], offset);
    });
    expect(millis).toBeGreaterThan(8_000);
    expect(millis).toBeLessThanOrEqual(PROMISED_MILLIS);
  });

  it('that no pod is ready any more', async () => {
    const millis = await longest((scene, offset) => {
      scene.endpoints = new Set();
      return scene.millisUntil('NoPods', ['a', 'b'], offset);
    });
    expect(millis).toBeLessThanOrEqual(PROMISED_MILLIS);
  });

  it('that all pods are gone, where heartbeats are all that is known of them', async () => {
    const millis = await longest((scene, offset) => scene.millisUntil('NoPods', [], offset));
    expect(millis).toBeGreaterThan(8_000);
    expect(millis).toBeLessThanOrEqual(PROMISED_MILLIS);
  });

  it('but nothing at all of pods that could not be heard because Redis was away', async () => {
    for (const endpoints of [undefined, new Set(['a', 'b'])]) {
      const scene = new Scene();
      await scene.settle();
      scene.endpoints = endpoints;
      await scene.look();
      scene.nowMillis += 30_000;
      expect(await scene.look()).toBe('Enforced');
      scene.nowMillis += BEAT_MILLIS;
      for (const pod of ['a', 'b']) scene.beat(pod);
      expect(await scene.look()).toBe('Enforced');
    }
  });
});

it('ten minutes in which nothing happens but heartbeats write no status', async () => {
  const scene = new Scene();
  await scene.settle();
  const before = scene.writes;
  expect(await scene.millisUntil('never', ['a', 'b'], 1, 600_000)).toBe(Number.POSITIVE_INFINITY);
  expect(scene.writes).toBe(before);
});
