import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { DenyCache } from '../../limiter/deny-cache.ts';
import type { PenaltyState } from '../../policy/decision.ts';
import { RedisClock } from '../../store/clock.ts';
import { Decider } from '../../store/decide.ts';
import type { DecideRequest } from '../../store/decide-wire.ts';
import { createNames } from '../../store/names.ts';
import { pardon } from '../../store/pardon.ts';
import { subscribeToChanges } from '../../store/changes.ts';
import { Charges } from '../../limiter/refunds.ts';
import type { Selection } from '../../policy/selection.ts';
import { aPolicy, indexOf } from '../policy/builders.ts';
import { aWindow } from '../harness/limits.ts';
import { plainRequest } from '../harness/plain.ts';
import { callsOf, resetCommandStats } from '../harness/command-stats.ts';
import { eventually } from '../harness/eventually.ts';
import { punishableRequest, quickPenalty, usualPenalty } from '../harness/penalties.ts';
import { type PrivateRedis, privateRedis } from '../harness/redis.ts';
import { onVirtualClock, setClock } from '../harness/virtual-clock.ts';

const names = createNames('default');
const START_MICROS = 1_790_000_000_000_000n;
const FLUSH_MILLIS = 100;

/** What a selection has besides rules and penalties. */
const NOTHING_ELSE: Omit<Selection, 'rules' | 'penalties'> = {
  missing: [],
  exemptions: [],
  overrides: [],
  blockedBy: undefined,
};

let server: PrivateRedis;
let subjects = 0;

beforeAll(async () => {
  server = await privateRedis();
});
afterAll(() => server.stop());

/** What a run comes to: what was admitted, how many calls it took, and when each state of the penalty was entered. */
type Run = {
  readonly admitted: number;
  readonly calls: number;
  readonly violations: number;
  readonly enteredMillis: ReadonlyMap<PenaltyState, number>;
};

/** A client that asks at these times, of a pod with or without a memory, on one virtual clock for pod and Redis. */
async function run(requests: number, arrivals: readonly number[], hasMemory: boolean): Promise<Run> {
  let now = 0;
  let flushAt = Number.POSITIVE_INFINITY;
  const clock = new RedisClock(() => now);
  const decider = new Decider(server.redis, names, clock, { deadlineMillis: 60_000, script: onVirtualClock('decide') });
  const cache = new DenyCache({
    decider,
    clock,
    configuration: () => 'one',
    schedule: (_run, millis) => {
      flushAt = now + millis;
      return () => void (flushAt = Number.POSITIVE_INFINITY);
    },
  });
  const at = async (millis: number): Promise<void> => {
    now = millis;
    await setClock(server.redis, START_MICROS + BigInt(Math.round(millis * 1_000)));
  };
  const request = punishableRequest(`client-${(subjects += 1)}`, usualPenalty, requests);
  await at(0);
  await decider.decide({ ...request, isPeek: true });
  await resetCommandStats(server.redis);
  let [admitted, peeks, last, violations] = [0, 0, 0, 0];
  const enteredMillis = new Map<PenaltyState, number>();
  const observe = async (): Promise<void> => {
    peeks += 1;
    const [penalty] = (await decider.decide({ ...request, isPeek: true })).penalties;
    if (penalty === undefined) throw new Error('there is a penalty');
    if (!enteredMillis.has(penalty.after)) enteredMillis.set(penalty.after, now);
    violations += Math.max(0, penalty.violations - last);
    last = penalty.violations;
  };
  await observe();
  for (const arrival of [...arrivals, (arrivals.at(-1) ?? 0) + FLUSH_MILLIS]) {
    if (flushAt <= arrival) {
      await at(flushAt);
      await cache.flush();
      await observe();
    }
    await at(arrival);
    const verdict = await (hasMemory ? cache : decider).decide(request);
    if (verdict.code === 'admitted') admitted += 1;
    if (!hasMemory) await observe();
  }
  await observe();
  decider.stop();
  return { admitted, violations, enteredMillis, calls: (await callsOf(server.redis, 'evalsha')) - peeks };
}

