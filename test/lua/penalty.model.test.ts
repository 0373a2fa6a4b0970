import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { CompiledPenalty } from '../../policy/documents.ts';
import { RedisClock } from '../../store/clock.ts';
import { Decider, type TimedVerdict } from '../../store/decide.ts';
import type { DecideRequest } from '../../store/decide-wire.ts';
import { createNames } from '../../store/names.ts';
import { type Lane, playLanes } from '../harness/lanes.ts';
import { aPenalty, punishableRequest } from '../harness/penalties.ts';
import { aRule } from '../harness/plain.ts';
import { type PrivateRedis, privateRedis } from '../harness/redis.ts';
import { onVirtualClock, setClock } from '../harness/virtual-clock.ts';
import { toSelected } from './limits.ts';
import type { ModelLimit } from './model.ts';
import { type ModelPenalty, PenaltyModel } from './penalty-model.ts';

const names = createNames('penalties');
const START = 1_790_000_000_000_000n;
const SECOND = 1_000_000n;
const SEQUENCES = Number(process.env['SLUICE_SEQUENCES'] ?? 1_500);
const LANES = 200;
const TIMEOUT_MILLIS = 600_000 + SEQUENCES * 50;

let server: PrivateRedis;
let world = 0;

beforeAll(async () => {
  server = await privateRedis();
});
afterAll(() => server.stop());

const seconds = (min: number, max: number): fc.Arbitrary<number> => fc.integer({ min, max });

const penalty = fc.record({
  tolerancePercent: fc.constantFrom(0, 0, 0, 0, 50, 100, 200),
  violationWindowSeconds: seconds(3, 60),
  minSecondsPerStep: fc.constantFrom(0, 0, 0, 1, 3),
  limitPercent: fc.constantFrom(1, 34, 50, 100),
  rises: fc.array(fc.constantFrom(1, 1, 1, 2, 3), { minLength: 3, maxLength: 3 }),
  /** 0 = the policy leaves the state out. */
  lasts: fc.array(fc.oneof({ weight: 1, arbitrary: fc.constant(0) }, { weight: 5, arbitrary: seconds(1, 6) }), {
    minLength: 3,
    maxLength: 3,
  }),
  block: fc.option(
    fc.record({
      tempBlocks: fc.integer({ min: 1, max: 3 }),
      withinSeconds: fc.oneof(seconds(5, 100), seconds(100, 10_000)),
      forSeconds: fc.constantFrom(0, 1, 1, 2, 2, 7, 30),
    }),
    { nil: undefined, freq: 5 },
  ),
});

const limit = fc.record({
  algorithm: fc.constantFrom<ModelLimit['algorithm']>('SlidingWindow', 'SlidingWindowLog'),
  requests: fc.integer({ min: 1, max: 4 }),
  windowSeconds: fc.constantFrom(1, 3, 10, 60, 600),
});

const sequence = fc.record({
  penalty,
  limits: fc.array(limit, { minLength: 1, maxLength: 2 }),
  steps: fc.array(
    fc.record({
      pause: fc.oneof(
        { weight: 6, arbitrary: fc.constantFrom(0, 500_000, 999_999, 1_000_000, 1_000_000, 1_000_000, 1_000_001) },
        { weight: 1, arbitrary: fc.nat(2_000_000) },
        { weight: 1, arbitrary: fc.nat(20_000_000) },
      ),
      /** Asks exactly when the state ends, or one microsecond before. */
      aim: fc.constantFrom('pause', 'pause', 'pause', 'pause', 'end', 'just before'),
      cost: fc.constantFrom(1n, 1n, 1n, 2n, 5n),
      isPeek: fc.constantFrom(false, false, false, false, false, true),
    }),
    { minLength: 10, maxLength: 50 },
  ),
});

type Drawn = typeof sequence extends fc.Arbitrary<infer T> ? T : never;

const STATES = ['WARN', 'THROTTLE', 'TEMP_BLOCK'] as const;

