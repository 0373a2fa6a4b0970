import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { SelectedLimit } from '../../policy/selection.ts';
import { RedisClock } from '../../store/clock.ts';
import { Decider } from '../../store/decide.ts';
import { createNames } from '../../store/names.ts';
import type { Admission } from '../harness/admissions.ts';
import { aBucket, aWindow } from '../harness/limits.ts';
import { driveTo, punishableRequest } from '../harness/penalties.ts';
import { type PrivateRedis, privateRedis } from '../harness/redis.ts';
import { onVirtualClock, setClock } from '../harness/virtual-clock.ts';
import { decidePlain, type PlainVerdict } from '../harness/plain.ts';

/** The beginning of a slot of every window that is used here. */
const START = 1_790_000_040_000_000n;
const WINDOW_SECONDS = 60;
const SECOND = 1_000_000;
const NEVER = Number.POSITIVE_INFINITY;

let server: PrivateRedis;
let decider: Decider;
let now = START;
let subjects = 0;

beforeAll(async () => {
  server = await privateRedis();
  const options = { deadlineMillis: 60_000, script: onVirtualClock('decide') };
  decider = new Decider(server.redis, createNames('default'), new RedisClock(), options);
});
afterAll(() => server.stop());

async function ask(limit: SelectedLimit, cost = 1): Promise<PlainVerdict> {
  await setClock(server.redis, now);
  return decidePlain(decider, { partition: 'p', cost, limits: [limit] });
}

const wait = (seconds: number): void => {
  now += BigInt(seconds * SECOND);
};

/** One counter, by whatever numbers the policy has at the time; capacity 0 is what DEGRADED makes of `degraded: 0`. */
function aCounter() {
  subjects += 1;
  now = START;
  const shape = { subject: `s${subjects}`, windowSeconds: WINDOW_SECONDS };
  return {
    bucket: (capacity: number) => aBucket({ ...shape, capacity }),
    window: (capacity: number) => aWindow({ ...shape, capacity }),
  };
}

const outcomeOf = ({ admitted, outcomes }: PlainVerdict) => ({
  admitted,
  remaining: outcomes[0]?.remaining,
  waitSeconds: outcomes[0]?.retryAfterMicros === -1 ? NEVER : (outcomes[0]?.retryAfterMicros ?? 0) / SECOND,
});

describe('a sliding window whose limit is edited', () => {
  it('lets pass what a higher limit has left, at once', async () => {
    const { window } = aCounter();
    expect(outcomeOf(await ask(window(5), 5))).toMatchObject({ admitted: true, remaining: 0 });
    expect(outcomeOf(await ask(window(8), 2))).toMatchObject({ admitted: true, remaining: 1 });
    expect(outcomeOf(await ask(window(8), 2))).toMatchObject({ admitted: false, remaining: 1 });
  });

  it('counts what was admitted before against a lower limit', async () => {
    const { window } = aCounter();
    await ask(window(10), 4);
    wait(12);
    await ask(window(10), 3);
    // 4 requests leave 66 s after they came, which the lower limit needs.
    expect(outcomeOf(await ask(window(4)))).toEqual({ admitted: false, remaining: 0, waitSeconds: 54 });
    wait(54);
    expect(outcomeOf(await ask(window(4)))).toMatchObject({ admitted: true, remaining: 0 });
    expect(outcomeOf(await ask(window(4)))).toMatchObject({ admitted: false });
  });

  it('admits nothing while it is shed, and remembers everything from before', async () => {
    const { window } = aCounter();
    await ask(window(5), 3);
    wait(6);
    expect(outcomeOf(await ask(window(0)))).toEqual({ admitted: false, remaining: 0, waitSeconds: NEVER });
    wait(6);
    expect(outcomeOf(await ask(window(5), 3))).toMatchObject({ admitted: false, remaining: 2 });
    expect(outcomeOf(await ask(window(5), 2))).toMatchObject({ admitted: true, remaining: 0 });
  });
});

