import { setImmediate as turnEnd } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { Turn } from '../../limiter/turn.ts';

describe('a turn', () => {
  it('handles what came with it in its order, once, and not before its end', async () => {
    const handled: number[] = [];
    const turn = new Turn<number>((one) => void handled.push(one));
    turn.add(1);
    turn.add(2);
    await Promise.resolve();
    turn.add(3);
    expect(handled).toEqual([]);
    await turnEnd();
    expect(handled).toEqual([1, 2, 3]);
    await turnEnd();
    expect(handled).toEqual([1, 2, 3]);
  });

  it('leaves what comes while it is handled to the next', async () => {
    const handled: number[] = [];
    const turn = new Turn<number>((one) => {
      handled.push(one);
      if (one < 3) turn.add(one + 1);
    });
    turn.add(1);
    await turnEnd();
    expect(handled).toEqual([1]);
    await turnEnd();
    expect(handled).toEqual([1, 2]);
    await turnEnd();
    expect(handled).toEqual([1, 2, 3]);
  });
});
