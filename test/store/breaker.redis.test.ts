import { setTimeout as pause } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { BreakerState } from '../../store/breaker.ts';
import { RedisClock } from '../../store/clock.ts';
import { connect, disconnect, type Liveness, whenReady, type RedisClient } from '../../store/connection.ts';
import { Decider, type DeciderOptions } from '../../store/decide.ts';
import { createNames } from '../../store/names.ts';
import { callsOf, resetCommandStats } from '../harness/command-stats.ts';
import { eventually } from '../harness/eventually.ts';
import { bytesInUse } from '../harness/heap.ts';
import { aBucket, aWindow } from '../harness/limits.ts';
import { decidePlain, type PlainVerdict } from '../harness/plain.ts';
import { type PrivateRedis, privateRedis } from '../harness/redis.ts';
import { stallUntilRedisAnswered } from '../harness/stall.ts';
import { startTcpProxy, type TcpProxy } from '../harness/tcp-proxy.ts';

/** Nothing comes back while a test runs. */
const CAPACITY = 100_000;
const limit = aWindow({ capacity: CAPACITY, windowSeconds: 86_400 });
const PATIENCE_MILLIS = 60_000;

let server: PrivateRedis;
let proxy: TcpProxy;
let connection: RedisClient;
const deciders: Decider[] = [];

beforeAll(async () => {
  server = await privateRedis();
});
afterAll(() => server.stop());
beforeEach(async () => {
  await server.redis.flushall();
  proxy = await startTcpProxy(server.port);
  connection = await connectedTo(proxy.port);
  // From here on the script is known, so that a decision is one call.
  await ask(aDecider());
  await server.redis.flushall();
  await resetCommandStats(server.redis);
});
afterEach(async () => {
  for (const decider of deciders.splice(0)) decider.stop();
  disconnect(connection);
  await proxy.close();
});

/** The watch over the connection is slow by default: these tests are about the breaker. */
async function connectedTo(
  port: number,
  liveness: Liveness = { silenceMillis: PATIENCE_MILLIS },
): Promise<RedisClient> {
  const events = { onDown: () => undefined, onReady: () => undefined };
  const redis = connect(`redis://127.0.0.1:${port}`, events, liveness);
  await whenReady(redis, AbortSignal.timeout(30_000));
  return redis;
}

function aDecider(options: Partial<DeciderOptions> = {}, redis = connection): Decider {
  const decider = new Decider(redis, createNames('default'), new RedisClock(), {
    deadlineMillis: PATIENCE_MILLIS,
    ...options,
  });
  deciders.push(decider);
  return decider;
}

const ask = (decider: Decider, cost = 1): Promise<PlainVerdict> =>
  decidePlain(decider, { partition: 'p', cost, limits: [limit] });

/** How a decision ended: with what was left, or with the code of its error. */
const outcomeOf = async (decision: Promise<PlainVerdict>): Promise<number | string> =>
  decision.then(
    ({ outcomes }) => outcomes[0]?.remaining ?? 'nothing',
    (error: unknown) => (typeof error === 'object' && error !== null && 'code' in error ? String(error.code) : 'other'),
  );

const untilClosed = (decider: Decider): Promise<void> => eventually(() => expect(decider.breakerState).toBe('CLOSED'));

