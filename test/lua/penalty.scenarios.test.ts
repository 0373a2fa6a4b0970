import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { PenaltyState, Verdict } from '../../policy/decision.ts';
import type { CompiledPenalty } from '../../policy/documents.ts';
import type { SelectedLimit, SelectedPenalty } from '../../policy/selection.ts';
import { RedisClock } from '../../store/clock.ts';
import { Decider, type TimedVerdict } from '../../store/decide.ts';
import { createNames } from '../../store/names.ts';
import { aWindow } from '../harness/limits.ts';
import { quickPenalty, usualPenalty } from '../harness/penalties.ts';
import { aRule } from '../harness/plain.ts';
import { type PrivateRedis, privateRedis } from '../harness/redis.ts';
import { onVirtualClock, setClock } from '../harness/virtual-clock.ts';

const SECOND = 1_000_000;
const START = 1_790_000_000 * SECOND;
const names = createNames('penalty');

let server: PrivateRedis;
let decider: Decider;
let subjects = 0;

beforeAll(async () => {
  server = await privateRedis();
  const script = onVirtualClock('decide');
  decider = new Decider(server.redis, names, new RedisClock(), { deadlineMillis: 60_000, script });
});
afterAll(() => server.stop());

const emptyPenalty: CompiledPenalty = {
  enforced: true,
  countBy: ['consumer'],
  tolerancePercent: 100,
  violationWindowSeconds: 600,
  minSecondsPerStep: 10,
};

type Numbers = { readonly requests: number; readonly burst?: number; readonly now?: number };

/** One consumer of its own, with one sliding window of a minute. */
class Consumer {
  readonly #subject = `consumer-${(subjects += 1)}`;
  readonly #penalty: SelectedPenalty;
  readonly #numbers: Numbers;
  #seconds = 0;

