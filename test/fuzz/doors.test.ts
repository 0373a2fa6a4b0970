import { Agent, request as httpRequest } from 'node:http';
import { connect, type Socket } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createNames } from '../../store/names.ts';
import { eventually } from '../harness/eventually.ts';
import { INSPECT, type Inspected, inspect, type Memory } from '../harness/inspected.ts';
import { PEPPER } from '../harness/limiter.ts';
import { type SluiceProcess, startSluice } from '../harness/processes.ts';
import { aPolicy, publishEntries } from '../harness/publish.ts';
import { freePort, type PrivateRedis, privateRedis } from '../harness/redis.ts';
import { descriptor, rlsClient } from '../harness/rls-client.ts';
import { damaged, jsonText, rawBytes, type Random, seeded, SMUGGLING } from './inputs.ts';

/** All inputs together; `make fuzz` takes more. */
const INPUTS = Number(process.env['FUZZ_INPUTS'] ?? 100_000);
const SEED = Number(process.env['FUZZ_SEED'] ?? 20_261_121);
const PARALLEL = 16;
/** What may be in use after the last third that was not after the second: a leak of 250 bytes an input is more. */
const MAX_GROWTH_BYTES = 8 * 1024 * 1024;
/** What may be resident when garbage is gone: code, heap, and what the allocator keeps. See docs/operations.md. */
const MAX_RESIDENT_BYTES = 256 * 1024 * 1024;
const DEADLINE = 1_000 * Math.max(600, INPUTS / 50);

let server: PrivateRedis;
let limiter: SluiceProcess;
let inspected: Inspected;
let port: number;
let grpcPort: number;

// A process of its own: what it does to its memory is not ours.
beforeAll(async () => {
  server = await privateRedis();
  const rule = { name: 'all', countBy: ['consumer' as const], algorithm: 'TokenBucket' as const };
  await publishEntries({ redis: server.redis, names: createNames('default'), owner: 'default' }, [
    aPolicy({ domain: 'payments', rules: [{ ...rule, limits: [{ windowSeconds: 1, requests: 1_000_000 }] }] }),
  ]);
  [port, grpcPort] = [await freePort(), await freePort()];
  const ports = ['--port', port, '--grpc-port', grpcPort, '--ops-port', await freePort()].map(String);
  limiter = startSluice(['limiter', '--host', '127.0.0.1', '--pod-name', 'fuzzed', '--drain-ms', '0', ...ports], {
    SLUICE_REDIS_URL: server.url,
    SLUICE_PEPPER: PEPPER,
    NODE_OPTIONS: INSPECT,
  });
  inspected = await inspect(limiter);
  await eventually(stillServes, 150_000);
});
afterAll(async () => {
  inspected.close();
  await limiter.stop();
  await server.stop();
});

async function stillServes(): Promise<void> {
  const body = '{"domain":"payments","consumer":"honest"}';
  const response = await fetch(`http://127.0.0.1:${port}/v1/decision/check`, { method: 'POST', body });
  expect([response.status, Object(await response.json()).allowed]).toEqual([200, true]);
}

const inMebibytes = (memory: Memory): object =>
  Object.fromEntries(Object.entries(memory).map(([what, bytes]) => [what, Math.round(bytes / 2 ** 20)]));

/** Runs so many inputs, several at a time, each from a seed of its own; what went wrong says which. */
async function fuzz(count: number, one: (random: Random) => Promise<void>): Promise<void> {
  let next = 0;
  const upTo = async (end: number): Promise<Memory> => {
    const worker = async (): Promise<void> => {
      while (next < end) {
        const seed = SEED + next;
        next += 1;
        try {
          await one(seeded(seed));
        } catch (error) {
          // Said at once: a run of a million inputs may be ended before its report.
          console.error(`input of seed ${seed}:`, error);
          throw new Error(`input of seed ${seed}`, { cause: error });
        }
      }
    };
    await Promise.all(Array.from({ length: PARALLEL }, worker));
    return inspected.memory();
  };
  // The first third warms up: caches, compiled code.
  const memory = [await upTo(Math.ceil(count / 3)), await upTo(Math.ceil((count * 2) / 3)), await upTo(count)];
  console.log(JSON.stringify({ count, mebibytes: memory.map(inMebibytes) }));
  const [, second, last] = memory.map(({ heapUsed, external }) => heapUsed + external);
  expect((last ?? NaN) - (second ?? NaN)).toBeLessThan(MAX_GROWTH_BYTES);
  expect(memory.at(-1)?.rss).toBeLessThan(MAX_RESIDENT_BYTES);
  await stillServes();
  expect(limiter.output()).not.toContain('request_failed');
}

/** A connection that is reset is closed as well. */
const closed = (socket: Socket): Promise<void> =>
  new Promise((resolve) => {
    socket.once('close', () => resolve());
  });

