// What a flood of denials, of refunds and of pardons may take of the memory of a pod.
import { describe, expect, it } from 'vitest';
import { bytesInUse } from '../harness/heap.ts';
import { aWindow } from '../harness/limits.ts';
import { punishableRequest } from '../harness/penalties.ts';
import { plainRequest } from '../harness/plain.ts';
import { aPod, denialOf, penaltyOf } from './remembering-pod.ts';

const alice = plainRequest('p', [aWindow({ subject: 'alice' })]);
const requestOf = (subject: string) => plainRequest('p', [aWindow({ subject })]);

/** Text of its own: no part of it is shared with another one. */
const longName = (name: string): string => Buffer.from(name.padEnd(2_000)).toString('latin1');

describe('denials that are remembered', () => {
  it('take bounded memory, and none once they are over', async () => {
    const pod = aPod();
    pod.say(denialOf(1_000_000));
    const before = bytesInUse();
    for (let i = 0; i < 60_000; i += 1) {
      await pod.cache.decide(requestOf(`subject-${i}`));
    }
    pod.asked.length = 0;
    expect(pod.cache.size).toBe(50_000);
    expect(bytesInUse() - before).toBeLessThan(150_000_000);
    pod.wait(1_001);
    await pod.cache.decide(alice);
    expect(pod.cache.size).toBe(1);
  });

  it.each<[string, (pod: ReturnType<typeof aPod>) => void]>([
    ['they are over', (pod) => pod.wait(1_001)],
    ['they are cleared', (pod) => pod.cache.clear()],
  ])('leave nothing behind when %s', async (_title, end) => {
    const pod = aPod();
    pod.say(denialOf(1_000_000));
    const before = bytesInUse();
    for (let round = 0; round < 20; round += 1) {
      for (let i = 0; i < 1_000; i += 1) await pod.cache.decide(requestOf(longName(`${round}-${i}`)));
      pod.asked.length = 0;
      end(pod);
      pod.wait(1);
    }
    await pod.cache.decide(alice);
    expect(pod.cache.size).toBeLessThanOrEqual(1);
    // 20,000 subjects of 2,000 bytes went by.
    expect(bytesInUse() - before).toBeLessThan(15_000_000);
  });
});

describe('denials that Redis has to be told of', () => {
  it('are those of as many subjects as are remembered: what is beyond favours the client', async () => {
    const pod = aPod({ maxEntries: 2 });
    pod.say(denialOf(1_000_000, [penaltyOf('NORMAL')]));
    for (let i = 0; i < 5; i += 1) await pod.callsOf(punishableRequest(`s${i}`), punishableRequest(`s${i}`));
    expect(await pod.told()).toEqual([1, 1]);
  });
});

describe('subjects to whom something was given back', () => {
  const forgetMany = (pod: ReturnType<typeof aPod>, prefix: string, count: number): void => {
    for (let i = 0; i < count; i += 1) pod.cache.forget(`${prefix}-${i}`);
  };

  it('are remembered up to 10,000; if there are more, all denials are forgotten', async () => {
    const pod = aPod();
    pod.say(denialOf(1_000_000));
    await pod.cache.decide(alice);
    forgetMany(pod, 'subject', 10_000);
    expect(await pod.callsOf(alice)).toBe(0);
    pod.cache.forget('one more');
    pod.wait(1);
    expect(await pod.callsOf(alice)).toBe(1);
  });

  it('are remembered for a second, from the last time that something was given back', async () => {
    const pod = aPod();
    pod.cache.forget('often');
    forgetMany(pod, 'early', 6_000);
    pod.wait(600);
    pod.cache.forget('often');
    pod.wait(600);
    pod.say(denialOf(1_000_000));
    await pod.cache.decide(alice);
    forgetMany(pod, 'late', 6_000);
    pod.wait(1);
    // The early ones were over: there are not too many.
    expect(await pod.callsOf(alice)).toBe(0);
  });
});
