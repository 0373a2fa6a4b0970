import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { TimedVerdict } from '../../store/decide.ts';
import type { DecideRequest } from '../../store/decide-wire.ts';
import { createNames } from '../../store/names.ts';
import { type Lane, playLanes } from '../harness/lanes.ts';
import { aRule } from '../harness/plain.ts';
import { type PrivateRedis, privateRedis } from '../harness/redis.ts';
import { toSelected } from './limits.ts';
import type { ModelLimit } from './model.ts';
import { type ModelRule, RulesModel } from './rules-model.ts';

const names = createNames('sequences');
const START = 1_790_000_000_000_000n;
/** `make soak` asks for more. */
const SEQUENCES = Number(process.env['SLUICE_SEQUENCES'] ?? 10_000);
const LANES = 200;
const TIMEOUT_MILLIS = 600_000 + SEQUENCES * 50;

let server: PrivateRedis;
let world = 0;

beforeAll(async () => {
  server = await privateRedis();
});
afterAll(() => server.stop());

type Algorithm = ModelLimit['algorithm'];

/** Small numbers meet often; large ones find what is not exact. */
const limit = (algorithms: readonly Algorithm[]) =>
  fc.record({
    algorithm: fc.constantFrom(...algorithms),
    windowSeconds: fc.constantFrom(1, 1, 2, 3, 7, 60, 3_600, 86_400),
    refill: fc.oneof({ weight: 4, arbitrary: fc.integer({ min: 1, max: 6 }) }, fc.integer({ min: 7, max: 990 })),
    extra: fc.constantFrom(0, 0, 1, 5, 10),
  });

const rule = (algorithms: readonly Algorithm[]) =>
  fc.record({
    group: fc.constantFrom(0, 0, 0, 0, 1, 2),
    times: fc.constantFrom(1n, 1n, 1n, 1n, 2n, 3n),
    after: fc.array(
      fc.record({
        /** Which earlier rule, as a fraction of their number in thousandths. */
        share: fc.nat(999),
        outcome: fc.constantFrom<'Admitted' | 'Denied' | 'NotRun'>('Admitted', 'Denied', 'Denied', 'NotRun'),
      }),
      { maxLength: 1 },
    ),
    limits: fc.array(limit(algorithms), { minLength: 1, maxLength: 2 }),
  });

const step = fc.record({
  /** Nothing to several windows in microseconds, with emphasis on slot boundaries. */
  pause: fc.oneof(
    fc.constantFrom(0, 0, 1, 99_999, 100_000, 100_001, 1_000_000),
    fc.nat(2_500_000),
    fc.nat(100_000_000_000),
  ),
  /** Asks exactly at the time that the last denial named, or one microsecond before. */
  aim: fc.constantFrom('pause', 'pause', 'retry', 'just before'),
  costPercent: fc.constantFrom(1, 1, 1, 30, 60, 100, 120),
});

const sequence = (algorithms: readonly Algorithm[]) =>
  fc.record({
    rules: fc.array(rule(algorithms), { minLength: 1, maxLength: 4 }),
    steps: fc.array(step, { minLength: 3, maxLength: 7 }),
  });

type Sequence = typeof sequence extends (...args: never[]) => fc.Arbitrary<infer Drawn> ? Drawn : never;

/** One sequence, with the model beside it. */
class RulesLane implements Lane {
  readonly drawn: Sequence;
  readonly #rules: readonly ModelRule[];
  readonly #model = new RulesModel();
  #now = START;
  #lastWait = 0n;
  #cost = 1n;
  denials = 0;

