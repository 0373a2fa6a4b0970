import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { RedisClock } from '../../store/clock.ts';
import { connect, disconnect, whenReady, type RedisClient } from '../../store/connection.ts';
import { Decider, type DeciderOptions } from '../../store/decide.ts';
import { createNames } from '../../store/names.ts';
import { Script } from '../../store/script.ts';
import { callsOf, resetCommandStats } from '../harness/command-stats.ts';
import { eventually } from '../harness/eventually.ts';
import { aBucket, aWindow } from '../harness/limits.ts';
import { freePort, type PrivateRedis, privateRedis } from '../harness/redis.ts';
import { stallUntilRedisAnswered } from '../harness/stall.ts';
import { startTcpProxy, type TcpProxy } from '../harness/tcp-proxy.ts';
import { decidePlain, type PlainVerdict } from '../harness/plain.ts';

const names = createNames('default');
/** Nothing comes back while a test runs. */
const DAY = 86_400;
const PATIENCE_MILLIS = 60_000;

let server: PrivateRedis;
let proxy: TcpProxy;
let connection: RedisClient;

beforeAll(async () => {
  server = await privateRedis();
});
afterAll(() => server.stop());
beforeEach(async () => {
  await server.redis.flushall();
  proxy = await startTcpProxy(server.port);
  connection = await connected(proxy.port);
  // From here on the script is known, so that a decision is one call.
  await decideWith(aDecider());
  await server.redis.flushall();
  await resetCommandStats(server.redis);
});
afterEach(async () => {
  disconnect(connection);
  await proxy.close();
});

async function connected(port: number): Promise<RedisClient> {
  const redis = connect(`redis://127.0.0.1:${port}`, { onDown: () => undefined, onReady: () => undefined });
  await whenReady(redis, AbortSignal.timeout(30_000));
  return redis;
}

const aDecider = (options: Partial<DeciderOptions> = {}): Decider =>
  new Decider(connection, names, new RedisClock(), { deadlineMillis: PATIENCE_MILLIS, ...options });

const limit = aBucket({ capacity: 10, windowSeconds: DAY });

const decideWith = (decider: Decider, cost = 1): Promise<PlainVerdict> =>
  decidePlain(decider, { partition: 'p', cost, limits: [limit] });

const remainingOf = ({ outcomes }: PlainVerdict): number[] => outcomes.map(({ remaining }) => remaining);

describe('requests of one turn of the event loop', () => {
  it('go out in one script call, whatever they ask for', async () => {
    const decider = aDecider({ firstBatch: 50 });
    const verdicts = Array.from({ length: 50 }, (_, i) =>
      decidePlain(decider, { partition: `p${i}`, cost: 1, limits: [limit, aWindow({ subject: `s${i}` })] }),
    );
    expect(decider.inFlight).toBe(50);
    await Promise.all(verdicts);
    expect(decider.inFlight).toBe(0);
    expect(await callsOf(server.redis, 'evalsha')).toBe(1);
  });

  it('go out in several calls if they are more than one call takes', async () => {
    const decider = aDecider({ maxBatch: 20 });
    const verdicts = await Promise.all(Array.from({ length: 50 }, () => decideWith(decider)));
    expect(verdicts.filter(({ admitted }) => admitted)).toHaveLength(10);
    expect(await callsOf(server.redis, 'evalsha')).toBe(3);
  });

  it('go out while others are still read: the first twelve, then twice as many, at most a hundred', async () => {
    const direct = await connected(server.port);
    const decider = new Decider(direct, names, new RedisClock(), { deadlineMillis: PATIENCE_MILLIS });
    const callsWhileBlocked = (): string | undefined =>
      /cmdstat_evalsha:calls=(\d+)/.exec(stallUntilRedisAnswered(server.port, 0, 'INFO commandstats'))?.[1];
    const decisions = Array.from({ length: 11 }, () => decideWith(decider));
    const ask = (count: number): void =>
      void decisions.push(...Array.from({ length: count }, () => decideWith(decider)));
    // This turn does not end before the last of these.
    expect(callsWhileBlocked()).toBeUndefined();
    const calls: unknown[] = [];
    for (const more of [1, 23, 1, 48, 96, 99, 1]) {
      ask(more);
      calls.push(callsWhileBlocked());
    }
    expect(calls).toEqual(['1', '1', '2', '3', '4', '4', '5']);
    await Promise.all(decisions);
    await resetCommandStats(server.redis);
    const next = Array.from({ length: 12 }, () => decideWith(decider));
    expect(callsWhileBlocked()).toBe('1');
    await Promise.all(next);
    disconnect(direct);
  });

  it('are each answered with their own verdict, in the order of their own limits [P40]', async () => {
    const decider = aDecider({ maxBatch: 7 });
    const asked = Array.from({ length: 40 }, (_, i) => {
      const bucket = aBucket({ subject: `s${i}`, capacity: 100 + i, windowSeconds: DAY });
      const window = aWindow({ subject: `s${i % 5}`, capacity: 1_000 * (i + 1), windowSeconds: DAY + i });
      const cost = 1 + (i % 9);
      const limits = i % 2 === 0 ? [bucket, window] : [window, bucket];
      return { request: { partition: 'p', cost, limits }, expected: limits.map(({ capacity }) => capacity - cost) };
    });
    const verdicts = await Promise.all(asked.map(({ request }) => decidePlain(decider, request)));
    expect(verdicts.map(remainingOf)).toEqual(asked.map(({ expected }) => expected));
    expect(new Set(verdicts.map(({ admitted }) => admitted))).toEqual(new Set([true]));
  });

  it('all fail if the reply has another length than the batch: nobody can tell which is whose', async () => {
    const script = new Script("#!lua\nreturn { '1790000000000000', '1 0 0 1 5 0 0' }");
    const decider = aDecider({ script });
    expect(remainingOf(await decideWith(decider))).toEqual([5]);
    const outcomes = await Promise.allSettled([decideWith(decider), decideWith(decider)]);
    const failed = { status: 'rejected', reason: { code: 'BAD_REPLY', transient: false } };
    expect(outcomes).toMatchObject([failed, failed]);
    expect(decider.inFlight).toBe(0);
  });

  it.each(['1 0 0 1 5 0', '1 0 0 1 5 0 0 5 0 0', '1 0 0 1 five 0 0', '7 0 0 1 5 0 0', '1 0 0 9 5 0 0', ''])(
    'fail alone if only their own reply is broken: "%s"',
    async (broken) => {
      const script = new Script(`#!lua\nreturn { '1790000000000000', '${broken}', '0 7 0 2 0 7 9' }`);
      const decider = aDecider({ script });
      const outcomes = await Promise.allSettled([decideWith(decider), decideWith(decider)]);
      const sound = { admitted: false, outcomes: [{ remaining: 0, retryAfterMicros: 7, resetAfterMicros: 9 }] };
      expect(outcomes).toMatchObject([
        { status: 'rejected', reason: { code: 'BAD_REPLY' } },
        { status: 'fulfilled', value: sound },
      ]);
    },
  );
});

