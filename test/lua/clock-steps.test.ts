import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Algorithm } from '../../policy/schema/rate-limit-policy.ts';
import type { SelectedLimit } from '../../policy/selection.ts';
import { RedisClock } from '../../store/clock.ts';
import { Decider } from '../../store/decide.ts';
import { createNames } from '../../store/names.ts';
import { type Admission, mostOf } from '../harness/admissions.ts';
import { aLimit } from '../harness/limits.ts';
import { type PrivateRedis, privateRedis } from '../harness/redis.ts';
import { onVirtualClock, setClock } from '../harness/virtual-clock.ts';
import { decidePlain, type PlainVerdict } from '../harness/plain.ts';

const START = 1_790_000_000_123_457n;
/** The beginning of a slot of every window that is used here. */
const SLOT_START = 1_789_999_200_000_000n;
const STEPS = [
  ['1 ms', 1_000n],
  ['1 s', 1_000_000n],
  ['1 h', 3_600_000_000n],
  ['1 d', 86_400_000_000n],
] as const;
const ALGORITHMS = ['TokenBucket', 'SlidingWindow'] as const;

let server: PrivateRedis;
let decider: Decider;
let subjects = 0;

beforeAll(async () => {
  server = await privateRedis();
  const options = { deadlineMillis: 60_000, script: onVirtualClock('decide') };
  decider = new Decider(server.redis, createNames('default'), new RedisClock(), options);
});
afterAll(() => server.stop());

/** A subject and two times: the one that passes, and the one that Redis shows. */
class Client {
  readonly #limit: SelectedLimit;
  readonly admissions: Admission[] = [];
  /** Time that passes, never back. */
  now = START;
  /** How far the clock of Redis is behind. */
  #behind = 0n;
  /** When Redis was first asked after the clock last stepped. */
  noticedAt: bigint | undefined;

  constructor(limit: SelectedLimit) {
    this.#limit = limit;
  }

  wait(micros: bigint): void {
    this.now += micros;
  }

  stepBack(micros: bigint): void {
    this.#behind += micros;
    this.noticedAt = undefined;
  }

