// Faults at random under constant load. The seed is printed; CHAOS_SEED repeats it, CHAOS_ROUNDS says how many faults.
import { setTimeout as pause } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { eventually } from '../harness/eventually.ts';
import {
  aPolicy,
  apply,
  ask,
  cleanUp,
  deploy,
  IMAGE,
  inDomain,
  kill,
  loadDuring,
  podsOf,
  prepare,
  untilPods,
  untilReady,
  valuesWith,
} from './cluster.ts';

const SEED = Number(process.env['CHAOS_SEED'] ?? Math.floor(Math.random() * 2 ** 31));
const ROUNDS = Number(process.env['CHAOS_ROUNDS'] ?? 10);
const LIMIT = 100;

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

async function manyFaults(): Promise<void> {
  for (let round = 1; round <= ROUNDS; round += 1) {
    const names = Object.keys(FAULTS);
    const name = names[Math.floor(random() * names.length)] ?? '';
    console.log(`${round}/${ROUNDS} ${name}`);
    await FAULTS[name]?.();
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
    const { counts } = await loadDuring(inDomain('bounded', 'gina'), { workers: 8, pauseMillis: 40 }, manyFaults);
    await noteLimiters();
    console.log(JSON.stringify({ seed: SEED, redisKills, edits, limiters: seenLimiters.size, counts }));

    // A pod that is killed resets its connections; nothing else may fail.
    const declared = ['WITHIN_LIMIT', 'RATE_LIMIT_EXCEEDED', 'LOCAL_FALLBACK', 'LOCAL_FALLBACK_EXCEEDED'];
    const ofKilledPods = ['ECONNRESET', 'ECONNREFUSED', 'EHOSTUNREACH', 'ETIMEDOUT', 'TIMEOUT'];
    const unexpected = Object.keys(counts).filter((outcome) => ![...declared, ...ofKilledPods].includes(outcome));
    expect(unexpected).toEqual([]);
    // docs/bounds.md: the limit; once more for each time that Redis lost its counters; once more without Redis, and one
    // for each pod that started.
    const admitted = (counts['WITHIN_LIMIT'] ?? 0) + (counts['LOCAL_FALLBACK'] ?? 0);
    expect(admitted).toBeLessThanOrEqual(LIMIT * (redisKills + 2) + seenLimiters.size);
    expect(admitted).toBeGreaterThanOrEqual(LIMIT);

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