  constructor(numbers: Numbers, penalty: Partial<CompiledPenalty> = {}, how: 'over usual' | 'only' = 'over usual') {
    this.#numbers = numbers;
    this.#penalty = {
      policy: 'test/policy',
      subject: this.#subject,
      text: `consumer=${this.#subject}`,
      penalty: how === 'only' ? { ...emptyPenalty, ...penalty } : { ...usualPenalty, ...penalty },
    };
  }

  get seconds(): number {
    return this.#seconds;
  }

  get penaltyKey(): string {
    return names.penalty('p', this.#subject);
  }

  wait(seconds: number): void {
    this.#seconds += seconds;
  }

  async ask(overrides: Partial<Numbers> & { isPeek?: boolean; cost?: number } = {}): Promise<TimedVerdict> {
    await setClock(server.redis, BigInt(Math.round(START + this.#seconds * SECOND)));
    const { requests, burst, now } = { ...this.#numbers, ...overrides };
    const full = burst ?? requests;
    const limit: SelectedLimit = {
      policy: 'test/policy',
      rule: 'rule',
      algorithm: 'SlidingWindow',
      subject: this.#subject,
      field: 'field',
      windowSeconds: 60,
      capacity: now ?? full,
      refill: now ?? requests,
      normalCapacity: full,
      normalRefill: requests,
      tier: undefined,
      mode: 'NORMAL',
      modeUntilMicros: undefined,
    };
    const { isPeek = false, cost = 1 } = overrides;
    const rule = aRule([limit], { penalty: 0, throttled: true, cost });
    return decider.decide({ partition: 'p', selection: { rules: [rule], penalties: [this.#penalty] }, isPeek });
  }

  /** Asks at a steady pace; returns when each state was first seen, in seconds from now, and what was admitted. */
  async pace(
    perSecond: number,
    forSeconds: number,
    overrides: Partial<Numbers> = {},
  ): Promise<{ seen: Map<PenaltyState, number>; admitted: number }> {
    const seen = new Map<PenaltyState, number>();
    const from = this.#seconds;
    let admitted = 0;
    for (let i = 0; i < perSecond * forSeconds; i += 1) {
      this.#seconds = from + i / perSecond;
      const verdict = await this.ask(overrides);
      if (verdict.code === 'admitted') admitted += 1;
      const state = stateOf(verdict);
      if (!seen.has(state)) seen.set(state, this.#seconds - from);
    }
    this.#seconds = from + forSeconds;
    return { seen, admitted };
  }
}

function stateOf(verdict: Verdict): PenaltyState {
  return verdict.penalties[0]?.after ?? 'NORMAL';
}

const states = ({ seen }: { seen: Map<PenaltyState, number> }): PenaltyState[] => [...seen.keys()];

describe('the innocent are not locked out', () => {
  it('a customer who bursts twice the limit and goes on at a normal pace stays NORMAL', async () => {
    const customer = new Consumer({ requests: 100, burst: 150 });
    const burst = await customer.pace(300, 1);
    expect(burst.admitted).toBe(150);
    expect(states(burst)).toEqual(['NORMAL']);
    expect(states(await customer.pace(1.5, 1_200))).toEqual(['NORMAL']);
  });

  it('a customer within the normal limit gets no penalty from 15 minutes of DEGRADED, or of shedding', async () => {
    for (const now of [2, 0]) {
      const customer = new Consumer({ requests: 10, burst: 20 });
      expect(states(await customer.pace(20 / 60, 900, { now }))).toEqual(['NORMAL']);
      expect(await server.redis.hexists(customer.penaltyKey, 's')).toBe(0);
    }
  });

  it('one and a half times the limit for two hours is limited, and not punished', async () => {
    const customer = new Consumer({ requests: 60 });
    const { seen, admitted } = await customer.pace(1.5, 7_200);
    expect([...seen.keys()]).toEqual(['NORMAL']);
    expect(admitted).toBeLessThanOrEqual(60 * 121);
    expect(admitted).toBeGreaterThan(60 * 100);
  });

  it('a cost that no window holds is a mistake, and not a violation', async () => {
    const customer = new Consumer({ requests: 10 }, { tolerancePercent: 0 });
    for (let i = 0; i < 40; i += 1) {
      const verdict = await customer.ask({ cost: 11 });
      expect([verdict.code, stateOf(verdict)]).toEqual(['denied', 'NORMAL']);
      customer.wait(2);
    }
  });
});

describe('a flooder', () => {
  it('climbs step by step to BLOCK, and not faster than one step in ten seconds', async () => {
    const flooder = new Consumer({ requests: 150 });
    const { seen } = await flooder.pace(10, 900);
    expect([...seen.keys()]).toEqual(['NORMAL', 'WARN', 'THROTTLE', 'TEMP_BLOCK', 'BLOCK']);
    const at = (state: PenaltyState): number => seen.get(state) ?? Number.NaN;
    // 150 pass in 15 s, the meter takes 150 more while it leaks, then every second is a violation.
    expect(at('WARN')).toBeGreaterThan(30);
    expect(at('WARN')).toBeLessThan(40);
    expect(at('THROTTLE') - at('WARN')).toBeGreaterThanOrEqual(10);
    expect(at('TEMP_BLOCK') - at('THROTTLE')).toBeGreaterThanOrEqual(10);
    expect(at('TEMP_BLOCK')).toBeLessThan(70);
    expect(at('BLOCK')).toBeLessThan(900);
  });

  it('with tolerance 0 has a violation in every denied second, and in no second two', async () => {
    const flooder = new Consumer({ requests: 1 }, { tolerancePercent: 0, minSecondsPerStep: 0 });
    await flooder.ask();
    const counts: number[] = [];
    for (let i = 0; i < 12; i += 1) {
      flooder.wait(0.5);
      counts.push((await flooder.ask()).penalties[0]?.violations ?? -1);
    }
    expect(counts).toEqual([1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6]);
  });
});

describe('the states', () => {
  /** Uses up the window and is denied until the state is reached. */
  async function driveTo(state: PenaltyState, penalty: Partial<CompiledPenalty> = quickPenalty): Promise<Consumer> {
    const consumer = new Consumer({ requests: 4 }, penalty);
    for (let i = 0; i < 200; i += 1) {
      const verdict = await consumer.ask();
      if (stateOf(verdict) === state) return consumer;
      consumer.wait(verdict.code === 'admitted' ? 0.001 : 1);
    }
    throw new Error(`never reached ${state}`);
  }

  const after = async (consumer: Consumer, seconds: number): Promise<PenaltyState> => {
    consumer.wait(seconds);
    return stateOf(await consumer.ask({ isPeek: true }));
  };

  it('last exactly as long as they are set to, and fall one at a time [P42]', async () => {
    const consumer = await driveTo('TEMP_BLOCK');
    expect(await after(consumer, 29.999999)).toBe('TEMP_BLOCK');
    expect(await after(consumer, 0.000001)).toBe('THROTTLE');
    expect(await after(consumer, 49.999999)).toBe('THROTTLE');
    expect(await after(consumer, 0.000001)).toBe('WARN');
    expect(await after(consumer, 99.999999)).toBe('WARN');
    expect(await after(consumer, 0.000001)).toBe('NORMAL');
  });

  it('are the same after any idle time as if they had been looked at all along [P41]', async () => {
    const idle = await driveTo('TEMP_BLOCK');
    expect(await after(idle, 30 + 50 + 99)).toBe('WARN');
    const longer = await driveTo('TEMP_BLOCK');
    expect(await after(longer, 10_000)).toBe('NORMAL');
  });

  it('skip what the policy leaves out', async () => {
    const { warn: _warn, throttle: _throttle, ...rest } = { ...usualPenalty, ...quickPenalty };
    const bare = new Consumer({ requests: 1 }, rest, 'only');
    await bare.ask();
    const seen = [];
    for (let i = 0; i < 3; i += 1) {
      bare.wait(1);
      seen.push(stateOf(await bare.ask()));
    }
    expect(seen).toEqual(['NORMAL', 'NORMAL', 'TEMP_BLOCK']);
    expect(await after(bare, 30)).toBe('NORMAL');
  });

  it('a temporary block of the last number becomes BLOCK at once, and ends in NORMAL with its history forgotten', async () => {
    const consumer = await driveTo('TEMP_BLOCK');
    consumer.wait(30);
    let state: PenaltyState = 'THROTTLE';
    while (state !== 'BLOCK') {
      const verdict = await consumer.ask();
      state = stateOf(verdict);
      expect(state).not.toBe('TEMP_BLOCK');
      if (state !== 'BLOCK') consumer.wait(verdict.code === 'admitted' ? 0.001 : 1);
    }
    expect(await after(consumer, 499.999999)).toBe('BLOCK');
    expect(await after(consumer, 0.000001)).toBe('NORMAL');
  });

  it('a block that is not to end has no end and no time to live', async () => {
    const forever = { ...quickPenalty, block: { tempBlocks: 1, withinSeconds: 1_000, forSeconds: 0 } };
    const consumer = await driveTo('BLOCK', forever);
    const verdict = await consumer.ask();
    expect([verdict.code, verdict.retryAfterMicros]).toEqual(['blocked', -1]);
    expect(await after(consumer, 10 ** 8)).toBe('BLOCK');
    expect(await server.redis.ttl(consumer.penaltyKey)).toBe(-1);
  });

  it('a blocked client extends nothing by trying again [P42]', async () => {
    const consumer = await driveTo('TEMP_BLOCK');
    const before = await server.redis.hgetall(consumer.penaltyKey);
    for (let i = 0; i < 29; i += 1) {
      consumer.wait(1);
      const verdict = await consumer.ask();
      expect(verdict.code).toBe('blocked');
      expect(verdict.retryAfterMicros).toBeGreaterThanOrEqual((29 - i) * SECOND);
    }
    expect(await server.redis.hgetall(consumer.penaltyKey)).toEqual(before);
    expect(await after(consumer, 1)).toBe('THROTTLE');
  });

  it('in THROTTLE half the limit is left, and the answer says that the penalty is why', async () => {
    const consumer = await driveTo('THROTTLE', {
      ...quickPenalty,
      throttle: { violations: 2, forSeconds: 200, limitPercent: 50 },
    });
    consumer.wait(100);
    const answers = [await consumer.ask(), await consumer.ask(), await consumer.ask()];
    expect(answers.map(({ code, byThrottle, penalties }) => [code, byThrottle, penalties[0]?.before])).toEqual([
      ['admitted', false, 'THROTTLE'],
      ['admitted', false, 'THROTTLE'],
      ['denied', true, 'THROTTLE'],
    ]);
  });

  it('run and are reported, and change no answer, in shadow', async () => {
    const shadow = { ...quickPenalty, enforced: false };
    const consumer = await driveTo('TEMP_BLOCK', shadow);
    consumer.wait(1);
    expect((await consumer.ask()).code).toBe('denied');
    expect(await after(consumer, 28)).toBe('TEMP_BLOCK');
  });

  it('last until they are pardoned in shadow too, however often the subject is denied', async () => {
    const untilPardoned = {
      tempBlock: { violations: 1, forSeconds: 10 },
      block: { tempBlocks: 1, withinSeconds: 60, forSeconds: 0 },
    };
    const consumer = new Consumer(
      { requests: 1 },
      { ...untilPardoned, enforced: false, tolerancePercent: 100, minSecondsPerStep: 0 },
      'only',
    );
    for (let i = 0; i < 5; i += 1) expect((await consumer.ask()).code).toBe(i === 0 ? 'admitted' : 'denied');
    consumer.wait(3_600);
    for (let i = 0; i < 3; i += 1) await consumer.ask();
    expect(stateOf(await consumer.ask({ isPeek: true }))).toBe('BLOCK');
    expect(await server.redis.pttl(consumer.penaltyKey)).toBe(-1);
  });

  it('a peek changes nothing', async () => {
    const consumer = new Consumer({ requests: 1 }, quickPenalty);
    await consumer.ask();
    for (let i = 0; i < 5; i += 1) {
      consumer.wait(1);
      expect((await consumer.ask({ isPeek: true })).code).toBe('denied');
    }
    expect(await server.redis.exists(consumer.penaltyKey)).toBe(0);
  });
});

describe('retry_after of who is punished', () => {
  it.each<PenaltyState>(['WARN', 'THROTTLE', 'TEMP_BLOCK', 'BLOCK'])(
    'is exact in %s: denied a microsecond before, admitted at it',
    async (state) => {
      const penalty: Partial<CompiledPenalty> = {
        tolerancePercent: 0,
        minSecondsPerStep: 0,
        warn: { violations: 1, forSeconds: 20 },
        throttle: { violations: 2, forSeconds: 25, limitPercent: 50 },
        tempBlock: { violations: 3, forSeconds: 15 },
        block: { tempBlocks: 2, withinSeconds: 1_000, forSeconds: 40 },
      };
      const consumer = new Consumer({ requests: 4 }, penalty);
      let verdict = await consumer.ask();
      for (let i = 0; stateOf(verdict) !== state || verdict.code === 'admitted'; i += 1) {
        expect(i).toBeLessThan(500);
        consumer.wait(
          verdict.code === 'admitted' ? 0.001 : verdict.code === 'blocked' ? verdict.retryAfterMicros / SECOND : 1,
        );
        verdict = await consumer.ask();
      }
      const wait = verdict.retryAfterMicros;
      expect(wait).toBeGreaterThan(0);
      consumer.wait((wait - 1) / SECOND);
      expect((await consumer.ask({ isPeek: true })).code).not.toBe('admitted');
      consumer.wait(1 / SECOND);
      expect((await consumer.ask({ isPeek: true })).code).toBe('admitted');
    },
  );
});

it('counts a violation also behind a request of the same call that noticed that the clock stepped back', async () => {
  subjects += 1;
  const limit = aWindow({ subject: `moved-${subjects}`, capacity: 2 });
  const penalty = { ...usualPenalty, tolerancePercent: 0, warn: { violations: 1, forSeconds: 600 } };
  const request = {
    partition: 'p',
    selection: {
      rules: [aRule([limit], { penalty: 0 })],
      penalties: [{ policy: 'test/policy', subject: limit.subject, text: 'consumer=moved', penalty }],
    },
  };
  await setClock(server.redis, BigInt(START + 60 * SECOND));
  await decider.decide(request);
  await setClock(server.redis, BigInt(START));
  const verdicts = await Promise.all([decider.decide(request), decider.decide(request)]);
  expect(verdicts.map(({ code }) => code)).toEqual(['admitted', 'denied']);
  expect(verdicts.map(({ penalties }) => penalties[0]?.after)).toEqual(['NORMAL', 'WARN']);
});
