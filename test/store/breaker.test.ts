import { describe, expect, it } from 'vitest';
import { aBreaker, type BreakingPod } from './breaking-pod.ts';

/** It is closed, and no loss counts any more. */
async function expectFiveLossesToOpen(pod: BreakingPod): Promise<void> {
  for (let i = 0; i < 4; i += 1) {
    await pod.pass(1_000);
    pod.loseConnection(1);
  }
  expect(pod.breaker.state).toBe('CLOSED');
  await pod.pass(1_000);
  pod.loseConnection(1);
  expect(pod.breaker.state).toBe('OPEN');
}

describe('a breaker', () => {
  it('opens when half of at least 20 decisions in a second failed, not before', () => {
    const few = aBreaker();
    few.timeOut(19);
    expect(few.breaker.state).toBe('CLOSED');
    few.timeOut(1);
    expect(few.breaker.state).toBe('OPEN');
    const mixed = aBreaker();
    mixed.answer(50);
    mixed.timeOut(49);
    expect(mixed.breaker.state).toBe('CLOSED');
    mixed.timeOut(1);
    expect(mixed.breaker.state).toBe('OPEN');
  });

  it('forgets what is older than a second', async () => {
    const pod = aBreaker();
    pod.timeOut(19);
    await pod.pass(1_000);
    pod.timeOut(19);
    expect(pod.breaker.state).toBe('CLOSED');
    await pod.pass(900);
    pod.timeOut(1);
    expect(pod.breaker.state).toBe('OPEN');
  });

  it.each<[string, (pod: BreakingPod) => void]>([
    ['an answer', (pod) => pod.answer(1)],
    ['a refusal', (pod) => pod.breaker.failed('REFUSED', pod.time.now(), 1)],
  ])('opens after five losses of the connection in a row; %s in between begins anew', async (_title, hear) => {
    const pod = aBreaker();
    for (let i = 0; i < 4; i += 1) {
      pod.loseConnection(1);
      await pod.pass(1_000);
    }
    hear(pod);
    await expectFiveLossesToOpen(pod);
  });

  it('takes all calls that were under way when the connection broke for one loss', async () => {
    const pod = aBreaker();
    const sentAt = pod.time.now();
    await pod.pass(3);
    for (let i = 0; i < 9; i += 1) pod.breaker.failed('UNAVAILABLE', sentAt, 1);
    // Also one that was sent at the very moment of the loss.
    for (let i = 0; i < 9; i += 1) pod.breaker.failed('UNAVAILABLE', pod.time.now(), 1);
    expect(pod.breaker.state).toBe('CLOSED');
  });

  it('counts losses of the connection anew once it has closed', async () => {
    const pod = aBreaker();
    pod.loseConnection(5);
    pod.redis.isAlive = true;
    await pod.pass(400);
    expect(pod.breaker.state).toBe('CLOSED');
    await expectFiveLossesToOpen(pod);
  });

  it('does not open for what Redis refuses, nor for broken keys and replies: these are answers', () => {
    const pod = aBreaker();
    for (const code of ['REFUSED', 'WRONG_TYPE', 'BAD_REPLY', 'OVERLOADED'] as const) {
      pod.breaker.failed(code, pod.time.now(), 1_000);
    }
    expect(pod.breaker.state).toBe('CLOSED');
    pod.timeOut(20);
    expect(pod.breaker.state).toBe('CLOSED');
  });

  it('probes once at a time and at most every 50 ms, and closes after three answers', async () => {
    const pod = aBreaker();
    pod.timeOut(20);
    pod.redis.isAlive = true;
    await pod.pass(249);
    expect(pod.probes).toEqual([]);
    await pod.pass(1);
    expect(pod.breaker.state).toBe('HALF_OPEN');
    await pod.pass(99);
    expect(pod.breaker.state).toBe('HALF_OPEN');
    await pod.pass(1);
    expect(pod.breaker.state).toBe('CLOSED');
    expect(pod.probes).toEqual([250, 300, 350]);
    expect(pod.mostUnderWay()).toBe(1);
    expect(pod.transitions.map(({ to }) => to)).toEqual(['OPEN', 'HALF_OPEN', 'CLOSED']);
  });

  it('stays open twice as long after each failed probe, up to 5 s', async () => {
    const pod = aBreaker();
    pod.timeOut(20);
    await pod.pass(30_000);
    const openings = pod.transitions.filter(({ to }) => to === 'OPEN').map(({ atMillis }) => atMillis);
    expect(openings.slice(1).map((at, i) => at - (openings[i] ?? 0))).toEqual([
      250, 500, 1_000, 2_000, 4_000, 5_000, 5_000, 5_000, 5_000,
    ]);
  });

  it('goes on with the longer opening while the store flaps, and begins anew after five steady seconds', async () => {
    const pod = aBreaker();
    pod.redis.isAlive = true;
    const openMillis: number[] = [];
    for (const closedMillis of [0, 0, 4_900, 5_000]) {
      await pod.pass(closedMillis);
      pod.timeOut(20);
      const openedAt = pod.time.now();
      while (pod.breaker.state !== 'CLOSED') await pod.pass(10);
      openMillis.push((pod.probes.at(-3) ?? 0) - openedAt);
    }
    expect(openMillis).toEqual([250, 500, 1_000, 250]);
  });

  it('asks at once when the connection is there again', async () => {
    const pod = aBreaker();
    pod.loseConnection(5);
    pod.redis.isAlive = true;
    await pod.pass(10);
    pod.breaker.wake();
    await pod.pass(100);
    expect(pod.breaker.state).toBe('CLOSED');
    expect(pod.probes[0]).toBe(10);
  });

  it('does not hear a call that was sent before it closed', async () => {
    const pod = aBreaker();
    const sentAt = pod.time.now();
    pod.timeOut(20);
    pod.redis.isAlive = true;
    await pod.pass(400);
    expect(pod.breaker.state).toBe('CLOSED');
    pod.breaker.failed('TIMEOUT', sentAt, 100);
    expect(pod.breaker.state).toBe('CLOSED');
    expect(pod.breaker.isFailing).toBe(false);
  });

  it('says that decisions fail while it is not closed, and while most of them are refused', async () => {
    const pod = aBreaker();
    expect(pod.breaker.isFailing).toBe(false);
    pod.answer(9);
    pod.breaker.failed('REFUSED', pod.time.now(), 8);
    expect(pod.breaker.isFailing).toBe(false);
    pod.breaker.failed('REFUSED', pod.time.now(), 1);
    expect(pod.breaker.isFailing).toBe(true);
    await pod.pass(1_000);
    expect(pod.breaker.isFailing).toBe(false);
    pod.timeOut(20);
    await pod.pass(2_000);
    expect(pod.breaker.isFailing).toBe(true);
  });

  it('does nothing any more when it is stopped', async () => {
    const pod = aBreaker();
    pod.timeOut(20);
    pod.breaker.stop();
    await pod.pass(60_000);
    expect(pod.probes).toEqual([]);
    const asking = aBreaker();
    asking.timeOut(20);
    asking.breaker.wake();
    asking.breaker.stop();
    await asking.pass(60_000);
    expect(asking.probes).toEqual([0]);
  });
});
