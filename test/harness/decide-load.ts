// A process of its own that asks for decisions as fast as it may, for tests of what several processes admit together.
// Over IPC: it says "ready", waits for a load, and answers with what was admitted.
import { once } from 'node:events';
import type { SelectedLimit } from '../../policy/selection.ts';
import { RedisClock } from '../../store/clock.ts';
import { connect, disconnect, whenReady } from '../../store/connection.ts';
import { Decider } from '../../store/decide.ts';
import { createNames } from '../../store/names.ts';
import { decidePlain } from './plain.ts';

export type Load = {
  readonly url: string;
  readonly installation: string;
  readonly limit: SelectedLimit;
  readonly decisions: number;
  /** Connections that they are spread over; 1 if it is not given. */
  readonly connections?: number;
  /** Decisions that are asked for before the first of them is answered. */
  readonly concurrency: number;
};

/** When something was admitted, by the clock of Redis in microseconds; each cost 1. */
export type LoadResult = { readonly decided: number; readonly admittedAt: readonly number[] };

/** Asks `decisions` times for one request. Any error is thrown: here Redis is healthy. */
export async function runLoad(load: Load): Promise<LoadResult> {
  const connections = await Promise.all(
    Array.from({ length: load.connections ?? 1 }, async () => {
      const redis = connect(load.url, { onDown: () => undefined, onReady: () => undefined });
      await whenReady(redis, AbortSignal.timeout(30_000));
      return redis;
    }),
  );
  const deciders = connections.map(
    (redis) => new Decider(redis, createNames(load.installation), new RedisClock(), { deadlineMillis: 60_000 }),
  );
  const admittedAt: number[] = [];
  let asked = 0;
  const one = async (): Promise<void> => {
    while (asked < load.decisions) {
      const decider = deciders[asked % deciders.length];
      if (decider === undefined) throw new Error('there is no connection');
      asked += 1;
      const { admitted, redisMicros } = await decidePlain(decider, { partition: 'p', cost: 1, limits: [load.limit] });
      if (admitted) admittedAt.push(redisMicros);
    }
  };
  await Promise.all(Array.from({ length: load.concurrency }, one));
  connections.forEach(disconnect);
  return { decided: asked, admittedAt };
}

if (import.meta.main && process.send !== undefined) {
  process.send('ready');
  const [load]: Load[] = await once(process, 'message');
  if (load === undefined) throw new Error('no load');
  process.send(await runLoad(load));
  process.disconnect();
}