function toModel({ penalty: drawn }: Drawn): ModelPenalty {
  let violations = 0n;
  const steps: ModelPenalty['steps'] = {};
  STATES.forEach((state, i) => {
    violations += BigInt(drawn.rises[i] ?? 1);
    const lasts = drawn.lasts[i] ?? 0;
    if (lasts > 0) steps[state] = { violations, lasts: BigInt(lasts) * SECOND };
  });
  const { block } = drawn;
  return {
    tolerancePercent: BigInt(drawn.tolerancePercent),
    window: BigInt(drawn.violationWindowSeconds) * SECOND,
    minStep: BigInt(drawn.minSecondsPerStep) * SECOND,
    percent: BigInt(drawn.limitPercent),
    steps,
    block:
      block === undefined || steps.TEMP_BLOCK === undefined
        ? undefined
        : {
            tempBlocks: BigInt(block.tempBlocks),
            within: BigInt(block.withinSeconds) * SECOND,
            lasts: BigInt(block.forSeconds) * SECOND,
          },
  };
}

function toCompiled({ tolerancePercent, window, minStep, steps, percent, block }: ModelPenalty): CompiledPenalty {
  const ofStep = (state: (typeof STATES)[number]) => {
    const step = steps[state];
    return step === undefined
      ? undefined
      : { violations: Number(step.violations), forSeconds: Number(step.lasts / SECOND) };
  };
  const throttle = ofStep('THROTTLE');
  return {
    enforced: true,
    countBy: ['consumer'],
    tolerancePercent: Number(tolerancePercent),
    violationWindowSeconds: Number(window / SECOND),
    minSecondsPerStep: Number(minStep / SECOND),
    warn: ofStep('WARN'),
    throttle: throttle === undefined ? undefined : { ...throttle, limitPercent: Number(percent) },
    tempBlock: ofStep('TEMP_BLOCK'),
    block:
      block === undefined
        ? undefined
        : {
            tempBlocks: Number(block.tempBlocks),
            withinSeconds: Number(block.within / SECOND),
            forSeconds: Number(block.lasts / SECOND),
          },
  };
}

/** One subject, with the model beside it. */
class PenaltyLane implements Lane {
  readonly drawn: Drawn;
  readonly #model: PenaltyModel;
  readonly #limits: readonly ModelLimit[];
  readonly #penalty: DecideRequest['selection']['penalties'];
  #now = START;
  #endsIn = 0n;
  #step: Drawn['steps'][number] | undefined;
  readonly seen = new Set<string>();

