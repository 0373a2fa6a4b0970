import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { RedisClock } from '../../store/clock.ts';
import { Decider } from '../../store/decide.ts';
import { createNames } from '../../store/names.ts';
import { chargeOf, refund, refundAnonymously, rememberCharge, toCharged } from '../../store/refund.ts';
import { plainRequest } from '../harness/plain.ts';
import { type PrivateRedis, privateRedis } from '../harness/redis.ts';
import { onVirtualClock, setClock } from '../harness/virtual-clock.ts';
import { toSelected } from './limits.ts';
import { Model, type ModelLimit } from './model.ts';

const START = 1_790_000_000_000_000n;
const names = createNames('refund');
const refundScript = onVirtualClock('refund');

let server: PrivateRedis;
let decider: Decider;
let world = 0;

beforeAll(async () => {
  server = await privateRedis();
  const options = { deadlineMillis: 60_000, script: onVirtualClock('decide') };
  decider = new Decider(server.redis, names, new RedisClock(), options);
});
afterAll(() => server.stop());

const shapes = fc.array(
  fc.record({
    algorithm: fc.constantFrom<ModelLimit['algorithm']>('TokenBucket', 'SlidingWindow', 'SlidingWindowLog'),
    windowSeconds: fc.constantFrom(1, 3, 7),
    refill: fc.integer({ min: 1, max: 9 }),
    extra: fc.integer({ min: 0, max: 4 }),
  }),
  { minLength: 1, maxLength: 3 },
);

const steps = fc.array(
  fc.record({
    pause: fc.oneof(fc.constant(0n), fc.constantFrom(1n, 100_000n), fc.bigInt({ min: 0n, max: 3_000_000n })),
    cost: fc.integer({ min: 1, max: 5 }),
    what: fc.constantFrom('ask', 'ask', 'refund', 'refund', 'refund anonymously'),
    /** Which of the charges so far. */
    which: fc.nat(),
  }),
  { minLength: 2, maxLength: 30 },
);

type Shape = { algorithm: ModelLimit['algorithm']; windowSeconds: number; refill: number; extra: number };
type Step = { pause: bigint; cost: number; what: string; which: number };
type Charged = { readonly id: string; readonly cost: number; readonly at: bigint; refunded: boolean };

/** Product and model, side by side. */
class World {
  readonly #limits: readonly ModelLimit[];
  readonly #model = new Model();
  readonly #charges: Charged[] = [];
  #now = START;

  constructor(drawn: readonly Shape[]) {
    world += 1;
    this.#limits = drawn.map(({ algorithm, windowSeconds, refill, extra }, index) => ({
      id: `w${world}s${index >> 1}/${index}`,
      algorithm,
      capacity: BigInt(refill + extra),
      refill: BigInt(refill),
      windowMicros: BigInt(windowSeconds) * 1_000_000n,
    }));
  }

  async take({ pause, cost, what, which }: Step): Promise<void> {
    this.#now += pause;
    await setClock(server.redis, this.#now);
    if (what === 'ask') await this.#ask(cost);
    if (what === 'refund') await this.#refund(which);
    if (what === 'refund anonymously') await this.#refundAnonymously(cost);
  }

  async #ask(cost: number): Promise<void> {
    const request = plainRequest('p', this.#limits.map(toSelected), cost);
    const verdict = await decider.decide(request);
    const expected = this.#model.decide(this.#limits, BigInt(cost), this.#now);
    const actual = verdict.rules.flatMap((rule) => rule.limits);
    expect(verdict.code).toBe(expected.admitted ? 'admitted' : 'denied');
    expect(
      actual.map(({ remaining, retryAfterMicros, resetAfterMicros }) => ({
        remaining: BigInt(remaining),
        retryAfter: BigInt(retryAfterMicros),
        resetAfter: BigInt(resetAfterMicros),
      })),
    ).toEqual(expected.outcomes);
    if (!expected.admitted) return;
    const id = `${world}-${this.#charges.length}`;
    expect(await rememberCharge(server.redis, names, id, chargeOf(request, verdict))).toBe(true);
    this.#charges.push({ id, cost, at: this.#now, refunded: false });
  }

  async #refund(which: number): Promise<void> {
    const charge = this.#charges[which % this.#charges.length];
    if (charge === undefined) return;
    const said = await refund(server.redis, names, charge.id, refundScript);
    expect(said).toBe(charge.refunded ? 'unknown' : 'refunded');
    if (charge.refunded) return;
    charge.refunded = true;
    for (const limit of this.#limits) {
      this.#model.refund(limit, BigInt(charge.cost), { at: charge.at, now: this.#now });
    }
  }

  async #refundAnonymously(cost: number): Promise<void> {
    const limits = this.#limits.map((limit) => toCharged(toSelected(limit), cost));
    await refundAnonymously(server.redis, names, { partition: 'p', limits }, refundScript);
    for (const limit of this.#limits) this.#model.refundOldest(limit, BigInt(cost), this.#now);
  }
}

describe('refunds against an independent model', () => {
  it('[P9] give back exactly what was charged, once, and never more than full', async () => {
    await fc.assert(
      fc.asyncProperty(shapes, steps, async (drawn, sequence) => {
        const played = new World(drawn);
        for (const step of sequence) await played.take(step);
      }),
      { numRuns: 400 },
    );
  });
});
