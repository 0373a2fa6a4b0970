import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Breaker, type BreakerState } from '../../store/breaker.ts';

type Timer = { readonly atMillis: number; readonly run: () => void };

/** Time that passes when the test says so; what is due runs in order, and promises settle in between. */
function virtualTime() {
  let now = 0;
  const timers = new Set<Timer>();
  const nextDue = (until: number): Timer | undefined =>
    [...timers].filter(({ atMillis }) => atMillis <= until).toSorted((a, b) => a.atMillis - b.atMillis)[0];
  return {
    now: (): number => now,
    schedule: (run: () => void, millis: number): (() => void) => {
      const timer = { atMillis: now + millis, run };
      timers.add(timer);
      return () => void timers.delete(timer);
    },
    async pass(millis: number): Promise<void> {
      await settled();
      const end = now + millis;
      for (let due = nextDue(end); due !== undefined; due = nextDue(end)) {
        timers.delete(due);
        now = due.atMillis;
        due.run();
        await settled();
      }
      now = end;
    },
  };
}

/** Longer than a probe takes, which is one turn of the event loop. */
const settled = async (): Promise<void> => {
  await new Promise(setImmediate);
  await new Promise(setImmediate);
};

type Time = ReturnType<typeof virtualTime>;

/** A breaker before a Redis that is alive or not. */
function aBreaker({ time = virtualTime(), random = () => 0.5 }: { time?: Time; random?: () => number } = {}) {
  const redis = { isAlive: false };
  const transitions: { readonly to: BreakerState; readonly atMillis: number }[] = [];
  const probes: number[] = [];
  let underWay = 0;
  let mostUnderWay = 0;
  const breaker = new Breaker({
    monotonicMillis: time.now,
    random,
    schedule: time.schedule,
    onTransition: (to) => void transitions.push({ to, atMillis: time.now() }),
    probe: async () => {
      probes.push(time.now());
      underWay += 1;
      mostUnderWay = Math.max(mostUnderWay, underWay);
      await new Promise(setImmediate);
      underWay -= 1;
      if (!redis.isAlive) throw new Error('no answer');
    },
  });
  return {
    breaker,
    time,
    redis,
    transitions,
    probes,
    mostUnderWay: () => mostUnderWay,
    pass: (millis: number): Promise<void> => time.pass(millis),
    loseConnection: (times: number): void => {
      for (let i = 0; i < times; i += 1) breaker.failed('UNAVAILABLE', time.now() + i * 1e-6, 1);
    },
    timeOut: (decisions: number): void => breaker.failed('TIMEOUT', time.now(), decisions),
    answer: (decisions: number): void => breaker.succeeded(time.now(), decisions),
  };
}