  constructor(drawn: Sequence) {
    this.drawn = drawn;
    world += 1;
    this.#rules = drawn.rules.map((one, index) => ({
      group: one.group,
      times: one.times,
      after:
        index === 0
          ? []
          : one.after.map(({ share, outcome }) => ({ rule: Math.floor((share * index) / 1_000), outcome })),
      limits: one.limits.map((shape, position) => ({
        id: `w${world}r${index % 2}/${index}-${position}`,
        algorithm: shape.algorithm,
        capacity: BigInt(shape.refill + shape.extra),
        refill: BigInt(shape.refill),
        windowMicros: BigInt(shape.windowSeconds) * 1_000_000n,
      })),
    }));
  }

  next(index: number): { at: bigint; request: DecideRequest } | undefined {
    const drawn = this.drawn.steps[index];
    if (drawn === undefined) return undefined;
    const wait = drawn.aim === 'retry' ? this.#lastWait : drawn.aim === 'just before' ? this.#lastWait - 1n : 0n;
    this.#now += wait > 0n ? wait : BigInt(drawn.pause);
    const capacities = this.#rules.flatMap((one) => one.limits.map((shape) => Number(shape.capacity)));
    this.#cost = BigInt(Math.max(1, Math.floor((Math.min(...capacities) * drawn.costPercent) / 100)));
    const rules = this.#rules.map(({ group, after, limits, times = 1n }) =>
      aRule(limits.map(toSelected), { group, after, cost: Number(this.#cost * times) }),
    );
    return { at: this.#now, request: { partition: 'p', selection: { rules, penalties: [] } } };
  }

  /** What the model says of the step, in the words of the product. */
  check(actual: TimedVerdict): void {
    const [cost, now] = [this.#cost, this.#now];
    const expected = this.#model.decide(this.#rules, cost, now);
    // A denial charges nothing: the model can be asked afterwards when it would pass.
    const retryAfter = expected.passes ? 0n : this.#retryAfter(cost, now);
    const said = [
      expected.passes ? 'admitted' : 'denied',
      retryAfter,
      ...expected.outcomes.flatMap((outcome, i) => [
        outcome,
        ...(expected.limits[i] ?? []).flatMap((one) => [one.remaining, one.retryAfter, one.resetAfter]),
      ]),
    ];
    const heard = [
      actual.code,
      actual.retryAfterMicros,
      ...actual.rules.flatMap(({ outcome, limits }) => [
        outcome,
        ...limits.flatMap((one) => [one.remaining, one.retryAfterMicros, one.resetAfterMicros]),
      ]),
    ];
    // As one text: hundreds of thousands of these are compared.
    if (heard.join(' ') !== said.join(' ')) expect(heard.map(String)).toEqual(said.map(String));
    if (!expected.passes) this.denials += 1;
    this.#lastWait = retryAfter;
  }

  #retryAfter(cost: bigint, now: bigint): bigint {
    const moments = this.#model.momentsAfter(this.#rules, cost, now).toSorted((a, b) => (a < b ? -1 : 1));
    const first = moments.find((at) => this.#model.passesAt(this.#rules, cost, at));
    return first === undefined ? -1n : first - now;
  }
}

describe('random sequences over several rules [P1] [P2] [P3] [P7] [P8]', () => {
  it.each<[string, readonly Algorithm[]]>([
    ['token buckets', ['TokenBucket']],
    ['sliding windows', ['SlidingWindow']],
    ['sliding window logs', ['SlidingWindowLog']],
    ['all of them', ['TokenBucket', 'SlidingWindow', 'SlidingWindowLog']],
  ])(
    'end in every outcome, remaining, retry_after and reset_after as the model says: %s',
    async (_title, algorithms) => {
      const seed = Date.now() % 2 ** 31;
      const total = { steps: 0, denials: 0 };
      for (let first = 0; first < SEQUENCES; first += LANES) {
        const drawn = fc.sample(sequence(algorithms), {
          numRuns: Math.min(LANES, SEQUENCES - first),
          seed: seed + first,
        });
        const lanes = drawn.map((one) => new RulesLane(one));
        total.steps += await playLanes(server.redis, names, lanes);
        for (const lane of lanes) total.denials += lane.denials;
      }
      expect(total.steps).toBeGreaterThan(SEQUENCES * 3);
      // Both verdicts are put to the test.
      expect(total.denials).toBeGreaterThan(total.steps / 12);
      expect(total.denials).toBeLessThan((total.steps * 9) / 10);
    },
    TIMEOUT_MILLIS,
  );
});