/** Everything that the server says to these bytes until it closes. */
async function exchange(bytes: Buffer): Promise<string> {
  const socket = connect(port, '127.0.0.1');
  const chunks: Buffer[] = [];
  socket.on('data', (chunk: Buffer) => chunks.push(chunk));
  socket.on('error', () => undefined);
  socket.end(bytes);
  await closed(socket);
  return Buffer.concat(chunks).toString('latin1');
}

const statusesIn = (text: string): number[] =>
  [...text.matchAll(/^HTTP\/1\.1 (\d{3}) /gm)].map((match) => Number(match[1]));

describe('the doors, given bad input,', () => {
  it('answer bodies of any kind with no 5xx, in flat memory', { timeout: DEADLINE }, async () => {
    const agent = new Agent({ keepAlive: true, maxSockets: PARALLEL });
    const paths = ['/v1/decision/check', '/v1/decision/batch', '/v1/decision/refund', '/check', '/json'];
    const post = (path: string, body: Buffer): Promise<number> =>
      new Promise((resolve, reject) => {
        const request = httpRequest({ port, host: '127.0.0.1', path, method: 'POST', agent }, (response) => {
          response.resume();
          response.once('end', () => resolve(response.statusCode ?? 0));
        });
        request.once('error', (error) => {
          // The limiter closes connections that are idle for a while: one may go while this request is on its way.
          if (request.reusedSocket && 'code' in error && error.code === 'ECONNRESET') resolve(post(path, body));
          else reject(error);
        });
        request.end(body);
      });
    await fuzz(Math.ceil(INPUTS * 0.8), async (random) => {
      const status = await post(random.pick(paths), Buffer.from(jsonText(random), 'utf8'));
      expect(status).toBeLessThan(500);
    });
    agent.destroy();
  });

  it('answer bytes of any kind with no 5xx, in flat memory', { timeout: DEADLINE }, async () => {
    await fuzz(Math.ceil(INPUTS * 0.15), async (random) => {
      for (const status of statusesIn(await exchange(rawBytes(random)))) expect(status).toBeLessThan(500);
    });
  });

  it('answer gRPC messages of any kind with an answer or an error of that call', { timeout: DEADLINE }, async () => {
    const client = rlsClient(`127.0.0.1:${grpcPort}`);
    const method = '/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit';
    const good = Buffer.from('0a087061796d656e7473120b0a090a047573657212016118012002', 'hex');
    const send = (bytes: Buffer): Promise<number> =>
      new Promise((resolve) => {
        client.client.makeUnaryRequest(
          method,
          (message: Buffer) => message,
          (message) => message,
          bytes,
          { deadline: Date.now() + 60_000 },
          (error) => resolve(error?.code ?? 0),
        );
      });
    await fuzz(Math.ceil(INPUTS * 0.05), async (random) => {
      // OK, INVALID_ARGUMENT, or INTERNAL for what cannot be decoded.
      expect([0, 3, 13]).toContain(await send(damaged(random, good)));
    });
    expect(
      await client.shouldRateLimit({ domain: 'payments', descriptors: [descriptor({ user: 'a' })] }),
    ).toMatchObject({
      overall_code: 1,
    });
    client.close();
  });

  it.each(SMUGGLING)('never see two requests where another server sees one: %j', async (text) => {
    const statuses = statusesIn(await exchange(Buffer.from(text, 'latin1')));
    // The first may be answered in whatever way; a request hidden in it may not be answered as one.
    expect(statuses.slice(1).filter((status) => status === 200)).toEqual([]);
  });

  it.each<[string, string]>([
    ['nesting of 100,000', '['.repeat(32_000)],
    ['nesting in a field', `{"domain":${'['.repeat(15_000)}${']'.repeat(15_000)}}`],
    [
      '2^17 keys that look like integers',
      `{"checks":[{"domain":"a","headers":{${Array.from({ length: 2 ** 17 }, (_, i) => `"${i}":"v"`).join(',')}}}]}`,
    ],
    ['2^17 members of the wrong type', `{"checks":[${'1,'.repeat(2 ** 17)}1]}`],
    ['a list that is nested in a batch', `{"checks":${'['.repeat(400_000)}${']'.repeat(400_000)}}`],
  ])('refuse %s as a 400', async (_title, body) => {
    const response = await fetch(`http://127.0.0.1:${port}/v1/decision/batch`, { method: 'POST', body });
    expect(response.status).toBe(400);
    expect((await response.text()).length).toBeLessThan(20_000);
    await stillServes();
  });

  it('let go of clients that send slowly, and serve the others meanwhile', async () => {
    const slow = Array.from({ length: 200 }, () => connect(port, '127.0.0.1'));
    const ends = slow.map((socket) => {
      socket.on('error', () => undefined);
      socket.resume();
      socket.write('POST /check HTTP/1.1\r\nHost: a\r\nX-Slow: ');
      return closed(socket);
    });
    const dripping = setInterval(() => slow.forEach((socket) => socket.writable && socket.write('a')), 200);
    for (let i = 0; i < 20; i += 1) {
      await stillServes();
      await pause(20);
    }
    await Promise.all(ends);
    clearInterval(dripping);
    await stillServes();
  });
});