describe('the deadline', () => {
  it('ends the wait for a Redis that stalls, and a late reply is nobody else’s', async () => {
    const hurried = aDecider({ deadlineMillis: 20 });
    proxy.holdReplies();
    const outcomes = await Promise.allSettled([decideWith(hurried, 1), decideWith(hurried, 2)]);
    const timedOut = { status: 'rejected', reason: { code: 'TIMEOUT', transient: true } };
    expect(outcomes).toMatchObject([timedOut, timedOut]);
    expect(hurried.inFlight).toBe(0);
    proxy.releaseReplies();
    // The two were executed nevertheless, as their error says they may have been.
    expect(remainingOf(await decideWith(aDecider(), 3))).toEqual([4]);
  });

  it('leaves nothing behind when the connection breaks after it', async () => {
    const hurried = aDecider({ deadlineMillis: 20 });
    proxy.holdReplies();
    await expect(decideWith(hurried)).rejects.toMatchObject({ code: 'TIMEOUT' });
    proxy.reset();
    proxy.releaseReplies();
    await eventually(async () => expect(remainingOf(await decideWith(aDecider()))).toEqual([8]));
  });

  it('counts no stall of this process against a healthy Redis', async () => {
    const direct = await connected(server.port);
    const decider = new Decider(direct, names, new RedisClock(), { deadlineMillis: 20, firstBatch: 20 });
    for (let round = 0; round < 10; round += 1) {
      const decisions = Array.from({ length: 20 }, () => decideWith(decider));
      // The call leaves in the check phase of this turn.
      await new Promise(setImmediate);
      stallUntilRedisAnswered(server.port, 60);
      await Promise.all(decisions);
    }
    expect(await callsOf(server.redis, 'evalsha')).toBe(10);
    disconnect(direct);
  });
});

describe('too many requests under way', () => {
  it('are refused at once, and accepted again when there is room', async () => {
    const decider = aDecider({ maxInFlight: 5 });
    proxy.holdReplies();
    const underWay = Array.from({ length: 5 }, () => decideWith(decider));
    await expect(decideWith(decider)).rejects.toMatchObject({ code: 'OVERLOADED', transient: true });
    proxy.releaseReplies();
    expect((await Promise.all(underWay)).map(({ admitted }) => admitted)).toEqual([true, true, true, true, true]);
    expect(remainingOf(await decideWith(decider))).toEqual([4]);
  });
});

describe('without a connection', () => {
  it('a decision fails at once, long before its deadline', async () => {
    const port = await freePort();
    const redis = connect(`redis://127.0.0.1:${port}`, { onDown: () => undefined, onReady: () => undefined });
    const decider = new Decider(redis, names, new RedisClock(), { deadlineMillis: 2 ** 31 - 1 });
    await expect(decideWith(decider)).rejects.toMatchObject({ code: 'UNAVAILABLE', transient: true });
    disconnect(redis);
  });

  it('decisions under way fail, are never sent twice, and later ones succeed by themselves', async () => {
    const decider = aDecider();
    proxy.holdReplies();
    const underWay = [decideWith(decider), decideWith(decider)];
    await eventually(async () => expect(await callsOf(server.redis, 'evalsha')).toBe(1));
    proxy.reset();
    proxy.releaseReplies();
    const failed = { status: 'rejected', reason: { code: 'UNAVAILABLE', transient: true } };
    expect(await Promise.allSettled(underWay)).toMatchObject([failed, failed]);
    const later = await eventually(() => decideWith(decider));
    expect(remainingOf(later)).toEqual([7]);
    expect(await callsOf(server.redis, 'evalsha')).toBe(2);
  });

  it('a restarted Redis is used again, with nothing remembered [P22]', async () => {
    const direct = await connected(server.port);
    const decider = new Decider(direct, names, new RedisClock(), { deadlineMillis: PATIENCE_MILLIS });
    await decideWith(decider, 10);
    await server.stopServer();
    await expect(decideWith(decider)).rejects.toMatchObject({ code: 'UNAVAILABLE' });
    await server.startServer();
    expect(remainingOf(await eventually(() => decideWith(decider, 2)))).toEqual([8]);
    disconnect(direct);
  });
});
