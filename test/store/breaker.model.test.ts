import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { BreakerState } from '../../store/breaker.ts';
import { aBreaker, type BreakingPod, settled, virtualTime } from './breaking-pod.ts';

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

async function take(pod: BreakingPod, step: Step): Promise<void> {
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
