import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { RedisClock } from '../../store/clock.ts';
import { Decider, type TimedVerdict } from '../../store/decide.ts';
import { createNames } from '../../store/names.ts';
import { plainRequest } from '../harness/plain.ts';
import { type PrivateRedis, privateRedis } from '../harness/redis.ts';
import { onVirtualClock, setClock } from '../harness/virtual-clock.ts';
import { toSelected } from './limits.ts';
import { Model, type ModelLimit } from './model.ts';

const START = 1_790_000_000_000_000n;
const RUNS = 300;

let server: PrivateRedis;
let decider: Decider;
let world = 0;

beforeAll(async () => {
  server = await privateRedis();
  decider = new Decider(server.redis, createNames('model'), new RedisClock(), {
    deadlineMillis: 60_000,
    script: onVirtualClock('decide'),
  });
});
afterAll(() => server.stop());

/** Small numbers meet often; large ones find what is not exact. */
const limitArbitrary = (algorithm: ModelLimit['algorithm']): fc.Arbitrary<Omit<ModelLimit, 'id'>> =>
  fc
    .record({
      windowSeconds: fc.constantFrom(1, 2, 3, 7, 60, 3_600, 86_400),
      refill: fc.oneof(fc.integer({ min: 1, max: 12 }), fc.integer({ min: 1, max: 100_000 })),
      extra: fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 20 })),
    })
    .map(({ windowSeconds, refill: drawn, extra }) => ({
      windowSeconds,
      refill: algorithm === 'SlidingWindowLog' ? Math.min(drawn, 980) : drawn,
      extra,
    }))
    .map(({ windowSeconds, refill, extra }) => ({
      algorithm,
      capacity: BigInt(refill + extra),
      refill: BigInt(refill),
      windowMicros: BigInt(windowSeconds) * 1_000_000n,
    }));

const mixed = fc.array(
  fc.oneof(limitArbitrary('TokenBucket'), limitArbitrary('SlidingWindow'), limitArbitrary('SlidingWindowLog')),
  {
    minLength: 1,
    maxLength: 4,
  },
);

/** Pauses from nothing to several windows, with emphasis on single microseconds and slot boundaries. */
const pause = fc.oneof(
  fc.constant(0n),
  fc.constantFrom(1n, 99_999n, 100_000n, 100_001n, 1_000_000n),
  fc.bigInt({ min: 0n, max: 2_000_000n }),
  fc.bigInt({ min: 0n, max: 100_000_000_000n }),
);

const steps = fc.array(
  fc.record({
    pause,
    /** Asks exactly at the time that the last denial named, or one microsecond before. */
    aim: fc.constantFrom('pause', 'pause', 'retry', 'just before'),
    costShare: fc.oneof(fc.constant(0), fc.double({ min: 0, max: 1.2, noNaN: true })),
    chosen: fc.integer({ min: 1, max: 15 }),
  }),
  { minLength: 1, maxLength: 40 },
);

async function ask(limits: readonly ModelLimit[], cost: bigint, now: bigint): Promise<TimedVerdict> {
  await setClock(server.redis, now);
  return decider.decide(plainRequest('p', limits.map(toSelected), Number(cost)));
}

async function agree(shapes: readonly Omit<ModelLimit, 'id'>[], sequence: readonly Step[]): Promise<void> {
  world += 1;
  // Two limits share a subject, the others have their own.
  const all = shapes.map((shape, index): ModelLimit => ({ ...shape, id: `w${world}s${index >> 1}/${index}` }));
  const model = new Model();
  let now = START;
  let lastWait = 0n;
  for (const step of sequence) {
    const wait = step.aim === 'retry' ? lastWait : step.aim === 'just before' ? lastWait - 1n : step.pause;
    now += wait > 0n ? wait : step.pause;
    const chosen = all.filter((_, index) => (step.chosen >> index) & 1);
    const limits = chosen.length === 0 ? all : chosen;
    const smallest = Math.min(...limits.map((limit) => Number(limit.capacity)), 1_000_000);
    const cost = BigInt(Math.max(1, Math.floor(smallest * step.costShare)));
    const expected = model.decide(limits, cost, now);
    const actual = await ask(limits, cost, now);
    expect(actual.code).toBe(expected.admitted ? 'admitted' : 'denied');
    expect(actual.redisMicros).toBe(Number(now));
    expect(
      actual.rules
        .flatMap((rule) => rule.limits)
        .map((outcome) => ({
          remaining: BigInt(outcome.remaining),
          retryAfter: BigInt(outcome.retryAfterMicros),
          resetAfter: BigInt(outcome.resetAfterMicros),
        })),
    ).toEqual(expected.outcomes);
    const isNever = expected.outcomes.some(({ retryAfter }) => retryAfter === -1n);
    lastWait = expected.outcomes.reduce((longest, { retryAfter }) => (retryAfter > longest ? retryAfter : longest), 0n);
    expect(BigInt(actual.retryAfterMicros)).toBe(isNever ? -1n : lastWait);
  }
}

type Step = { pause: bigint; aim: string; costShare: number; chosen: number };

describe('the decision script against an independent model', () => {
  it('agrees on random sequences over one token bucket', async () => {
    await fc.assert(
      fc.asyncProperty(limitArbitrary('TokenBucket'), steps, (limit, sequence) => agree([limit], sequence)),
      { numRuns: RUNS },
    );
  });

  it('agrees on random sequences over one sliding window', async () => {
    await fc.assert(
      fc.asyncProperty(limitArbitrary('SlidingWindow'), steps, (limit, sequence) => agree([limit], sequence)),
      { numRuns: RUNS },
    );
  });

  it('agrees on random sequences over one sliding window log', async () => {
    await fc.assert(
      fc.asyncProperty(limitArbitrary('SlidingWindowLog'), steps, (limit, sequence) => agree([limit], sequence)),
      { numRuns: RUNS },
    );
  });

  it('agrees on random sequences over several limits of both kinds at once [P3] [P7]', async () => {
    await fc.assert(fc.asyncProperty(mixed, steps, agree), { numRuns: RUNS });
  });
});