describe('a token bucket whose limit is edited', () => {
  it('owes the time that it owed before: a higher limit does not forgive it', async () => {
    const { bucket } = aCounter();
    expect(outcomeOf(await ask(bucket(10), 10))).toMatchObject({ admitted: true, remaining: 0 });
    // Ten requests at ten a minute are a minute of debt, which is all that a bucket of a hundred a minute holds.
    expect(outcomeOf(await ask(bucket(100)))).toEqual({ admitted: false, remaining: 0, waitSeconds: 0.6 });
    wait(30);
    expect(outcomeOf(await ask(bucket(100), 50))).toMatchObject({ admitted: true, remaining: 0 });
  });

  it('owes it after a lower limit too, and no more', async () => {
    const { bucket } = aCounter();
    await ask(bucket(100), 50);
    expect(outcomeOf(await ask(bucket(10), 6))).toEqual({ admitted: false, remaining: 5, waitSeconds: 6 });
    expect(outcomeOf(await ask(bucket(10), 5))).toMatchObject({ admitted: true, remaining: 0 });
  });

  it('admits nothing while it is shed, and repays meanwhile second by second', async () => {
    const { bucket } = aCounter();
    await ask(bucket(10), 10);
    wait(18);
    expect(outcomeOf(await ask(bucket(0)))).toEqual({ admitted: false, remaining: 0, waitSeconds: NEVER });
    expect(outcomeOf(await ask(bucket(10), 4))).toMatchObject({ admitted: false, remaining: 3 });
    expect(outcomeOf(await ask(bucket(10), 3))).toMatchObject({ admitted: true, remaining: 0 });
  });
});

/** Capacities whose products divide: an independent model counts debt in whole parts of a microsecond. */
const CAPACITIES = [0, 1, 2, 3, 5, 7, 10, 100] as const;
const PARTS = 2_100n;
const WINDOW_MICROS = BigInt(WINDOW_SECONDS * SECOND);

const edits = fc.array(
  fc.record({
    pauseMicros: fc.oneof(fc.constant(0n), fc.bigInt({ min: 0n, max: 20_000_000n })),
    capacity: fc.constantFrom(...CAPACITIES),
    cost: fc.integer({ min: 1, max: 5 }),
  }),
  { minLength: 5, maxLength: 40 },
);

describe('a penalty that is edited', () => {
  it('leaves a subject in the state that it does not have any more, until the end that was said, whatever is denied', async () => {
    const subject = `s${(subjects += 1)}`;
    const { at } = await driveTo('WARN', {
      redis: server.redis,
      decider,
      request: punishableRequest(subject),
      from: START,
    });
    await setClock(server.redis, at + 10_000_000n);
    const throttle = { violations: 10, forSeconds: 50, limitPercent: 50 };
    const verdict = await decider.decide(punishableRequest(subject, { warn: undefined, throttle }));
    expect(verdict.code).toBe('denied');
    expect(verdict.penalties).toEqual([{ before: 'WARN', after: 'WARN', endsInMicros: 90 * SECOND, violations: 2 }]);
  });
});

describe('limits that are edited at random, up, down and to nothing', () => {
  it('never let more than the limit of the moment into a trailing window [P13]', async () => {
    await fc.assert(
      fc.asyncProperty(edits, async (sequence) => {
        const { window } = aCounter();
        const admissions: Admission[] = [];
        for (const { pauseMicros, capacity, cost } of sequence) {
          now += pauseMicros;
          if (!(await ask(window(capacity), cost)).admitted) continue;
          admissions.push({ at: now, cost: BigInt(cost) });
          const inside = admissions.filter(({ at }) => at >= now - WINDOW_MICROS);
          expect(inside.reduce((sum, admission) => sum + admission.cost, 0n)).toBeLessThanOrEqual(BigInt(capacity));
        }
      }),
      { numRuns: 100 },
    );
  });

  it('never forgive a token bucket its debt, and never invent more than a microsecond of it per edit [P13]', async () => {
    await fc.assert(
      fc.asyncProperty(edits, async (sequence) => {
        const { bucket } = aCounter();
        let debt = 0n;
        let rounded = 0n;
        let before = 0;
        for (const { pauseMicros, capacity, cost } of sequence) {
          now += pauseMicros;
          debt = debt > pauseMicros * PARTS ? debt - pauseMicros * PARTS : 0n;
          if (capacity !== before) rounded += PARTS;
          before = capacity;
          const { admitted, outcomes } = await ask(bucket(capacity), cost);
          const price = capacity === 0 ? 0n : (BigInt(cost) * WINDOW_MICROS * PARTS) / BigInt(capacity);
          const room = capacity === 0 ? -1n : WINDOW_MICROS * PARTS - debt - price;
          const mayPass = room >= 0n;
          const mustPass = room >= rounded;
          expect(admitted && !mayPass).toBe(false);
          expect(mustPass && !admitted).toBe(false);
          if (admitted) debt += price;
          const resetAfter = BigInt(outcomes[0]?.resetAfterMicros ?? 0) * PARTS;
          expect(resetAfter).toBeGreaterThanOrEqual(debt);
          expect(resetAfter).toBeLessThan(debt + rounded + PARTS);
        }
      }),
      { numRuns: 100 },
    );
  });
});