  constructor(drawn: Drawn) {
    this.drawn = drawn;
    world += 1;
    const name = `w${world}`;
    this.#limits = drawn.limits.map(({ algorithm, requests, windowSeconds }, i) => ({
      id: `${name}/${i}`,
      algorithm,
      capacity: BigInt(requests),
      refill: BigInt(requests),
      windowMicros: BigInt(windowSeconds) * SECOND,
    }));
    const modelled = toModel(drawn);
    this.#model = new PenaltyModel(modelled, this.#limits);
    this.#penalty = [{ ...aPenalty(name), penalty: toCompiled(modelled) }];
  }

  next(index: number): { at: bigint; request: DecideRequest } | undefined {
    this.#step = this.drawn.steps[index];
    if (this.#step === undefined) return undefined;
    const { pause, aim, cost, isPeek } = this.#step;
    const aimed = aim === 'end' ? this.#endsIn : aim === 'just before' ? this.#endsIn - 1n : 0n;
    this.#now += aimed > 0n ? aimed : BigInt(pause);
    const rules = [aRule(this.#limits.map(toSelected), { penalty: 0, throttled: true, cost: Number(cost) })];
    return { at: this.#now, request: { partition: 'p', selection: { rules, penalties: this.#penalty }, isPeek } };
  }

  check({ code, penalties: [actual] }: TimedVerdict): void {
    const expected = this.#model.ask(this.#step?.cost ?? 1n, this.#now, this.#step?.isPeek ?? false);
    expect({
      code,
      before: actual?.before,
      after: actual?.after,
      endsIn: BigInt(actual?.endsInMicros ?? 0),
      violations: BigInt(actual?.violations ?? 0),
    }).toEqual(expected);
    this.#endsIn = expected.endsIn;
    if (expected.before !== expected.after) this.seen.add(`${expected.before} -> ${expected.after}`);
    this.seen.add(expected.code);
  }
}

describe('the penalty state machine against an independent model', () => {
  it(
    'makes all transitions and only those, at exactly their times, and counts the same violations [P41] [P42]',
    async () => {
      const seed = Date.now() % 2 ** 31;
      const seen = new Set<string>();
      for (let first = 0; first < SEQUENCES; first += LANES) {
        const drawn = fc.sample(sequence, { numRuns: Math.min(LANES, SEQUENCES - first), seed: seed + first });
        const lanes = drawn.map((one) => new PenaltyLane(one));
        await playLanes(server.redis, names, lanes);
        for (const lane of lanes) for (const one of lane.seen) seen.add(one);
      }
      // What the model was put to the test with.
      for (const rise of ['NORMAL -> WARN', 'WARN -> THROTTLE', 'THROTTLE -> TEMP_BLOCK', 'THROTTLE -> BLOCK']) {
        expect([...seen]).toContain(rise);
      }
      for (const code of ['admitted', 'denied', 'blocked']) expect(seen).toContain(code);
    },
    TIMEOUT_MILLIS,
  );
});

describe('violations of many pods at once', () => {
  it('count once a second, so that a threshold is reached once, however many pods see them [P43]', async () => {
    const script = onVirtualClock('decide');
    const connections = Array.from({ length: 8 }, () => server.redis.duplicate());
    const pods = connections.map(
      (redis) => new Decider(redis, names, new RedisClock(), { deadlineMillis: 60_000, script, maxBatch: 5 }),
    );
    const request = punishableRequest('shared', { warn: { violations: 2, forSeconds: 100 } });
    const seen: (string | undefined)[] = [];
    for (let second = 0n; second < 4n; second += 1n) {
      await setClock(server.redis, START + second * SECOND);
      const verdicts = await Promise.all(pods.flatMap((pod) => Array.from({ length: 25 }, () => pod.decide(request))));
      const entered = verdicts.filter(({ penalties: [one] }) => one?.before !== one?.after);
      seen.push(`${entered.length} entered, ${verdicts.at(-1)?.penalties[0]?.violations} violations`);
    }
    expect(seen).toEqual([
      '0 entered, 1 violations',
      '1 entered, 2 violations',
      '1 entered, 3 violations',
      '1 entered, 4 violations',
    ]);
    for (const redis of connections) redis.disconnect();
  });

  it('are counted up to a million and no further [P43]', async () => {
    const redis = server.redis;
    const decider = new Decider(redis, names, new RedisClock(), {
      deadlineMillis: 60_000,
      script: onVirtualClock('decide'),
    });
    const only = { violationWindowSeconds: 31_536_000, throttle: undefined, tempBlock: undefined, block: undefined };
    const request = punishableRequest('many', { ...only, warn: { violations: 1, forSeconds: 100 } });
    const counts: (number | undefined)[] = [];
    for (let second = 0n; second < 4n; second += 1n) {
      await setClock(redis, START + second * SECOND);
      await decider.decide(request);
      counts.push((await decider.decide(request)).penalties[0]?.violations);
      if (second > 0n) continue;
      const state = await redis.hgetBuffer(names.penalty('p', 'many'), 's');
      state?.writeUInt32BE(999_998, 44);
      await redis.hset(names.penalty('p', 'many'), 's', state ?? '');
    }
    expect(counts).toEqual([1, 999_999, 1_000_000, 1_000_000]);
  });
});
