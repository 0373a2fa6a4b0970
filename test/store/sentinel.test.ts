import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { findRedisServer } from '../../cli/dev/find-redis.ts';
import { RedisClock } from '../../store/clock.ts';
import { connect, disconnect, type RedisClient } from '../../store/connection.ts';
import { Decider } from '../../store/decide.ts';
import { createNames } from '../../store/names.ts';
import { eventually } from '../harness/eventually.ts';
import { aLimit } from '../harness/limits.ts';
import { decidePlain } from '../harness/plain.ts';
import { freePort, type PrivateRedis, privateRedis } from '../harness/redis.ts';

const PRIMARY = 'main';
const CAPACITY = 6;

let first: PrivateRedis;
let second: PrivateRedis;
let sentinel: ChildProcess;
let folder: string;
let redis: RedisClient;
beforeAll(async () => {
  first = await privateRedis();
  second = await privateRedis(['--replicaof', '127.0.0.1', String(first.port)]);
  folder = await mkdtemp(join(tmpdir(), 'sentinel-'));
  const port = await freePort();
  const file = join(folder, 'sentinel.conf');
  const lines = [
    `port ${port}`,
    'bind 127.0.0.1',
    `dir ${folder}`,
    `sentinel monitor ${PRIMARY} 127.0.0.1 ${first.port} 1`,
    `sentinel down-after-milliseconds ${PRIMARY} 500`,
    `sentinel failover-timeout ${PRIMARY} 3000`,
  ];
  await writeFile(file, `${lines.join('\n')}\n`);
  const server = await findRedisServer();
  if (server.kind !== 'binary') throw new Error('this test needs redis-server as a program');
  sentinel = spawn(server.path, [file, '--sentinel'], { stdio: 'ignore' });
  redis = connect(`redis+sentinel://127.0.0.1:${port}/${PRIMARY}`, {
    onDown: () => undefined,
    onReady: () => undefined,
  });
});
afterAll(async () => {
  disconnect(redis);
  sentinel.kill('SIGKILL');
  if (sentinel.exitCode === null && sentinel.signalCode === null) await once(sentinel, 'exit');
  await second.stop();
  await first.stop();
  await rm(folder, { recursive: true, force: true });
});

describe('a primary that Sentinels name', () => {
  it('is followed when another takes over, with what was replicated [P23]', async () => {
    const decider = new Decider(redis, createNames('sentinel'), new RedisClock(), { deadlineMillis: 5_000 });
    const limits = [aLimit({ algorithm: 'SlidingWindow', capacity: CAPACITY, windowSeconds: 86_400 })];
    const ask = async (): Promise<boolean> =>
      (await decidePlain(decider, { partition: 'p', cost: 1, limits })).admitted;
    await eventually(async () => expect(await ask()).toBe(true));
    expect(await ask()).toBe(true);
    // The replica is known to the Sentinel, and has everything.
    await eventually(async () => {
      expect(await second.redis.dbsize()).toBe(await first.redis.dbsize());
      expect(await first.redis.info('replication')).toContain('state=online');
    });
    await eventually(async () => expect(await second.redis.info('replication')).toContain('master_link_status:up'));
    await first.stopServer();
    await eventually(async () => expect(await second.redis.info('replication')).toContain('role:master'), 60_000);
    const answers: boolean[] = [];
    await eventually(async () => {
      answers.push(await ask());
      expect(answers.length).toBeGreaterThanOrEqual(CAPACITY + 2);
    }, 60_000);
    decider.stop();
    // Two were admitted before, and replicated; a call that got no answer may have been counted.
    expect(answers.filter(Boolean).length).toBeLessThanOrEqual(CAPACITY - 2);
    expect(answers).toContain(true);
    expect(answers.at(-1)).toBe(false);
  }, 150_000);
});
