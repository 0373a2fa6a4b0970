import fc from 'fast-check';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { PenaltyState } from '../../policy/decision.ts';
import type { CompiledPenalty } from '../../policy/documents.ts';
import { RedisClock } from '../../store/clock.ts';
import { Decider, type TimedVerdict } from '../../store/decide.ts';
import { type DecideRequest, rememberedRequest } from '../../store/decide-wire.ts';
import { createNames } from '../../store/names.ts';
import { contentsOf } from '../harness/contents.ts';
import { aBucket, aWindow } from '../harness/limits.ts';
import { aPenalty, driveTo, punishableRequest, usualPenalty } from '../harness/penalties.ts';
import { aRule } from '../harness/plain.ts';
import { type PrivateRedis, privateRedis } from '../harness/redis.ts';
import { onVirtualClock, setClock } from '../harness/virtual-clock.ts';

const names = createNames('remembered');
const START = 1_790_000_000_000_000n;
const MILLI = 1_000n;
const SECOND = 1_000_000n;
const FLUSH = 100n * MILLI;
/** A pod believes its memory no longer than this. */
const MOST_REMEMBERED = SECOND;

let server: PrivateRedis;
let decider: Decider;
let subjects = 0;

beforeAll(async () => {
  server = await privateRedis();
  const options = { deadlineMillis: 60_000, script: onVirtualClock('decide') };
  decider = new Decider(server.redis, names, new RedisClock(), options);
});
afterAll(() => server.stop());
// What other tests left would expire while one compares everything that there is.
beforeEach(async () => {
  await server.redis.flushall();
  await setClock(server.redis, START);
});

async function decideAt(at: bigint, request: DecideRequest): Promise<TimedVerdict> {
  await setClock(server.redis, at);
  return decider.decide(request);
}

const violationsOf = (verdict: TimedVerdict): number => verdict.penalties[0]?.violations ?? 0;
const stateOf = (verdict: TimedVerdict): PenaltyState => verdict.penalties[0]?.after ?? 'NORMAL';

/** What a run comes to: how many violations were counted in all, and when each state was entered. */
type Run = {
  readonly violations: number;
  /** When requests were denied; of a pod that asks about each. */
  readonly denials: readonly bigint[];
  readonly admitted: number;
  readonly entered: ReadonlyMap<PenaltyState, bigint>;
};

class Recorder {
  #last = 0;
  #violations = 0;
  admitted = 0;
  readonly denials: bigint[] = [];
  readonly entered = new Map<PenaltyState, bigint>();