describe('a Redis that stalls without closing anything [P28]', () => {
  it('costs 20 requests their deadline; then decisions are refused at once, and late replies are nobody’s', async () => {
    const states: BreakerState[] = [];
    const decider = aDecider({
      deadlineMillis: 100,
      firstBatch: 20,
      onBreakerTransition: (to) => void states.push(to),
    });
    proxy.holdReplies();
    const timedOut = await Promise.all(Array.from({ length: 20 }, (_, i) => outcomeOf(ask(decider, 1 + i))));
    expect(new Set(timedOut)).toEqual(new Set(['TIMEOUT']));
    await eventually(async () => {
      // Where this process was slow itself, a time-out says nothing, and it takes some more.
      if (decider.breakerState === 'CLOSED')
        await Promise.all(Array.from({ length: 20 }, () => outcomeOf(ask(decider))));
      expect(decider.breakerState).not.toBe('CLOSED');
    });
    const sent = await callsOf(server.redis, 'evalsha');
    const refused = await Promise.all(Array.from({ length: 1_000 }, () => outcomeOf(ask(decider))));
    expect(new Set(refused)).toEqual(new Set(['BREAKER_OPEN']));
    expect(decider.inFlight).toBe(0);
    await eventually(() => expect(decider.breakerState).toBe('HALF_OPEN'));
    expect(await outcomeOf(ask(decider))).toBe('BREAKER_OPEN');
    expect(await callsOf(server.redis, 'evalsha')).toBe(sent);
    proxy.releaseReplies();
    await untilClosed(decider);
    expect(states.at(0)).toBe('OPEN');
    expect(states.slice(-2)).toEqual(['HALF_OPEN', 'CLOSED']);
    // What was sent was executed, and its replies went to nobody: this one is the next one's own.
    const extra = sent * 20 - 20;
    expect(await outcomeOf(ask(decider, 1))).toBe(CAPACITY - 210 - extra - 1);
  });

  it('never has more under way than the cap, and keeps nothing of what it refused', async () => {
    const decider = aDecider({ deadlineMillis: PATIENCE_MILLIS, maxInFlight: 500 });
    proxy.holdReplies();
    const underWay = Array.from({ length: 500 }, () => outcomeOf(ask(decider)));
    const before = bytesInUse();
    for (let round = 0; round < 100; round += 1) {
      const refused = await Promise.all(Array.from({ length: 1_000 }, () => outcomeOf(ask(decider))));
      expect(new Set(refused)).toEqual(new Set(['OVERLOADED']));
    }
    expect(decider.inFlight).toBe(500);
    // A hundred thousand requests; had each left a promise behind, it would be tens of megabytes.
    expect(bytesInUse() - before).toBeLessThan(4_000_000);
    proxy.releaseReplies();
    expect(new Set(await Promise.all(underWay)).size).toBe(500);
  });

  it('is given up within three seconds by a connection that is watched, also if nobody asks anything [P30]', async () => {
    const watched = await connectedTo(proxy.port, { pingMillis: 500, silenceMillis: 2_000 });
    const gone = new Promise<number>((resolve) => void watched.once('close', () => resolve(performance.now())));
    // The watch begins with what was answered last.
    await watched.ping();
    const since = performance.now();
    proxy.holdReplies();
    const loopLate = watchLoop();
    // Half a second until the next PING and two of silence; what this process itself came late is not the connection's.
    expect((await gone) - since).toBeLessThan(3_000 + loopLate());
    disconnect(watched);
  });
});

/** By how much, in all, the event loop was late from now on. */
function watchLoop(): () => number {
  let late = 0;
  let last = performance.now();
  const timer = setInterval(() => {
    const now = performance.now();
    late += Math.max(0, now - last - 10);
    last = now;
  }, 10);
  return () => {
    clearInterval(timer);
    return late;
  };
}

describe('a connection that is reset after Redis executed a call, before its reply [P29]', () => {
  it('fails the call, which was charged once and is never sent again', async () => {
    const decider = aDecider();
    proxy.holdReplies();
    const lost = outcomeOf(ask(decider, 10));
    await eventually(async () => expect(await callsOf(server.redis, 'evalsha')).toBe(1));
    proxy.reset();
    proxy.releaseReplies();
    expect(await lost).toBe('UNAVAILABLE');
    await untilClosed(decider);
    expect(await eventually(() => ask(decider, 1))).toMatchObject({ outcomes: [{ remaining: CAPACITY - 11 }] });
    expect(await callsOf(server.redis, 'evalsha')).toBe(2);
  });
});

