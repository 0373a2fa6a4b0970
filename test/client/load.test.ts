// The middleware under load, from a client that knows nothing of it: autocannon, on many connections at once.
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import { join } from 'node:path';
import { promisify } from 'node:util';
import express from 'express';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { sluice } from '../../client/index.ts';
import { startTestLimiter, targetOn, type TestLimiter, untilRevision } from '../harness/limiter.ts';
import { aPolicy, publishEntries } from '../harness/publish.ts';
import { type PrivateRedis, privateRedis } from '../harness/redis.ts';

const AUTOCANNON = join(import.meta.dirname, '../../node_modules/autocannon/autocannon.js');
const LIMIT = 300;
const REQUESTS = 3_000;

let redis: PrivateRedis;
let limiters: TestLimiter[];
let server: Server;

beforeAll(async () => {
  redis = await privateRedis();
  const limits = [{ windowSeconds: 3_600, requests: LIMIT }];
  const rule = { name: 'all', countBy: ['consumer' as const], algorithm: 'SlidingWindow' as const, limits };
  const { revision } = await publishEntries(targetOn(redis), [aPolicy({ domain: 'payments', rules: [rule] })]);
  limiters = await Promise.all(['a', 'b'].map((pod) => startTestLimiter({ redisUrl: redis.url, pod })));
  for (const limiter of limiters) await untilRevision(limiter, revision);
  const app = express();
  // So long that a busy machine is not taken for a limiter that is gone.
  const options = { domain: 'payments', timeoutMs: 60_000, onError: 'deny' as const, keyGenerator: () => 'everybody' };
  app.use(sluice({ ...options, endpoint: limiters.map(({ url }) => url) }));
  app.use((_request, response) => void response.json({ passed: true }));
  server = createServer(app).listen(0, '127.0.0.1');
  await once(server, 'listening');
});
afterAll(async () => {
  server.close();
  server.closeAllConnections();
  await Promise.all(limiters.map((limiter) => limiter.stop()));
  await redis.stop();
});

it('lets exactly the limit pass, of thousands of requests that two limiters decide, and fails none', async () => {
  const address = server.address();
  if (typeof address !== 'object' || address === null) throw new Error('no port');
  const args = ['--json', '--no-progress', '--connections', '50', '--timeout', '60', '--amount', String(REQUESTS)];
  const { stdout } = await promisify(execFile)(process.execPath, [
    AUTOCANNON,
    ...args,
    `http://127.0.0.1:${address.port}/`,
  ]);
  const { errors, timeouts, statusCodeStats } = JSON.parse(stdout);
  expect({ errors, timeouts, statusCodeStats }).toEqual({
    errors: 0,
    timeouts: 0,
    statusCodeStats: { 200: { count: LIMIT }, 429: { count: REQUESTS - LIMIT } },
  });
});