  note(verdict: TimedVerdict, at: bigint): void {
    const now = violationsOf(verdict);
    if (now > this.#last) this.#violations += now - this.#last;
    this.#last = now;
    if (verdict.code === 'admitted') this.admitted += 1;
    else this.denials.push(at);
    const state = stateOf(verdict);
    if (!this.entered.has(state)) this.entered.set(state, at - START);
  }

  run(): Run {
    const { admitted, denials, entered } = this;
    return { violations: this.#violations, admitted, denials, entered };
  }
}

async function runUncached(request: DecideRequest, arrivals: readonly bigint[]): Promise<Run> {
  const recorder = new Recorder();
  for (const at of arrivals) recorder.note(await decideAt(START + at, request), START + at);
  return recorder.run();
}

/** A pod that answers from memory while it may, and every 100 ms tells Redis how often it did. */
async function runCached(request: DecideRequest, arrivals: readonly bigint[]): Promise<Run> {
  const recorder = new Recorder();
  let remembered: { readonly verdict: TimedVerdict; readonly until: bigint } | undefined;
  let denials = 0;
  let flushAt = FLUSH;
  const flush = async (until: bigint): Promise<void> => {
    for (; flushAt <= until; flushAt += FLUSH) {
      if (denials === 0 || remembered === undefined) continue;
      const told = await decideAt(START + flushAt, rememberedRequest(request, remembered.verdict, denials));
      denials = 0;
      recorder.note(told, START + flushAt);
    }
  };
  for (const at of arrivals) {
    await flush(at);
    if (remembered !== undefined && at < remembered.until) {
      if (remembered.verdict.code === 'denied') denials += 1;
      continue;
    }
    // What an older verdict was remembered for is told before a new one replaces it.
    if (denials > 0 && remembered !== undefined) {
      recorder.note(await decideAt(START + at, rememberedRequest(request, remembered.verdict, denials)), START + at);
      denials = 0;
    }
    const verdict = await decideAt(START + at, request);
    recorder.note(verdict, START + at);
    const wait = BigInt(verdict.retryAfterMicros);
    remembered =
      verdict.code === 'admitted'
        ? undefined
        : { verdict, until: at + (wait < MOST_REMEMBERED ? wait : MOST_REMEMBERED) };
  }
  await flush((arrivals.at(-1) ?? 0n) + FLUSH);
  return recorder.run();
}

function aRequest(requests: number, penalty: Partial<CompiledPenalty>): DecideRequest {
  subjects += 1;
  return punishableRequest(`s${subjects}`, penalty, requests);
}

const pace = (perSecond: number, seconds: number): bigint[] =>
  Array.from({ length: perSecond * seconds }, (_, i) => (BigInt(i) * SECOND) / BigInt(perSecond));

/** The most of these times, in order, of which each is so long after the one before. */
function mostApart(times: readonly bigint[], micros: bigint): number {
  let count = 0;
  let next: bigint | undefined;
  for (const time of times) {
    if (next !== undefined && time < next) continue;
    count += 1;
    next = time + micros;
  }
  return count;
}

describe('[P38] a pod that remembers denials and tells Redis of them every 100 ms', () => {
  it.each([
    ['10 a second against 150 a minute', 150, 10, 120],
    ['40 a second against 60 a minute', 60, 40, 60],
    ['100 a second against 10 a minute', 10, 100, 45],
    ['3 a second against 60 a minute', 60, 3, 200],
  ])('ends with the violations and states of one that does not: %s', async (_title, requests, perSecond, seconds) => {
    const arrivals = pace(perSecond, seconds);
    const uncached = await runUncached(aRequest(requests, usualPenalty), arrivals);
    const cached = await runCached(aRequest(requests, usualPenalty), arrivals);
    expect(uncached.violations).toBeGreaterThan(3);
    expect(cached.violations).toBe(uncached.violations);
    expect(cached.admitted).toBe(uncached.admitted);
    expect([...cached.entered.keys()]).toEqual([...uncached.entered.keys()]);
    for (const [state, at] of uncached.entered) {
      const late = (cached.entered.get(state) ?? 0n) - at;
      expect(late).toBeGreaterThanOrEqual(0n);
      expect(late).toBeLessThanOrEqual(FLUSH);
    }
  });

  it('through blocks that end and come again, until the last one', async () => {
    const penalty: Partial<CompiledPenalty> = { ...usualPenalty, tempBlock: { violations: 25, forSeconds: 20 } };
    const arrivals = pace(20, 150);
    const uncached = await runUncached(aRequest(60, penalty), arrivals);
    const cached = await runCached(aRequest(60, penalty), arrivals);
    expect([...uncached.entered.keys()]).toContain('BLOCK');
    expect([...cached.entered.keys()]).toEqual([...uncached.entered.keys()]);
    expect(cached.violations).toBe(uncached.violations);
  });

  it('of any traffic counts at most what comes of denials that are told up to 100 ms late', async () => {
    const gaps = fc.array(fc.tuple(fc.integer({ min: 1, max: 30 }), fc.integer({ min: 0, max: 900 })), {
      minLength: 5,
      maxLength: 25,
    });
    const penalty: Partial<CompiledPenalty> = {
      tolerancePercent: 100,
      violationWindowSeconds: 3_600,
      warn: { violations: 1_000, forSeconds: 10 },
    };
    await fc.assert(
      fc.asyncProperty(gaps, fc.integer({ min: 1, max: 20 }), async (bursts, requests) => {
        let at = 0n;
        const arrivals = bursts.flatMap(([count, pauseMillis]) => {
          at += BigInt(pauseMillis) * MILLI;
          return Array.from({ length: count }, (_, i) => at + BigInt(i) * 7n * MILLI).map((one) => (at = one));
        });
        const bare = { ...penalty, throttle: undefined, tempBlock: undefined, block: undefined };
        const uncached = await runUncached(aRequest(requests, bare), arrivals);
        const cached = await runCached(aRequest(requests, bare), arrivals);
        expect(cached.admitted).toBe(uncached.admitted);
        // Each is told up to a tenth of a second late, and the next counts a second after that.
        expect(cached.violations).toBeGreaterThanOrEqual(Math.floor(uncached.violations / 1.1) - 1);
        // Two that count are told a second apart: they happened a tenth of a second less apart at least.
        expect(cached.violations).toBeLessThanOrEqual(mostApart(uncached.denials, SECOND - FLUSH));
      }),
      { numRuns: 20 },
    );
  });
});

describe('denials that a pod remembered', () => {
  const field = (limit: { readonly field: string }): string => limit.field;

  async function denied(requests: number, penalty: Partial<CompiledPenalty>, at = START) {
    const request = aRequest(requests, penalty);
    let verdict = await decideAt(at, request);
    while (verdict.code === 'admitted') verdict = await decideAt(at, request);
    const subject = request.selection.penalties[0]?.subject ?? '';
    return { request, verdict, key: names.penalty('p', subject), counters: names.counters('p', subject) };
  }

  it('fill a meter exactly as if each had been told by itself', async () => {
    for (const requests of [1, 3, 7, 11]) {
      const one = await denied(requests, usualPenalty);
      const other = await denied(requests, usualPenalty);
      const meter = one.request.selection.rules.flatMap((rule) => rule.limits.map(field))[0] ?? '';
      for (const count of [1, 2, 3, 20]) {
        const at = START + BigInt(count) * 333_333n;
        for (let i = 0; i < count; i += 1) await decideAt(at, one.request);
        await decideAt(at, rememberedRequest(other.request, other.verdict, count));
        const [told, remembered] = await Promise.all(
          [one.key, other.key].map((key) => server.redis.hgetBuffer(key, meter)),
        );
        expect(remembered).toEqual(told);
      }
    }
  });

  it('are charged to no counter, whatever it has left', async () => {
    const { request, verdict, counters } = await denied(5, usualPenalty);
    const before = await server.redis.dumpBuffer(counters);
    await decideAt(START + 3_600n * SECOND, rememberedRequest(request, verdict, 3));
    expect(await server.redis.dumpBuffer(counters)).toEqual(before);
  });

  it('are one violation at most, and in a second one at most', async () => {
    const { request, verdict } = await denied(1, { tolerancePercent: 0, minSecondsPerStep: 3_600 });
    const counts: number[] = [];
    for (let i = 1n; i <= 20n; i += 1n) {
      const told = await decideAt(START + i * FLUSH, rememberedRequest(request, verdict, 1_000_000));
      counts.push(violationsOf(told));
    }
    expect(violationsOf(verdict)).toBe(1);
    expect(counts).toEqual([...Array<number>(9).fill(1), ...Array<number>(10).fill(2), 3]);
  });

  it('change nothing while the subject is blocked, and the answer says that it is', async () => {
    const request = aRequest(1, {});
    const { at, verdict } = await driveTo('TEMP_BLOCK', { redis: server.redis, decider, request, from: START });
    const before = await contentsOf(server.redis);
    await setClock(server.redis, at + SECOND);
    const told = await decider.decide(rememberedRequest(request, verdict, 50));
    expect([told.code, stateOf(told), told.penalties[0]?.endsInMicros]).toEqual(['blocked', 'TEMP_BLOCK', 29_000_000]);
    const { 'virtual-clock': _clock, ...after } = await contentsOf(server.redis);
    const { 'virtual-clock': _before, ...expected } = before;
    expect(after).toEqual(expected);
  });

  it('name only the rules and limits that denied, and count against their penalty only', async () => {
    const [scarce, ample] = [aWindow({ subject: 'a', capacity: 1 }), aBucket({ subject: 'a', capacity: 100 })];
    const rules = [
      aRule([ample, scarce], { penalty: 0 }),
      aRule([ample], { penalty: 1, after: [{ rule: 0, outcome: 'NotRun' as const }] }),
      aRule([scarce], { group: 1 }),
    ];
    const penalties = [aPenalty('first'), aPenalty('second')];
    const request: DecideRequest = { partition: 'p', selection: { rules, penalties } };
    await decideAt(START, request);
    const verdict = await decideAt(START, request);
    const remembered = rememberedRequest(request, verdict, 4);
    expect(remembered.selection.rules.map((rule) => rule.limits)).toEqual([[scarce]]);
    const told = await decideAt(START + SECOND, remembered);
    expect(told).toMatchObject({ code: 'denied', retryAfterMicros: 0, rules: [{ outcome: 'NotRun', limits: [] }] });
    expect(told.penalties.map(({ violations }) => violations)).toEqual([2, 0]);
  });

  it.each([0, -1, 1.5, Number.NaN, Number.POSITIVE_INFINITY])(
    'of a number that cannot be, %s, change nothing',
    async (n) => {
      const request = { ...punishableRequest(`odd ${n}`), rememberedDenials: n };
      const before = await contentsOf(server.redis);
      await decider.decide(request);
      expect(await contentsOf(server.redis)).toEqual(before);
    },
  );

  it('fail if a key holds something else', async () => {
    const { request, verdict, key } = await denied(1, usualPenalty);
    await server.redis.set(key, 'planted');
    await expect(decider.decide(rememberedRequest(request, verdict, 2))).rejects.toMatchObject({ code: 'WRONG_TYPE' });
  });
});