describe('a breaker', () => {
  it('opens when half of at least 20 decisions in a second failed, not before', () => {
    const few = aBreaker();
    few.timeOut(19);
    expect(few.breaker.state).toBe('CLOSED');
    few.timeOut(1);
    expect(few.breaker.state).toBe('OPEN');
    const mixed = aBreaker();
    mixed.answer(50);
    mixed.timeOut(49);
    expect(mixed.breaker.state).toBe('CLOSED');
    mixed.timeOut(1);
    expect(mixed.breaker.state).toBe('OPEN');
  });

  it('forgets what is older than a second', async () => {
    const pod = aBreaker();
    pod.timeOut(19);
    await pod.pass(1_000);
    pod.timeOut(19);
    expect(pod.breaker.state).toBe('CLOSED');
    await pod.pass(900);
    pod.timeOut(1);
    expect(pod.breaker.state).toBe('OPEN');
  });

  it.each<[string, (pod: ReturnType<typeof aBreaker>) => void]>([
    ['an answer', (pod) => pod.answer(1)],
    ['a refusal', (pod) => pod.breaker.failed('REFUSED', pod.time.now(), 1)],
  ])('opens after five losses of the connection in a row; %s in between begins anew', async (_title, hear) => {
    const pod = aBreaker();
    for (let i = 0; i < 4; i += 1) {
      pod.loseConnection(1);
      await pod.pass(1_000);
    }
    hear(pod);
    for (let i = 0; i < 4; i += 1) {
      await pod.pass(1_000);
      pod.loseConnection(1);
    }
    expect(pod.breaker.state).toBe('CLOSED');
    await pod.pass(1_000);
    pod.loseConnection(1);
    expect(pod.breaker.state).toBe('OPEN');
  });

  it('takes all calls that were under way when the connection broke for one loss', async () => {
    const pod = aBreaker();
    const sentAt = pod.time.now();
    await pod.pass(3);
    for (let i = 0; i < 9; i += 1) pod.breaker.failed('UNAVAILABLE', sentAt, 1);
    // Also one that was sent at the very moment of the loss.
    for (let i = 0; i < 9; i += 1) pod.breaker.failed('UNAVAILABLE', pod.time.now(), 1);
    expect(pod.breaker.state).toBe('CLOSED');
  });

  it('counts losses of the connection anew once it has closed', async () => {
    const pod = aBreaker();
    pod.loseConnection(5);
    pod.redis.isAlive = true;
    await pod.pass(400);
    expect(pod.breaker.state).toBe('CLOSED');
    for (let i = 0; i < 4; i += 1) {
      await pod.pass(1_000);
      pod.loseConnection(1);
    }
    expect(pod.breaker.state).toBe('CLOSED');
    await pod.pass(1_000);
    pod.loseConnection(1);
    expect(pod.breaker.state).toBe('OPEN');
  });

  it('does not open for what Redis refuses, nor for broken keys and replies: these are answers', () => {
    const pod = aBreaker();
    for (const code of ['REFUSED', 'WRONG_TYPE', 'BAD_REPLY', 'OVERLOADED'] as const) {
      pod.breaker.failed(code, pod.time.now(), 1_000);
    }
    expect(pod.breaker.state).toBe('CLOSED');
    pod.timeOut(20);
    expect(pod.breaker.state).toBe('CLOSED');
  });

  it('probes once at a time and at most every 50 ms, and closes after three answers', async () => {
    const pod = aBreaker();
    pod.timeOut(20);
    pod.redis.isAlive = true;
    await pod.pass(249);
    expect(pod.probes).toEqual([]);
    await pod.pass(1);
    expect(pod.breaker.state).toBe('HALF_OPEN');
    await pod.pass(99);
    expect(pod.breaker.state).toBe('HALF_OPEN');
    await pod.pass(1);
    expect(pod.breaker.state).toBe('CLOSED');
    expect(pod.probes).toEqual([250, 300, 350]);
    expect(pod.mostUnderWay()).toBe(1);
    expect(pod.transitions.map(({ to }) => to)).toEqual(['OPEN', 'HALF_OPEN', 'CLOSED']);
  });

  it('stays open twice as long after each failed probe, up to 5 s', async () => {
    const pod = aBreaker();
    pod.timeOut(20);
    await pod.pass(30_000);
    const openings = pod.transitions.filter(({ to }) => to === 'OPEN').map(({ atMillis }) => atMillis);
    expect(openings.slice(1).map((at, i) => at - (openings[i] ?? 0))).toEqual([
      250, 500, 1_000, 2_000, 4_000, 5_000, 5_000, 5_000, 5_000,
    ]);
  });

  it('goes on with the longer opening while the store flaps, and begins anew after five steady seconds', async () => {
    const pod = aBreaker();
    pod.redis.isAlive = true;
    const openMillis: number[] = [];
    for (const closedMillis of [0, 0, 4_900, 5_000]) {
      await pod.pass(closedMillis);
      pod.timeOut(20);
      const openedAt = pod.time.now();
      while (pod.breaker.state !== 'CLOSED') await pod.pass(10);
      openMillis.push((pod.probes.at(-3) ?? 0) - openedAt);
    }
    expect(openMillis).toEqual([250, 500, 1_000, 250]);
  });

  it('asks at once when the connection is there again', async () => {
    const pod = aBreaker();
    pod.loseConnection(5);
    pod.redis.isAlive = true;
    await pod.pass(10);
    pod.breaker.wake();
    await pod.pass(100);
    expect(pod.breaker.state).toBe('CLOSED');
    expect(pod.probes[0]).toBe(10);
  });

  it('does not hear a call that was sent before it closed', async () => {
    const pod = aBreaker();
    const sentAt = pod.time.now();
    pod.timeOut(20);
    pod.redis.isAlive = true;
    await pod.pass(400);
    expect(pod.breaker.state).toBe('CLOSED');
    pod.breaker.failed('TIMEOUT', sentAt, 100);
    expect(pod.breaker.state).toBe('CLOSED');
    expect(pod.breaker.isFailing).toBe(false);
  });

  it('says that decisions fail while it is not closed, and while most of them are refused', async () => {
    const pod = aBreaker();
    expect(pod.breaker.isFailing).toBe(false);
    pod.answer(9);
    pod.breaker.failed('REFUSED', pod.time.now(), 8);
    expect(pod.breaker.isFailing).toBe(false);
    pod.breaker.failed('REFUSED', pod.time.now(), 1);
    expect(pod.breaker.isFailing).toBe(true);
    await pod.pass(1_000);
    expect(pod.breaker.isFailing).toBe(false);
    pod.timeOut(20);
    await pod.pass(2_000);
    expect(pod.breaker.isFailing).toBe(true);
  });

  it('does nothing any more when it is stopped', async () => {
    const pod = aBreaker();
    pod.timeOut(20);
    pod.breaker.stop();
    await pod.pass(60_000);
    expect(pod.probes).toEqual([]);
    const asking = aBreaker();
    asking.timeOut(20);
    asking.breaker.wake();
    asking.breaker.stop();
    await asking.pass(60_000);
    expect(asking.probes).toEqual([0]);
  });
});