  async ask(cost: number): Promise<PlainVerdict> {
    await setClock(server.redis, this.now - this.#behind);
    this.noticedAt ??= this.now;
    const verdict = await decidePlain(decider, { partition: 'p', cost, limits: [this.#limit] });
    if (verdict.admitted) this.admissions.push({ at: this.now, cost: BigInt(cost) });
    return verdict;
  }
}

function aClient(algorithm: Algorithm, shape: { windowSeconds: number; capacity: number; refill?: number }) {
  subjects += 1;
  const limit = aLimit({ algorithm, subject: `s${subjects}`, ...shape });
  return { client: new Client(limit), limit };
}

/** After so long without an admission everything may be taken: the window and two slots, or the time to fill up. */
function recoveryOf(limit: SelectedLimit): bigint {
  const window = BigInt(limit.windowSeconds) * 1_000_000n;
  if (limit.algorithm === 'SlidingWindow') return (window * 12n) / 10n;
  return (BigInt(limit.capacity) * window) / BigInt(limit.refill) + 1n;
}

type Scenario = {
  readonly windowSeconds: number;
  readonly capacity: number;
  /** Pauses in thousandths of the window, with the costs that are asked for after them. */
  readonly requests: readonly { readonly pause: bigint; readonly cost: number; readonly steps: boolean }[];
  /** The clock steps at one of the requests at least; at the others that ask for it only if it steps often. */
  readonly stepsAt: number;
  readonly stepsOften: boolean;
};

const scenario: fc.Arbitrary<Scenario> = fc.record({
  windowSeconds: fc.constantFrom(1, 60, 3_600),
  capacity: fc.integer({ min: 1, max: 12 }),
  requests: fc.array(
    fc.record({ pause: fc.bigInt({ min: 0n, max: 300n }), cost: fc.integer({ min: 1, max: 6 }), steps: fc.boolean() }),
    { minLength: 3, maxLength: 20 },
  ),
  stepsAt: fc.nat(),
  stepsOften: fc.boolean(),
});

/** Plays it; then nobody is locked out for longer than without any step. */
async function play(algorithm: Algorithm, step: bigint, played: Scenario): Promise<void> {
  const { windowSeconds, capacity, requests, stepsAt, stepsOften } = played;
  const { client, limit } = aClient(algorithm, { windowSeconds, capacity });
  const thousandth = BigInt(windowSeconds) * 1_000n;
  for (const [index, { pause, cost, steps }] of requests.entries()) {
    client.wait(pause * thousandth);
    if (index === stepsAt % requests.length || (stepsOften && steps)) client.stepBack(step);
    await client.ask(Math.min(cost, capacity));
  }
  const from = [client.noticedAt, client.admissions.at(-1)?.at].reduce<bigint>(
    (latest, at) => (at !== undefined && at > latest ? at : latest),
    START,
  );
  let isAdmitted = false;
  for (const tenths of [3n, 7n, 10n]) {
    const at = from + (recoveryOf(limit) * tenths) / 10n;
    if (at > client.now) client.now = at;
    isAdmitted ||= (await client.ask(capacity)).admitted;
  }
  expect(isAdmitted).toBe(true);
  expect(mostOf(limit, client.admissions)).toBeLessThanOrEqual(BigInt(limit.capacity));
}

describe.each(ALGORITHMS)('when the clock of Redis steps back, %s', (algorithm) => {
  it.each(STEPS)(
    'admits no more than its bound across the step, and locks nobody out after it: %s [P17]',
    async (_, step) => {
      await fc.assert(
        fc.asyncProperty(scenario, (played) => play(algorithm, step, played)),
        { numRuns: 40 },
      );
    },
  );

  it.each(STEPS)('says exactly how long to wait: %s', async (_, step) => {
    for (const windowSeconds of [1, 60, 3_600]) {
      const { client, limit } = aClient(algorithm, { windowSeconds, capacity: 3 });
      for (let i = 0; i < 3; i += 1) expect((await client.ask(1)).admitted).toBe(true);
      client.stepBack(step);
      const denied = await client.ask(1);
      expect(denied.admitted).toBe(false);
      const wait = BigInt(denied.outcomes[0]?.retryAfterMicros ?? 0);
      expect(wait).toBeGreaterThan(0n);
      expect(wait).toBeLessThanOrEqual(recoveryOf(limit));
      client.wait(wait - 1n);
      expect((await client.ask(1)).admitted).toBe(false);
      client.wait(1n);
      expect((await client.ask(1)).admitted).toBe(true);
    }
  });
});

describe('a step back of a sliding window', () => {
  it.each([1n, 2n, 10n, 1_000n])('frees nothing early, to the microsecond, where %s slots begin', async (slots) => {
    for (const windowSeconds of [1, 60, 3_600]) {
      const { client, limit } = aClient('SlidingWindow', { windowSeconds, capacity: 4 });
      const slot = BigInt(windowSeconds) * 100_000n;
      // At the end of the oldest slot of a window, and at the beginning of its newest.
      client.now = SLOT_START + slot - 1n;
      expect((await client.ask(2)).admitted).toBe(true);
      client.now = SLOT_START + slot * 10n;
      expect((await client.ask(1)).admitted).toBe(true);
      // To the last microsecond of a slot.
      client.stepBack(slots * slot + 1n);
      for (const pause of [0n, 1n, slot - 2n, 1n, 1n, slot - 2n, 1n, 1n]) {
        client.wait(pause);
        await client.ask(2);
      }
      expect(client.admissions).toHaveLength(3);
      expect(mostOf(limit, client.admissions)).toBeLessThanOrEqual(BigInt(limit.capacity));
    }
  });
});

describe('a step back that is noticed by a denied request', () => {
  it.each(ALGORITHMS)('is stored, so that waiting goes on from there (%s)', async (algorithm) => {
    const { client } = aClient(algorithm, { windowSeconds: 60, capacity: 1 });
    await client.ask(1);
    client.stepBack(86_400_000_000n);
    const first = (await client.ask(1)).outcomes[0]?.retryAfterMicros ?? 0;
    client.wait(10_000_000n);
    const second = (await client.ask(1)).outcomes[0]?.retryAfterMicros ?? 0;
    expect(first - second).toBe(10_000_000);
  });
});
