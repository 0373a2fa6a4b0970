// Longer than a test run may take: steps of a real clock, then load on many subjects while memory and keys are watched.
// Exits with 1 at the first thing that is not as it should be. SOAK_SECONDS: how long the load lasts (600).
import assert from 'node:assert/strict';
import type { Redis } from 'ioredis';
import { RedisClock } from '../../store/clock.ts';
import { Decider } from '../../store/decide.ts';
import { createNames, type Names } from '../../store/names.ts';
import { chargeOf, refund, rememberCharge } from '../../store/refund.ts';
import { aLimit } from '../harness/limits.ts';
import { aPenalty } from '../harness/penalties.ts';
import { aRule } from '../harness/plain.ts';
import { privateRedis } from '../harness/redis.ts';
import { checkClockSteps } from './clock-steps.ts';

const SECONDS = Number(process.env['SOAK_SECONDS'] ?? 600);
const SUBJECTS = 20_000;
const ALGORITHMS = ['TokenBucket', 'SlidingWindow', 'SlidingWindowLog'] as const;
const MEBIBYTE = 1024 * 1024;

const pick = (below: number): number => Math.floor(Math.random() * below);

/** One request of one of many subjects: short limits, so that keys come and go, and a quick penalty. */
async function ask(decider: Decider, redis: Redis, names: Names): Promise<void> {
  const subject = `s${pick(SUBJECTS)}`;
  const limits = ALGORITHMS.map((algorithm) =>
    aLimit({ algorithm, subject: `${subject}-${algorithm}`, capacity: 3, windowSeconds: 1 + pick(3) }),
  );
  const rules = [aRule(limits, { penalty: 0, throttled: true, cost: 1 + pick(2) })];
  const penalties = [aPenalty(subject, { violationWindowSeconds: 5, warn: { violations: 1, forSeconds: 3 } })];
  const request = { partition: `p${pick(50)}`, selection: { rules, penalties } };
  const verdict = await decider.decide(request);
  if (verdict.code !== 'admitted' || pick(10) > 0) return;
  const id = `request ${Math.random()}`;
  await rememberCharge(redis, names, id, chargeOf(request, verdict));
  await refund(redis, names, id);
}

async function keysWithoutExpiry(redis: Redis): Promise<string[]> {
  const found: string[] = [];
  for await (const keys of redis.scanStream({ count: 1_000 })) {
    const names: string[] = keys;
    const times = await Promise.all(names.map((key) => redis.pttl(key)));
    found.push(...names.filter((_, i) => times[i] === -1));
  }
  return found;
}

async function soak(): Promise<void> {
  const server = await privateRedis();
  const names = createNames('soak');
  const decider = new Decider(server.redis, names, new RedisClock(), { deadlineMillis: 60_000 });
  const began = performance.now();
  const samples: { readonly rss: number; readonly redis: number; readonly keys: number }[] = [];
  let decisions = 0;
  const interval = (SECONDS * 1_000) / 10;
  const worker = async (): Promise<void> => {
    while (performance.now() - began < SECONDS * 1_000) {
      await ask(decider, server.redis, names);
      decisions += 1;
    }
  };
  const watch = async (): Promise<void> => {
    for (let i = 1; i <= 10; i += 1) {
      await new Promise((resolve) => setTimeout(resolve, began + i * interval - performance.now()));
      const used = /^used_memory:(\d+)/m.exec(await server.redis.info('memory'))?.[1];
      const sample = { rss: process.memoryUsage.rss(), redis: Number(used), keys: await server.redis.dbsize() };
      samples.push(sample);
      assert.deepEqual(await keysWithoutExpiry(server.redis), []);
      console.log(
        `${decisions} decisions, ${sample.keys} keys, Redis ${Math.round(sample.redis / MEBIBYTE)} MiB, pod ${Math.round(sample.rss / MEBIBYTE)} MiB`,
      );
    }
  };
  await Promise.all([watch(), ...Array.from({ length: 50 }, worker)]);
  // Both have all subjects by the middle of the run: from there on nothing may grow by a third.
  const [middle, end] = [samples[4], samples[9]];
  assert.ok(middle !== undefined && end !== undefined);
  for (const what of ['rss', 'redis', 'keys'] as const) {
    assert.ok(end[what] < middle[what] * 1.33, `${what} grew from ${middle[what]} to ${end[what]}`);
  }
  await server.stop();
}

if (!(await checkClockSteps())) console.log('steps of a real clock: left out, there is no C compiler here');
await soak();
console.log('soaked');
process.exit(0);
