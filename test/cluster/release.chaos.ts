// Faults at random under constant load, for CHAOS_SECONDS. The seed is printed; CHAOS_SEED repeats the order of the faults.
import { setTimeout as pause } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { eventually } from '../harness/eventually.ts';
import { aPolicy, ask, inDomain, loadDuring, prepare } from './caller.ts';
import { apply, cleanUp, deploy, IMAGE, kill, podsOf, untilPods, untilReady, valuesWith } from './cluster.ts';

const SEED = Number(process.env['CHAOS_SEED'] ?? Math.floor(Math.random() * 2 ** 31));
const SECONDS = Number(process.env['CHAOS_SECONDS'] ?? 600);
const LIMIT = 100;
/** The limiters that there are before anything is killed. */
const FIRST_PODS = 2;

/** Numbers from 0 to 1, the same for the same seed (mulberry32). */
function randomFrom(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

const random = randomFrom(SEED);
const seenLimiters = new Set<string>();
let redisKills = 0;
let edits = 0;

async function killOne(component: string): Promise<void> {
  const pods = await podsOf(component);
  const victim = pods[Math.floor(random() * pods.length)];
  if (victim !== undefined) await kill(victim.name);
}

const FAULTS: Readonly<Record<string, () => Promise<unknown>>> = {
  'a limiter is killed': () => killOne('limiter'),
  'an operator is killed': () => killOne('operator'),
  'all operators are killed': async () => {
    for (const { name } of await podsOf('operator')) await kill(name);
  },
  'Redis is killed': () => {
    redisKills += 1;
    return killOne('redis');
  },
  'a policy is edited': () => apply(aPolicy('edited', 1_000_000 + (edits += 1))),
};

async function noteLimiters(): Promise<void> {
  for (const { uid } of await podsOf('limiter')) seenLimiters.add(uid);
}

/** Injects one fault after another until the time is over; how often each. */
async function manyFaults(injected: Map<string, number>): Promise<void> {
  const names = Object.keys(FAULTS);
  const end = performance.now() + SECONDS * 1_000;
  while (performance.now() < end) {
    const name = names[Math.floor(random() * names.length)] ?? '';
    console.log(`${Math.ceil((end - performance.now()) / 1_000)} s to go: ${name}`);
    await FAULTS[name]?.();
    injected.set(name, (injected.get(name) ?? 0) + 1);
    await pause(1_000 + random() * 7_000);
    await noteLimiters();
  }
}

beforeAll(prepare);
afterAll(cleanUp);

describe(`faults at random, seed ${SEED}`, () => {
  it('lead to no answer that was not declared, to no more than the bound, and to a whole that heals by itself', async () => {
    await deploy(valuesWith(IMAGE));
    await apply(aPolicy('bounded', LIMIT), aPolicy('edited', 1_000_000));
    for (const name of ['bounded', 'edited']) await untilReady('ratelimitpolicy', name);
    await noteLimiters();
    expect(seenLimiters.size).toBe(FIRST_PODS);
    const faults = new Map<string, number>();
    const pace = { workers: 8, pauseMillis: 40 };
    const { counts } = await loadDuring(inDomain('bounded', 'gina'), pace, () => manyFaults(faults));
    await noteLimiters();

    // A pod that is killed resets its connections; nothing else may fail.
    const declared = ['WITHIN_LIMIT', 'RATE_LIMIT_EXCEEDED', 'LOCAL_FALLBACK', 'LOCAL_FALLBACK_EXCEEDED'];
    const ofKilledPods = ['ECONNRESET', 'ECONNREFUSED', 'EHOSTUNREACH', 'ETIMEDOUT', 'TIMEOUT'];
    const unexpected = Object.keys(counts).filter((outcome) => ![...declared, ...ofKilledPods].includes(outcome));
    expect(unexpected).toEqual([]);
    const { WITHIN_LIMIT: counted = 0, LOCAL_FALLBACK: local = 0 } = counts;
    // The limit, and once more for each time that Redis lost its counters.
    const countedBound = LIMIT * (redisKills + 1);
    // docs/failure-modes.md, "What pods admit without Redis": limit + P in a window, and a share for each pod when it begins.
    // Those of the first pods are limit + P together; a later one's is all of the limit at worst, if Redis was lost when
    // that pod had counted only itself.
    const localBound = 2 * (LIMIT + FIRST_PODS) + LIMIT * (seenLimiters.size - FIRST_PODS);
    const injected = Object.fromEntries(faults);
    const bounds = { countedBound, localBound };
    console.log(JSON.stringify({ seed: SEED, injected, limiters: seenLimiters.size, counts, ...bounds }));
    expect(counted).toBeLessThanOrEqual(countedBound);
    expect(counted).toBeGreaterThanOrEqual(LIMIT);
    expect(local).toBeLessThanOrEqual(localBound);

    await untilPods('redis', 1);
    await untilPods('operator', 2);
    await eventually(async () => expect((await podsOf('limiter')).every(({ isReady }) => isReady)).toBe(true), 90_000);
    await apply(aPolicy('afterwards', 3));
    for (const name of ['bounded', 'edited', 'afterwards']) {
      const { pods } = await untilReady('ratelimitpolicy', name);
      expect(pods?.acknowledged).toBe(pods?.ready);
    }
    const answers = await ask(inDomain('afterwards', 'henry'), 4);
    expect(answers.map(({ action }) => action)).toEqual(['ALLOW', 'ALLOW', 'ALLOW', 'THROTTLE']);
  });
});
