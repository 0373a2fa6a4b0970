// The limiter's HTTP doors in this process, before a real engine and a real Redis.
import { once } from 'node:events';
import { pino } from 'pino';
import { expect } from 'vitest';
import type { Engine } from '../../limiter/asked.ts';
import { assemble, doorPartsOf } from '../../limiter/assemble.ts';
import { DOOR_DEFAULTS, type DoorSettings } from '../../limiter/door-settings.ts';
import { createDoors, type HttpDoors } from '../../limiter/http/server.ts';
import { eventually } from './eventually.ts';
import { OWNER, PEPPER, targetOn } from './limiter.ts';
import { aPolicy, publishEntries } from './publish.ts';
import { freePort, privateRedis } from './redis.ts';

export type TestDoors = {
  readonly doors: HttpDoors;
  readonly port: number;
  readonly url: string;
  /** What is in the log, as objects. */
  readonly events: readonly unknown[];
  /** How many requests Node has read. */
  readonly readByNode: () => number;
  stop(): Promise<void>;
};

/** Doors to domain `payments`, where one rule counts all requests; the engine may be put behind another one. */
export async function startDoors(
  behind: (engine: Engine) => Engine = (engine) => engine,
  tls?: DoorSettings['tls'],
): Promise<TestDoors> {
  const stack = new AsyncDisposableStack();
  const events: unknown[] = [];
  const server = stack.adopt(await privateRedis(), (redis) => redis.stop());
  const limits = [{ windowSeconds: 60, requests: 1_000_000 }];
  const rules = [{ name: 'all', countBy: ['global'], algorithm: 'TokenBucket' as const, limits }];
  await publishEntries(targetOn(server), [aPolicy({ domain: 'payments', rules })]);
  const port = await freePort();
  const options = {
    redisUrl: server.url,
    installation: 'default',
    owner: OWNER,
    pod: 'pod-a',
    pepper: PEPPER,
    host: '127.0.0.1',
    port,
    opsPort: 0,
    checkDomain: 'payments',
    redisDeadlineMillis: 20_000,
    log: pino({ level: 'error' }, { write: (line: string) => void events.push(JSON.parse(line)) }),
  };
  const assembly = assemble(options);
  stack.defer(() => assembly.store.disconnect());
  assembly.loader.start();
  stack.defer(() => assembly.loader.stop());
  await eventually(() => expect(assembly.isReady()).toBe(true));
  const parts = doorPartsOf(assembly, options, DOOR_DEFAULTS);
  const doors = createDoors({ ...parts, engine: behind(parts.engine) }, tls);
  let readByNode = 0;
  doors.server.on('request', () => {
    readByNode += 1;
  });
  doors.server.listen(port, '127.0.0.1');
  stack.defer(() => void doors.server.close());
  stack.defer(() => doors.closeAllConnections());
  await once(doors.server, 'listening');
  return {
    doors,
    port,
    url: `http://127.0.0.1:${port}`,
    events,
    readByNode: () => readByNode,
    stop: () => stack.disposeAsync(),
  };
}