/** Random numbers that are the same in every run. */
function seeded(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
}

describe('fifty breakers that lose one Redis together [P34]', () => {
  it('do not come back as a herd: their probes spread, more with each round, and all close within the bound', async () => {
    const time = virtualTime();
    const random = seeded(7);
    const pods = Array.from({ length: 50 }, () => aBreaker({ time, random }));
    for (const pod of pods) pod.timeOut(20);
    await time.pass(60_000);
    const probes = pods.flatMap((pod) => pod.probes);
    expect(mostWithin(probes, 20)).toBeLessThanOrEqual(20);
    // Once they wait for five seconds each, no more than one in ten asks within any 100 ms.
    expect(
      mostWithin(
        probes.filter((at) => at > 20_000),
        100,
      ),
    ).toBeLessThanOrEqual(5 + 3);
    for (const pod of pods) pod.redis.isAlive = true;
    await time.pass(6_000 + 100);
    expect(pods.map(({ breaker }) => breaker.state)).toEqual(pods.map(() => 'CLOSED'));
    for (const pod of pods) expect(pod.mostUnderWay()).toBe(1);
  });
});

/** The most events in any interval of that length. */
function mostWithin(events: readonly number[], millis: number): number {
  return Math.max(...events.map((from) => events.filter((at) => at >= from && at < from + millis).length));
}

type Step =
  | { readonly kind: 'pass'; readonly millis: number }
  | { readonly kind: 'answer' | 'refuse' | 'timeOut'; readonly decisions: number }
  | { readonly kind: 'loseConnection' | 'die' | 'live' | 'wake' };