describe('a process that is blocked while Redis answers [P33]', () => {
  it('counts no time-out, and trips nothing', async () => {
    const states: BreakerState[] = [];
    const direct = await connectedTo(server.port);
    const decider = aDecider({ deadlineMillis: 20, onBreakerTransition: (to) => void states.push(to) }, direct);
    for (let round = 0; round < 10; round += 1) {
      const decisions = Array.from({ length: 30 }, () => ask(decider));
      // The call leaves in the check phase of this turn.
      await new Promise(setImmediate);
      stallUntilRedisAnswered(server.port, 40);
      await Promise.all(decisions);
    }
    expect(states).toEqual([]);
    expect(decider.breakerState).toBe('CLOSED');
    disconnect(direct);
  });

  it('takes its own lateness for no sign of Redis, even if the replies do come late', async () => {
    const states: BreakerState[] = [];
    const decider = aDecider({ deadlineMillis: 10, onBreakerTransition: (to) => void states.push(to) });
    proxy.holdReplies();
    const decisions = Array.from({ length: 30 }, () => outcomeOf(ask(decider)));
    await new Promise(setImmediate);
    // The proxy is blocked as well, so that there is nothing to read when the deadline has passed.
    stallUntilRedisAnswered(server.port, 60);
    expect(new Set(await Promise.all(decisions))).toEqual(new Set(['TIMEOUT']));
    expect(states).toEqual([]);
  });
});

describe('a Redis that dies and comes back', () => {
  it('opens the breaker, is asked by PING only, and is used again as soon as the connection is there', async () => {
    const decider = aDecider();
    await server.stopServer();
    const codes = new Set<number | string>();
    await eventually(async () => {
      codes.add(await outcomeOf(ask(decider)));
      expect(decider.breakerState).not.toBe('CLOSED');
    });
    expect(codes).toEqual(new Set(['UNAVAILABLE']));
    expect(await outcomeOf(ask(decider))).toBe('BREAKER_OPEN');
    // Long enough for the breaker to be at openings of seconds.
    await pause(2_000);
    expect(decider.isFailing).toBe(true);
    await server.startServer();
    await untilClosed(decider);
    expect(decider.isFailing).toBe(false);
    expect(await callsOf(server.redis, 'evalsha')).toBe(0);
    expect(await outcomeOf(ask(decider))).toBe(CAPACITY - 1);
  });
});

describe('every way in which a call can fail [P40]', () => {
  it('leaves each later request its own reply', async () => {
    const decider = aDecider();
    const hurried = aDecider({ deadlineMillis: 5 });
    const faults: readonly (() => Promise<unknown>)[] = [
      async () => {
        proxy.holdReplies();
        await outcomeOf(ask(hurried));
        proxy.releaseReplies();
      },
      async () => {
        proxy.holdReplies();
        const lost = outcomeOf(ask(decider));
        await new Promise(setImmediate);
        proxy.reset();
        proxy.releaseReplies();
        expect(await lost).toBe('UNAVAILABLE');
      },
      () => server.redis.script('FLUSH'),
      async () => {
        await server.redis.config('SET', 'maxmemory', '1');
        expect(await outcomeOf(ask(decider))).toBe('REFUSED');
        await server.redis.config('SET', 'maxmemory', '0');
      },
      async () => {
        await server.redis.set('sluice:default:c1:{planted}:alice', 'not a hash');
        const planted = decidePlain(decider, { partition: 'planted', cost: 1, limits: [limit] });
        expect(await outcomeOf(planted)).toBe('WRONG_TYPE');
      },
    ];
    for (const [index, fault] of faults.entries()) {
      await fault();
      await eventually(() => ask(decider));
      await expectOwnReplies(decider, `fault-${index}`);
    }
  });
});

/** Fifty requests at once, in batches and alone, each against a limit that only its own reply can speak of. */
async function expectOwnReplies(decider: Decider, subject: string): Promise<void> {
  const asked = Array.from({ length: 50 }, async (_, i) => {
    if (i % 3 === 0) await new Promise(setImmediate);
    const own = aBucket({ subject: `${subject}-${i}`, capacity: 100 + i, windowSeconds: 3_600 });
    const { outcomes } = await decidePlain(decider, { partition: 'p', cost: 1, limits: [own] });
    return outcomes[0]?.remaining;
  });
  expect(await Promise.all(asked)).toEqual(asked.map((_, i) => 99 + i));
}
