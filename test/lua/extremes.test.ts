import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { RedisClock } from '../../store/clock.ts';
import { Decider } from '../../store/decide.ts';
import { createNames } from '../../store/names.ts';
import { aLimit } from '../harness/limits.ts';
import { type PrivateRedis, privateRedis } from '../harness/redis.ts';
import { onVirtualClock, setClock } from '../harness/virtual-clock.ts';
import { Model, type ModelLimit } from './model.ts';
import { decidePlain } from '../harness/plain.ts';

/** The largest product of capacity and window that a policy may have: in microseconds just below 2^53. */
const BOUND = 9_007_199_254;
const START = 1_790_000_000_123_457n;
/** The largest bucket takes 285 years to fill: beyond this time microseconds are no exact numbers any more. */
const END_OF_TIME = BigInt(Number.MAX_SAFE_INTEGER);

let server: PrivateRedis;
let decider: Decider;
let subjects = 0;

beforeAll(async () => {
  server = await privateRedis();
  const options = { deadlineMillis: 60_000, script: onVirtualClock('decide') };
  decider = new Decider(server.redis, createNames('default'), new RedisClock(), options);
});
afterAll(() => server.stop());

type Extreme = {
  readonly title: string;
  readonly windowSeconds: number;
  readonly capacity: number;
  readonly refill: number;
};

const extremes: readonly Extreme[] = [
  { title: 'one request a day', windowSeconds: 86_400, capacity: 1, refill: 1 },
  { title: 'one request a second', windowSeconds: 1, capacity: 1, refill: 1 },
  { title: 'the highest rate', windowSeconds: 1, capacity: BOUND, refill: BOUND },
  { title: 'the slowest way to fill the largest bucket', windowSeconds: 1, capacity: BOUND, refill: 1 },
  { title: 'the bound by another window', windowSeconds: 89, capacity: BOUND / 89, refill: BOUND / 89 },
  { title: 'the bound with a rate that divides nothing', windowSeconds: 178, capacity: BOUND / 178, refill: 7_919 },
  { title: 'the most in a day', windowSeconds: 86_400, capacity: 104_249, refill: 104_249 },
  { title: 'the largest bucket that a day fills by one', windowSeconds: 86_400, capacity: 104_249, refill: 1 },
];

/** Asks product and model the same at the same times, those at which a verdict changes among them. */
async function compare(algorithm: ModelLimit['algorithm'], extreme: Extreme): Promise<void> {
  subjects += 1;
  const { windowSeconds, capacity, refill } = extreme;
  const limit = aLimit({ algorithm, windowSeconds, capacity, refill, subject: `s${subjects}` });
  const modelled: ModelLimit = {
    id: 'limit',
    algorithm,
    capacity: BigInt(capacity),
    refill: BigInt(refill),
    windowMicros: BigInt(windowSeconds) * 1_000_000n,
  };
  const model = new Model();
  let now = START;
  for (const cost of [1, capacity, Math.ceil(capacity / 3), capacity, capacity + 1, 1, capacity, 2, capacity]) {
    let wait = 0n;
    // As it is now, one microsecond before the time that a denial names, and at it.
    for (const step of ['now', 'just before', 'at'] as const) {
      const at = step === 'now' ? now : step === 'at' ? now + wait : now + wait - 1n;
      await setClock(server.redis, at);
      const expected = model.decide([modelled], BigInt(cost), at);
      const actual = await decidePlain(decider, { partition: 'p', cost, limits: [limit] });
      expect(actual.admitted).toBe(expected.admitted);
      expect(
        actual.outcomes.map((outcome) => ({
          remaining: BigInt(outcome.remaining),
          retryAfter: BigInt(outcome.retryAfterMicros),
          resetAfter: BigInt(outcome.resetAfterMicros),
        })),
      ).toEqual(expected.outcomes);
      if (step === 'now') wait = expected.outcomes[0]?.retryAfter ?? 0n;
      if (wait <= 1n || now + wait > END_OF_TIME) break;
    }
    now += wait > 0n && now + wait <= END_OF_TIME ? wait : 1n;
  }
}

describe('limits at the edge of what a policy may say', () => {
  it.each(extremes)('are exact to the microsecond in a token bucket: $title [P12]', async (extreme) => {
    await compare('TokenBucket', extreme);
  });

  it.each(extremes)('are exact to the microsecond in a sliding window: $title [P12]', async (extreme) => {
    await compare('SlidingWindow', extreme);
  });
});
