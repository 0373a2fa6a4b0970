import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { CompiledPenalty } from '../../policy/documents.ts';
import { RedisClock } from '../../store/clock.ts';
import { Decider } from '../../store/decide.ts';
import type { DecideRequest } from '../../store/decide-wire.ts';
import { createNames } from '../../store/names.ts';
import { chargeOf, refund, rememberCharge } from '../../store/refund.ts';
import { aBucket } from '../harness/limits.ts';
import { driveTo, punishableRequest } from '../harness/penalties.ts';
import { type PrivateRedis, privateRedis } from '../harness/redis.ts';
import { onVirtualClock, setClock } from '../harness/virtual-clock.ts';

const names = createNames('throttled');
const START = 1_790_000_000_000_000n;
const SECOND = 1_000_000n;
/** Nothing but THROTTLE, for an hour; 50 of 100 are left. */
const penalty: Partial<CompiledPenalty> = {
  warn: undefined,
  throttle: { violations: 1, forSeconds: 3_600, limitPercent: 50 },
  tempBlock: undefined,
  block: undefined,
  violationWindowSeconds: 1,
};

let server: PrivateRedis;
let decider: Decider;
let subjects = 0;

beforeAll(async () => {
  server = await privateRedis();
  const options = { deadlineMillis: 60_000, script: onVirtualClock('decide') };
  decider = new Decider(server.redis, names, new RedisClock(), options);
});
afterAll(() => server.stop());

/** A subject of one token bucket that is throttled and owes nothing; `at` is the time then. */
async function throttled(capacity: number, refill: number): Promise<{ request: DecideRequest; at: bigint }> {
  subjects += 1;
  const limit = aBucket({ subject: `s${subjects}`, capacity, refill });
  const request = punishableRequest(limit.subject, penalty, limit);
  for (let i = 0; i < capacity; i += 1) {
    await setClock(server.redis, START);
    await decider.decide(request);
  }
  const { at } = await driveTo('THROTTLE', { redis: server.redis, decider, request, from: START });
  return { request, at: at + 1_800n * SECOND };
}

async function admittedAt(at: bigint, request: DecideRequest): Promise<boolean> {
  await setClock(server.redis, at);
  return (await decider.decide(request)).code === 'admitted';
}

describe('a token bucket of a throttled subject', () => {
  it.each([
    [10, 10],
    [20, 10],
    [7, 7],
    [9, 3],
  ])('holds and refills half: burst %i, %i a minute', async (capacity, refill) => {
    const { request, at } = await throttled(capacity, refill);
    let admitted = 0;
    while (await admittedAt(at, request)) admitted += 1;
    expect(admitted).toBe(Math.floor(capacity / 2));
    const slower = Math.floor(refill / 2);
    for (let second = 1n; second <= 600n; second += 1n) {
      if (await admittedAt(at + second * SECOND, request)) admitted += 1;
    }
    expect(admitted).toBe(Math.floor(capacity / 2) + slower * 10);
  });

  it('says exactly how long to wait, and what is left', async () => {
    const { request, at } = await throttled(7, 7);
    await setClock(server.redis, at);
    const first = await decider.decide(request);
    expect(first.rules[0]?.limits).toEqual([{ remaining: 2, retryAfterMicros: 0, resetAfterMicros: 20_000_000 }]);
    while (await admittedAt(at, request));
    const waits = [];
    // Debt is time: at the full rate, too, it has to be repaid before another request fits, which takes 60 / 7 seconds.
    for (const second of [0n, 8n, 9n]) {
      await setClock(server.redis, at + second * SECOND);
      const denied = await decider.decide({ ...request, isPeek: true });
      waits.push([denied.code, denied.byThrottle, denied.retryAfterMicros]);
    }
    expect(waits).toEqual([
      ['denied', false, 20_000_000],
      ['denied', false, 12_000_000],
      ['denied', true, 11_000_000],
    ]);
    expect(await admittedAt(at + 20n * SECOND - 1n, { ...request, isPeek: true })).toBe(false);
    expect(await admittedAt(at + 20n * SECOND, request)).toBe(true);
  });

  it('is charged nothing by a denial, not even a part of a microsecond for one later in the batch', async () => {
    const after = async (costs: readonly number[]): Promise<Buffer | null> => {
      const { request, at } = await throttled(14, 14);
      const costing = (cost: number): DecideRequest => {
        const rules = request.selection.rules.map((rule) => ({ ...rule, cost }));
        return { ...request, selection: { ...request.selection, rules } };
      };
      await setClock(server.redis, at);
      await decider.decide(costing(5));
      await setClock(server.redis, at + SECOND);
      const codes = (await Promise.all(costs.map((cost) => decider.decide(costing(cost))))).map(({ code }) => code);
      expect(codes).toEqual(costs.map((cost) => (cost === 1 ? 'admitted' : 'denied')));
      const [limit] = request.selection.rules[0]?.limits ?? [];
      return server.redis.hgetBuffer(names.counters('p', limit?.subject ?? ''), limit?.field ?? '');
    };
    const alone = await after([1]);
    expect(alone).toHaveLength(25);
    expect(await after([3, 1])).toEqual(alone);
  });

  it('is given back by a refund what it was charged', async () => {
    const { request, at } = await throttled(10, 10);
    await setClock(server.redis, at);
    const verdict = await decider.decide(request);
    await rememberCharge(server.redis, names, `throttled ${subjects}`, chargeOf(request, verdict));
    const charged = await decider.decide({ ...request, isPeek: true });
    expect(charged.rules[0]?.limits[0]?.remaining).toBe(4);
    expect(await refund(server.redis, names, `throttled ${subjects}`, onVirtualClock('refund'))).toBe('refunded');
    const whole = await decider.decide({ ...request, isPeek: true });
    expect(whole.rules[0]?.limits[0]).toMatchObject({ remaining: 5, resetAfterMicros: 0 });
  });
});