const steps = fc.array(
  fc.oneof(
    fc.record({ kind: fc.constant('pass' as const), millis: fc.integer({ min: 1, max: 3_000 }) }),
    fc.record({
      kind: fc.constantFrom('answer' as const, 'refuse' as const, 'timeOut' as const),
      decisions: fc.integer({ min: 1, max: 30 }),
    }),
    fc.record({ kind: fc.constantFrom('loseConnection' as const, 'die' as const, 'live' as const, 'wake' as const) }),
  ),
  { maxLength: 60 },
);

/** When a breaker that is closed should open: from a plain list of what happened since it closed. */
class Model {
  readonly #events: { readonly atMillis: number; readonly isFailure: boolean }[] = [];
  #losses = 0;

  opensAfter(step: Step, nowMillis: number): boolean {
    if (step.kind === 'answer' || step.kind === 'refuse') this.#losses = 0;
    if (step.kind === 'loseConnection') this.#losses += 1;
    const isFailure = step.kind === 'timeOut' || step.kind === 'loseConnection';
    const decisions = 'decisions' in step ? step.decisions : Number(isFailure);
    for (let i = 0; i < decisions; i += 1) this.#events.push({ atMillis: nowMillis, isFailure });
    const tenth = (millis: number): number => Math.floor(millis / 100);
    const recent = this.#events.filter(({ atMillis }) => tenth(nowMillis) - tenth(atMillis) < 10);
    const failed = recent.filter((event) => event.isFailure).length;
    return isFailure && (this.#losses >= 5 || (recent.length >= 20 && failed >= recent.length / 2));
  }

  forget(): void {
    this.#events.length = 0;
    this.#losses = 0;
  }
}

const ALLOWED = ['CLOSED OPEN', 'OPEN HALF_OPEN', 'HALF_OPEN OPEN', 'HALF_OPEN CLOSED'];

describe('whatever happens', () => {
  it('the breaker opens exactly when the model does, moves only along its three edges and never probes too often', async () => {
    await fc.assert(
      fc.asyncProperty(steps, async (sequence) => {
        const pod = aBreaker();
        const model = new Model();
        for (const step of sequence) {
          const before = pod.breaker.state;
          await take(pod, step);
          const opens = before === 'CLOSED' && model.opensAfter(step, pod.time.now());
          expect(before === 'CLOSED' && pod.breaker.state === 'OPEN').toBe(opens);
          if (before !== 'CLOSED') model.forget();
        }
        const states: BreakerState[] = ['CLOSED', ...pod.transitions.map(({ to }) => to)];
        states.slice(1).forEach((to, i) => expect(ALLOWED).toContain(`${states[i]} ${to}`));
        // Only a connection that is there again is asked sooner.
        const wakes = sequence.filter(({ kind }) => kind === 'wake').length;
        const gaps = pod.probes.slice(1).map((at, i) => at - (pod.probes[i] ?? 0));
        expect(gaps.filter((gap) => gap < 50).length).toBeLessThanOrEqual(wakes);
        expect(pod.mostUnderWay()).toBeLessThanOrEqual(1);
        // However it got here: once Redis lives, it closes within the longest opening and three probes.
        pod.redis.isAlive = true;
        await pod.pass(6_000 + 100);
        expect(pod.breaker.state).toBe('CLOSED');
      }),
      { numRuns: 1000 },
    );
  });
});

async function take(pod: ReturnType<typeof aBreaker>, step: Step): Promise<void> {
  switch (step.kind) {
    case 'pass':
      return pod.pass(step.millis);
    case 'answer':
      return pod.answer(step.decisions);
    case 'refuse':
      return pod.breaker.failed('REFUSED', pod.time.now(), step.decisions);
    case 'timeOut':
      return pod.timeOut(step.decisions);
    case 'loseConnection':
      // A later call than the one before.
      await pod.pass(1);
      return pod.loseConnection(1);
    case 'die':
    case 'live':
      pod.redis.isAlive = step.kind === 'live';
      return;
    case 'wake':
      pod.breaker.wake();
      return settled();
  }
}
