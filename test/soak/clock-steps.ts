// Steps the clock of a real Redis under load, and checks the published bounds by the time that really passes. Part of
// `make soak`.
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { mkdtemp, open, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { Redis } from 'ioredis';
import { findRedisServer } from '../../cli/dev/find-redis.ts';
import type { SelectedLimit } from '../../policy/selection.ts';
import { RedisClock } from '../../store/clock.ts';
import { Decider } from '../../store/decide.ts';
import { createNames } from '../../store/names.ts';
import { eventually } from '../harness/eventually.ts';
import { aLimit } from '../harness/limits.ts';
import { decidePlain } from '../harness/plain.ts';
import { redisMicros } from '../harness/redis-time.ts';
import { freePort } from '../harness/redis.ts';

const WINDOW_SECONDS = 4;
const LIMIT = 20;
const STEPS_SECONDS = [0.001, 1, 3_600, 86_400].flatMap((seconds) => [-seconds, seconds]);

type Stepped = { readonly redis: Redis; step(bySeconds: number): Promise<void>; stop(): Promise<void> };

/** Compiles what shifts the clock; undefined if this machine has no compiler. */
function compileClock(folder: string): string | undefined {
  const library = join(folder, 'stepped-clock.so');
  const source = join(import.meta.dirname, 'stepped-clock.c');
  const { status } = spawnSync('cc', ['-O1', '-shared', '-fPIC', '-o', library, source], { stdio: 'inherit' });
  return status === 0 ? library : undefined;
}

/** A Redis whose wall clock can be set, while its monotonic clock goes on. */
async function steppedRedis(folder: string, library: string): Promise<Stepped> {
  const server = await findRedisServer();
  if (server.kind !== 'binary') throw new Error('the clock of a Redis in a container cannot be stepped');
  const path = join(folder, 'offset');
  const file = await open(path, 'w');
  // In place and always as long: the server reads it at any moment.
  const write = (micros: number): Promise<unknown> => file.write(String(micros).padEnd(20), 0);
  await write(0);
  const port = await freePort();
  const child = spawn(server.path, ['--port', String(port), '--save', '', '--dir', folder], {
    stdio: 'ignore',
    env: { ...process.env, LD_PRELOAD: library, CLOCK_OFFSET_FILE: path },
  });
  const redis = new Redis(port, { retryStrategy: () => 50 });
  redis.on('error', () => undefined);
  await eventually(() => redis.ping());
  return {
    redis,
    step: async (bySeconds) => void (await write(Math.round(bySeconds * 1_000_000))),
    stop: async () => {
      redis.disconnect();
      child.kill('SIGKILL');
      await file.close();
    },
  };
}

/** When something was admitted, in milliseconds that really passed: between being sent and being answered. */
type Admission = { readonly sent: number; readonly answered: number };

async function load(decider: Decider, limit: SelectedLimit, forSeconds: number): Promise<Admission[]> {
  const admissions: Admission[] = [];
  const end = performance.now() + forSeconds * 1_000;
  while (performance.now() < end) {
    const sent = performance.now();
    const { admitted } = await decidePlain(decider, { partition: 'p', cost: 1, limits: [limit] });
    if (admitted) admissions.push({ sent, answered: performance.now() });
    await pause(20);
  }
  return admissions;
}

/** The most that surely was admitted within the window: sent after its begin and answered before its end. */
function mostInWindow(admissions: readonly Admission[]): number {
  const counts = admissions.map(
    ({ sent }) => admissions.filter((one) => one.sent >= sent && one.answered <= sent + WINDOW_SECONDS * 1_000).length,
  );
  return Math.max(0, ...counts);
}

/** The most in any interval above what surely flowed in during it. */
function mostAboveBucket(admissions: readonly Admission[]): number {
  const perMilli = LIMIT / (WINDOW_SECONDS * 1_000);
  const excesses = admissions.flatMap(({ sent }, first) =>
    admissions.slice(first).map(({ answered }, more) => more + 1 - (answered - sent) * perMilli),
  );
  return Math.max(0, ...excesses);
}

/** How far the clock of Redis is ahead of ours, in seconds. */
async function offsetOf(redis: Redis): Promise<number> {
  return ((await redisMicros(redis)) - Date.now() * 1_000) / 1_000_000;
}

async function check(stepped: Stepped, algorithm: 'TokenBucket' | 'SlidingWindow', stepSeconds: number): Promise<void> {
  const decider = new Decider(stepped.redis, createNames('clock'), new RedisClock(), { deadlineMillis: 60_000 });
  const subject = `${algorithm} ${stepSeconds}`;
  const limit = aLimit({ algorithm, subject, capacity: LIMIT, windowSeconds: WINDOW_SECONDS });
  const before = await load(decider, limit, WINDOW_SECONDS * 1.5);
  const wasOff = await offsetOf(stepped.redis);
  await stepped.step(stepSeconds);
  const steppedBy = (await offsetOf(stepped.redis)) - wasOff;
  assert.ok(Math.abs(steppedBy - stepSeconds) < 0.5, `the clock stepped by ${steppedBy} s, not ${stepSeconds} s`);
  const after = await load(decider, limit, WINDOW_SECONDS * 2.5);
  const all = [...before, ...after];
  const flowsIn = Math.min(LIMIT, Math.ceil((stepSeconds * LIMIT) / WINDOW_SECONDS));
  const extra = stepSeconds < 0 ? 0 : algorithm === 'TokenBucket' ? flowsIn : LIMIT;
  const most = algorithm === 'TokenBucket' ? mostAboveBucket(all) : mostInWindow(all);
  console.log(
    `${algorithm}, ${stepSeconds} s: ${most.toFixed(1)} of at most ${LIMIT + extra}, ${after.length} after the step`,
  );
  assert.ok(most <= LIMIT + extra, `${subject} s admitted ${most}`);
  // Two windows are enough for a full one to come back, however the clock stepped.
  assert.ok(after.length >= LIMIT, `${subject} s: only ${after.length} were admitted after the step`);
}

/** Returns false if the clock cannot be stepped on this machine, for want of a compiler. */
export async function checkClockSteps(): Promise<boolean> {
  const folder = await mkdtemp(join(tmpdir(), 'sluice-clock-'));
  const library = compileClock(folder);
  for (const algorithm of library === undefined ? [] : (['TokenBucket', 'SlidingWindow'] as const)) {
    for (const step of STEPS_SECONDS) {
      const stepped = await steppedRedis(folder, library ?? '');
      try {
        await check(stepped, algorithm, step);
      } finally {
        await stepped.stop();
      }
    }
  }
  await rm(folder, { recursive: true, force: true });
  return library !== undefined;
}
