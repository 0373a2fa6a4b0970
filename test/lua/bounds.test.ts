import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { SelectedLimit } from '../../policy/selection.ts';
import { mostOf } from '../harness/admissions.ts';
import { type Load, type LoadResult, runLoad } from '../harness/decide-load.ts';
import { aBucket, aWindow } from '../harness/limits.ts';
import { type PrivateRedis, privateRedis } from '../harness/redis.ts';

const PROGRAM = join(import.meta.dirname, '../harness/decide-load.ts');

let server: PrivateRedis;

beforeAll(async () => {
  server = await privateRedis();
});
afterAll(() => server.stop());

const aLoad = (limit: SelectedLimit, decisions: number): Load => ({
  url: server.url,
  installation: 'default',
  limit,
  decisions,
  concurrency: 50,
});

/** The published bound, over all intervals of the time that Redis itself measured. */
function expectWithinBound(limit: SelectedLimit, results: readonly LoadResult[]): void {
  const decided = results.reduce((sum, result) => sum + result.decided, 0);
  const times = results.flatMap(({ admittedAt }) => admittedAt).toSorted((one, other) => one - other);
  const admissions = times.map((micros) => ({ at: BigInt(micros), cost: 1n }));
  // All of it was used, and more was asked for: otherwise the bound was not put to the test.
  expect(mostOf(limit, admissions)).toBe(BigInt(limit.capacity));
  expect(admissions.length).toBeLessThan(decided);
}

describe.each([
  ['a token bucket', aBucket({ windowSeconds: 1, capacity: 150, refill: 100 })],
  ['a sliding window', aWindow({ windowSeconds: 1, capacity: 150 })],
])('%s under concurrent load', (title, limit) => {
  it('admits no more than its bound over two connections together [P1] [P2]', async () => {
    const shared = { ...limit, subject: `${title}, connections` };
    const results = await Promise.all([runLoad(aLoad(shared, 6_000)), runLoad(aLoad(shared, 6_000))]);
    expectWithinBound(shared, results);
  });

  it('admits no more than its bound over 100,000 requests of four processes with two connections each [P15]', async () => {
    const shared = { ...limit, subject: `${title}, processes` };
    const children = Array.from({ length: 4 }, () => fork(PROGRAM));
    try {
      await Promise.all(children.map((child) => once(child, 'message')));
      const load: Load = { ...aLoad(shared, 25_000), connections: 2 };
      const results = await Promise.all(children.map((child) => loadIn(child, load)));
      expect(results.reduce((sum, { decided }) => sum + decided, 0)).toBe(100_000);
      expectWithinBound(shared, results);
    } finally {
      for (const child of children) child.kill('SIGKILL');
    }
  }, 600_000);
});

async function loadIn(child: ChildProcess, load: Load): Promise<LoadResult> {
  const answered = once(child, 'message');
  child.send(load);
  const [result]: LoadResult[] = await answered;
  if (result === undefined) throw new Error('the process did not answer');
  return result;
}
