import { Redis } from 'ioredis';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { RedisClock } from '../../store/clock.ts';
import { readHead } from '../../store/configuration.ts';
import { connect, disconnect, whenReady, type RedisClient } from '../../store/connection.ts';
import { Decider } from '../../store/decide.ts';
import { toStoreError } from '../../store/errors.ts';
import { createNames } from '../../store/names.ts';
import { eventually } from '../harness/eventually.ts';
import { aBucket } from '../harness/limits.ts';
import { freePort, type PrivateRedis, privateRedis } from '../harness/redis.ts';
import { decidePlain, type PlainVerdict } from '../harness/plain.ts';

let server: PrivateRedis;
/** As limiters connect. */
let connection: RedisClient;

// What is done to a server here changes it: every test has its own.
beforeEach(async () => {
  server = await privateRedis();
  connection = connect(server.url, { onDown: () => undefined, onReady: () => undefined });
  await whenReady(connection, AbortSignal.timeout(30_000));
});
afterEach(async () => {
  disconnect(connection);
  await server.stop();
});

function decide(): Promise<PlainVerdict> {
  const decider = new Decider(connection, createNames('default'), new RedisClock(), { deadlineMillis: 60_000 });
  return decidePlain(decider, { partition: 'p', cost: 1, limits: [aBucket({ capacity: 1_000 })] });
}

type Fault = { readonly cause: () => Promise<unknown>; readonly mend: () => Promise<unknown> };

/** A script that runs until it is killed; Redis answers others that it is busy meanwhile. */
function busyRedis(): Fault {
  const busy = new Redis(server.url);
  let running: Promise<unknown> = Promise.resolve();
  return {
    cause: async () => {
      await server.redis.config('SET', 'busy-reply-threshold', '1');
      running = busy.eval('while true do end', 0).catch(() => undefined);
      await eventually(() => expect(server.redis.ping()).rejects.toThrow('BUSY'));
    },
    mend: async () => {
      await server.redis.script('KILL');
      await running;
      busy.disconnect();
    },
  };
}

const config = (name: string, value: string, after: string): Fault => ({
  cause: () => server.redis.config('SET', name, value),
  mend: () => server.redis.config('SET', name, after),
});

describe('what Redis refuses before it executes anything', () => {
  it.each<[string, () => Fault]>([
    ['OOM', () => config('maxmemory', '1', '0')],
    ['NOREPLICAS', () => config('min-replicas-to-write', '1', '0')],
    [
      'READONLY',
      () => ({
        cause: async () => server.redis.replicaof('127.0.0.1', await freePort()),
        mend: () => server.redis.replicaof('NO', 'ONE'),
      }),
    ],
    [
      'NOPERM',
      () => ({
        cause: () => server.redis.call('ACL', 'SETUSER', 'default', '-evalsha', '-eval'),
        mend: () => server.redis.call('ACL', 'SETUSER', 'default', '+@all'),
      }),
    ],
    ['BUSY', busyRedis],
  ])('%s is REFUSED, and passes [P25]', async (word, makeFault) => {
    const fault = makeFault();
    await fault.cause();
    try {
      await expect(decide()).rejects.toMatchObject({
        code: 'REFUSED',
        refusal: word,
        transient: true,
        message: expect.stringMatching(new RegExp(`^${word}\\b`)),
      });
    } finally {
      await fault.mend();
    }
    await eventually(async () => expect((await decide()).admitted).toBe(true));
  });

  it('NOAUTH is REFUSED, on a connection that was authenticated before', async () => {
    await server.redis.config('SET', 'requirepass', 'secret');
    // Whoever is connected stays so, until the connection is as it was at the beginning.
    await connection.call('RESET');
    await expect(readHead(connection, createNames('default'))).rejects.toMatchObject({
      code: 'REFUSED',
      transient: true,
      message: expect.stringMatching(/^NOAUTH\b/),
    });
  });

  it('a password that is missing from the start is a connection that never comes to be', async () => {
    const guarded = await privateRedis(['--requirepass', 'secret']);
    const told = Promise.withResolvers<string>();
    const redis = connect(guarded.url, { onDown: told.resolve, onReady: () => undefined });
    expect(await told.promise).toContain('NOAUTH');
    await expect(
      redis.call('PING').catch((error: unknown) => Promise.reject(toStoreError(error))),
    ).rejects.toMatchObject({ code: 'UNAVAILABLE' });
    disconnect(redis);
    await guarded.stop();
  });
});
