import { setTimeout as pause } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { LimiterClient } from '../../../client/index.ts';
import { createNames } from '../../../store/names.ts';
import { eventually } from '../../harness/eventually.ts';
import { PEPPER } from '../../harness/limiter.ts';
import { type SluiceProcess, startSluice } from '../../harness/processes.ts';
import { aPolicy, publishEntries } from '../../harness/publish.ts';
import { freePort, type PrivateRedis, privateRedis } from '../../harness/redis.ts';

const CALLERS = 8;
const MAX_EXIT_MILLIS = 10_000;

type Pod = { process: SluiceProcess; readonly name: string; readonly ports: readonly [number, number, number] };

let server: PrivateRedis;
const pods: Pod[] = [];

const startProcess = (name: string, [port, grpcPort, opsPort]: Pod['ports']): SluiceProcess =>
  startSluice(
    ['limiter', '--host', '127.0.0.1', '--pod-name', name, '--redis-deadline-ms', '20000', '--drain-ms', '3000'].concat(
      ['--port', port, '--grpc-port', grpcPort, '--ops-port', opsPort].map(String),
    ),
    { SLUICE_REDIS_URL: server.url, SLUICE_PEPPER: PEPPER },
  );

const untilReady = ({ ports }: Pod): Promise<void> =>
  eventually(async () => {
    expect((await fetch(`http://127.0.0.1:${ports[2]}/readyz`)).status).toBe(200);
  }, 60_000);

beforeAll(async () => {
  server = await privateRedis();
  const rule = { name: 'all', countBy: ['consumer' as const], algorithm: 'SlidingWindow' as const };
  await publishEntries({ redis: server.redis, names: createNames('default'), owner: 'default' }, [
    aPolicy({ domain: 'payments', rules: [{ ...rule, limits: [{ windowSeconds: 3_600, requests: 100 }] }] }),
  ]);
  for (const name of ['one', 'two']) {
    const ports = [await freePort(), await freePort(), await freePort()] as const;
    pods.push({ name, ports, process: startProcess(name, ports) });
  }
  await Promise.all(pods.map(untilReady));
});
afterAll(async () => {
  await Promise.all(pods.map(({ process }) => process.stop()));
  await server.stop();
});

describe('a rolling restart of limiters under load', () => {
  it('fails no request, admits no more than the limit, and each ends with 0 in time', async () => {
    const endpoints = pods.map(({ ports }) => `http://127.0.0.1:${ports[0]}`);
    const client = new LimiterClient({ endpoints, timeoutMs: 30_000 });
    const failures: unknown[] = [];
    let [answered, admitted] = [0, 0];
    const over = new AbortController();
    const caller = async (): Promise<void> => {
      while (!over.signal.aborted) {
        try {
          const outcome = await client.check({ domain: 'payments', consumer: 'everybody' });
          answered += 1;
          if (outcome.kind !== 'decided') failures.push(outcome);
          else if (outcome.answer.allowed) admitted += 1;
        } catch (error) {
          failures.push(error);
        }
        await pause(2);
      }
    };
    const callers = Array.from({ length: CALLERS }, caller);
    for (let round = 0; round < 2; round += 1) {
      for (const pod of pods) {
        const before = answered;
        await eventually(() => expect(answered).toBeGreaterThan(before + 100));
        const began = performance.now();
        expect(await pod.process.stop()).toBe(0);
        expect(performance.now() - began).toBeLessThan(MAX_EXIT_MILLIS);
        pod.process = startProcess(pod.name, pod.ports);
        await untilReady(pod);
      }
    }
    over.abort();
    await Promise.all(callers);
    client.close();
    expect(failures).toEqual([]);
    expect(admitted).toBe(100);
  }, 240_000);
});