const pace = (perSecond: number, seconds: number): number[] =>
  Array.from({ length: perSecond * seconds }, (_, i) => (i * 1_000) / perSecond);

describe('a pod that remembers denials [P38]', () => {
  it.each([
    ['10 a second against 150 a minute', 150, 10, 65],
    ['50 a second against 10 a minute', 10, 50, 35],
  ])(
    'leads a flood to the same states at the same time as one that does not: %s',
    async (_title, requests, perSecond, seconds) => {
      const arrivals = pace(perSecond, seconds);
      const without = await run(requests, arrivals, false);
      const withMemory = await run(requests, arrivals, true);
      expect([...without.enteredMillis.keys()]).toEqual(['NORMAL', 'WARN', 'THROTTLE', 'TEMP_BLOCK']);
      expect(withMemory.admitted).toBe(without.admitted);
      expect([...withMemory.enteredMillis.keys()]).toEqual([...without.enteredMillis.keys()]);
      for (const [state, millis] of without.enteredMillis) {
        const late = (withMemory.enteredMillis.get(state) ?? 0) - millis;
        expect(late).toBeGreaterThanOrEqual(0);
        // Redis is told within a tenth of a second; one violation a second counts, so this can add up to one.
        expect(late).toBeLessThanOrEqual(1_000 + FLUSH_MILLIS);
      }
      expect(Math.abs(withMemory.violations - without.violations)).toBeLessThanOrEqual(1);
      expect(without.calls).toBe(arrivals.length + 1);
      expect(withMemory.calls).toBeLessThan(without.calls);
    },
  );
});

describe('a pardon', () => {
  it('ends what the pod remembers of the subject, within the time of its announcement', async () => {
    const clock = new RedisClock();
    const decider = new Decider(server.redis, names, clock, { deadlineMillis: 60_000 });
    const cache = new DenyCache({ decider, clock, configuration: () => 'one' });
    const subscription = subscribeToChanges(server.url, names, ['pardon'], (_change, detail) => {
      const subject = detail?.split(' ')[1];
      if (subject !== undefined) cache.forget(subject);
    });
    const { warn: _warn, throttle: _throttle, ...quick } = quickPenalty;
    const penalty = { ...quick, tempBlock: { violations: 1, forSeconds: 900 } };
    const plain = punishableRequest('pardoned');
    const penalties = plain.selection.penalties.map((one) => ({ ...one, penalty }));
    const request: DecideRequest = { ...plain, selection: { ...plain.selection, penalties } };
    const codes: string[] = [];
    for (let i = 0; i < 3; i += 1) codes.push((await cache.decide(request)).code);
    expect(codes).toEqual(['admitted', 'denied', 'blocked']);
    await eventually(async () => {
      await pardon(server.redis, names, { partition: request.partition, subject: 'pardoned' });
      expect((await cache.decide(request)).code).toBe('denied');
    });
    subscription.close();
    decider.stop();
  });
});

describe('a refund', () => {
  it('without an id ends what the pod remembers of its subjects at once', async () => {
    const clock = new RedisClock();
    const decider = new Decider(server.redis, names, clock, { deadlineMillis: 60_000 });
    const cache = new DenyCache({ decider, clock, configuration: () => 'one' });
    const charges = new Charges(server.redis, names, 60_000, (subject) => cache.forget(subject));
    const domain = indexOf([aPolicy().document()]);
    const request = plainRequest(domain.partition, [
      aWindow({ subject: 'refunded', capacity: 1, windowSeconds: 3_600 }),
    ]);
    const { code: first } = await cache.decide(request);
    const verdict = await cache.decide(request);
    expect([first, verdict.code]).toEqual(['admitted', 'denied']);
    const selection = { ...NOTHING_ELSE, ...request.selection };
    await charges.giveBack({ domain, context: {}, selection, verdict, onRule: () => undefined });
    expect((await cache.decide(request)).code).toBe('admitted');
    decider.stop();
  });
});
