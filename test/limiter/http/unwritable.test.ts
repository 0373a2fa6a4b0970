// What goes into headers is checked wherever it comes from: only an engine that is broken can show this.
import { once } from 'node:events';
import { pino } from 'pino';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Engine } from '../../../limiter/asked.ts';
import { assemble, doorPartsOf } from '../../../limiter/assemble.ts';
import { DOOR_DEFAULTS } from '../../../limiter/door-settings.ts';
import { createDoors } from '../../../limiter/http/server.ts';
import { eventually } from '../../harness/eventually.ts';
import { OWNER, PEPPER, targetOn } from '../../harness/limiter.ts';
import { aPolicy, publishEntries } from '../../harness/publish.ts';
import { freePort, privateRedis } from '../../harness/redis.ts';

const events: unknown[] = [];
const stack = new AsyncDisposableStack();
let url = '';

/** The rule that it names has a line break for every second request. */
function breaking(engine: Engine): Engine {
  let asked = 0;
  return {
    async check(snapshot, request) {
      asked += 1;
      const isBroken = asked % 2 === 0;
      const result = await engine.check(snapshot, request);
      if (!isBroken) return result;
      const shown = (result.decision.shown ?? []).map((limit) => ({ ...limit, rule: 'line\nbreak' }));
      return { ...result, decision: { ...result.decision, shown } };
    },
  };
}

beforeAll(async () => {
  const server = stack.adopt(await privateRedis(), (redis) => redis.stop());
  const limits = [{ windowSeconds: 60, requests: 1_000 }];
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
  const { server: http } = createDoors({ ...parts, engine: breaking(parts.engine) });
  http.listen(port, '127.0.0.1');
  stack.defer(() => void http.close());
  stack.defer(() => http.closeAllConnections());
  await once(http, 'listening');
  url = `http://127.0.0.1:${port}`;
});
afterAll(() => stack.disposeAsync());

const statusOfOne = async (): Promise<number> => {
  const response = await fetch(`${url}/authz/payments/`);
  await response.text();
  return response.status;
};

describe('an answer that cannot be written', () => {
  it('is a 500 and a line in the log, and takes no other answer of its turn with it', async () => {
    const statuses = await Promise.all(Array.from({ length: 40 }, statusOfOne));
    expect(statuses.filter((status) => status === 200)).toHaveLength(20);
    expect(statuses.filter((status) => status === 500)).toHaveLength(20);
    expect(events).toHaveLength(20);
    expect(events[0]).toMatchObject({ event: 'request_failed', err: { code: 'ERR_INVALID_CHAR' } });
  });
});
