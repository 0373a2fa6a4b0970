import { describe, expect, it } from 'vitest';
import { WorkQueue } from '../../operator/work-queue.ts';
import { eventually } from '../harness/eventually.ts';

type Recorded = { readonly queue: WorkQueue; readonly done: string[]; readonly retries: number[] };

function aQueue(work: (key: string, done: string[]) => Promise<void>): Recorded {
  const done: string[] = [];
  const retries: number[] = [];
  const queue = new WorkQueue({
    random: () => 0.5,
    work: async (key) => {
      await work(key, done);
      done.push(key);
    },
    onError: (_key, _error, retryMillis) => retries.push(retryMillis),
  });
  return { queue, done, retries };
}

describe('the work queue', () => {
  it('does a key once that is added many times before its turn', async () => {
    const { queue, done } = aQueue(() => Promise.resolve());
    for (let i = 0; i < 10; i += 1) queue.add('a');
    queue.add('b');
    await eventually(() => expect(done).toEqual(['a', 'b']));
    await queue.stop();
  });

  it('does a key once more that is added while it is in work, and never two at a time', async () => {
    let inWork = 0;
    let most = 0;
    const gate = Promise.withResolvers<void>();
    const { queue, done } = aQueue(async (_key, finished) => {
      inWork += 1;
      most = Math.max(most, inWork);
      if (finished.length === 0) await gate.promise;
      inWork -= 1;
    });
    queue.add('a');
    await eventually(() => expect(inWork).toBe(1));
    queue.add('a');
    queue.add('b');
    gate.resolve();
    await eventually(() => expect(done.toSorted()).toEqual(['a', 'a', 'b']));
    expect(most).toBe(1);
    await queue.stop();
  });

  it('repeats a failed key with a delay that doubles, and forgets the failures after a success', async () => {
    let failures = 3;
    const { queue, done, retries } = aQueue(() => {
      failures -= 1;
      return failures >= 0 ? Promise.reject(new Error('not yet')) : Promise.resolve();
    });
    queue.add('a');
    await eventually(() => expect(done).toEqual(['a']));
    expect(retries).toEqual([50, 100, 200]);
    failures = 1;
    queue.add('a');
    await eventually(() => expect(done).toEqual(['a', 'a']));
    expect(retries).toEqual([50, 100, 200, 50]);
    await queue.stop();
  });

  it('does a key at the earliest of the times that are set for it', async () => {
    const { queue, done } = aQueue(() => Promise.resolve());
    queue.add('a', 3_600_000);
    queue.add('a');
    await eventually(() => expect(done).toEqual(['a']));
    await queue.stop();
  });

  it('has new work when something was added, and none when it only waits to try again', async () => {
    const { queue, retries } = aQueue((key) =>
      key === 'bad' ? Promise.reject(new Error('always')) : Promise.resolve(),
    );
    expect(queue.hasNew('later')).toBe(false);
    queue.add('later', 3_600_000);
    expect(queue.hasNew('later')).toBe(true);
    queue.add('bad');
    await eventually(() => expect(retries.length).toBeGreaterThan(0));
    expect(queue.hasNew('bad')).toBe(false);
    await queue.stop();
  });

  it('goes on with other keys while one fails', async () => {
    const { queue, done } = aQueue((key) => (key === 'bad' ? Promise.reject(new Error('always')) : Promise.resolve()));
    queue.add('bad');
    queue.add('good');
    await eventually(() => expect(done).toEqual(['good']));
    await queue.stop();
  });

  it('waits for the work under way when it stops, and takes up no other', async () => {
    const gate = Promise.withResolvers<void>();
    const started: string[] = [];
    const { queue, done } = aQueue((key) => {
      started.push(key);
      return gate.promise;
    });
    queue.add('a');
    await eventually(() => expect(started).toEqual(['a']));
    queue.add('b');
    const stopped = queue.stop();
    gate.resolve();
    await stopped;
    expect(done).toEqual(['a']);
    expect(started).toEqual(['a']);
  });
});
