// How tests let time pass for a breaker, and calls of Redis succeed or fail.
import { Breaker, type BreakerState } from '../../store/breaker.ts';

type Timer = { readonly atMillis: number; readonly run: () => void };

/** Time that passes when the test says so; what is due runs in order, and promises settle in between. */
export function virtualTime() {
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
export const settled = async (): Promise<void> => {
  await new Promise(setImmediate);
  await new Promise(setImmediate);
};

type Time = ReturnType<typeof virtualTime>;

/** A breaker before a Redis that is alive or not. */
export function aBreaker({ time = virtualTime(), random = () => 0.5 }: { time?: Time; random?: () => number } = {}) {
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

export type BreakingPod = ReturnType<typeof aBreaker>;
