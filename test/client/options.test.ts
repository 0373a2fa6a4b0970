import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import express from 'express';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { sluice, type SluiceOptions } from '../../client/index.ts';
import { eventually } from '../harness/eventually.ts';
import { startTestLimiter, targetOn, type TestLimiter, untilRevision } from '../harness/limiter.ts';
import { aPolicy, publishEntries } from '../harness/publish.ts';
import { type PrivateRedis, privateRedis } from '../harness/redis.ts';
import { parseList } from '../harness/structured-fields.ts';

let redis: PrivateRedis;
let limiter: TestLimiter;
const servers: Server[] = [];

beforeAll(async () => {
  redis = await privateRedis();
  const bucket = { algorithm: 'TokenBucket' as const, limits: [{ windowSeconds: 3_600, requests: 2 }] };
  const { revision } = await publishEntries(targetOn(redis), [
    aPolicy({
      domain: 'payments',
      rules: [
        { ...bucket, name: 'per-consumer', countBy: ['consumer'] },
        {
          ...bucket,
          name: 'per-rule',
          countBy: ['consumer', 'attribute:rule'],
          limits: [{ windowSeconds: 60, requests: 1 }],
        },
      ],
    }),
  ]);
  limiter = await startTestLimiter({ redisUrl: redis.url });
  await untilRevision(limiter, revision);
});
afterAll(async () => {
  await limiter.stop();
  await redis.stop();
});
afterEach(() => {
  for (const server of servers.splice(0)) {
    server.closeAllConnections();
    server.close();
  }
});

/** An application that answers with the status that the path says. */
async function anApp(options: Partial<SluiceOptions>): Promise<string> {
  const app = express();
  const keyGenerator = (request: express.Request): string => request.get('x-user') ?? 'nobody';
  app.use(sluice({ endpoint: limiter.url, domain: 'payments', timeoutMs: 30_000, keyGenerator, ...options }));
  app.use((request, response) => {
    response.status(Number(request.path.slice(1))).send('done');
  });
  const server = createServer(app);
  servers.push(server);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  return `http://127.0.0.1:${typeof address === 'object' && address !== null ? address.port : 0}`;
}

const send = (url: string, user: string, status = 200): Promise<Response> =>
  fetch(`${url}/${status}`, { headers: { 'x-user': user } });

const left = async (user: string): Promise<unknown> =>
  (await limiter.check({ domain: 'payments', consumer: user, mode: 'peek' })).body['remaining'];

describe('the middleware', () => {
  it('gives back what a failed response was charged, if asked to', async () => {
    const url = await anApp({ skipFailedRequests: true });
    expect((await send(url, 'ann', 500)).status).toBe(500);
    await eventually(async () => expect(await left('ann')).toBe(2));
    expect((await send(url, 'ann', 200)).status).toBe(200);
    expect(await left('ann')).toBe(1);
  });

  it('gives back what a successful response was charged, if asked to, by the application’s own idea of success', async () => {
    const url = await anApp({
      skipSuccessfulRequests: true,
      requestWasSuccessful: (_request, { statusCode }) => statusCode === 404,
    });
    await send(url, 'bea', 200);
    expect(await left('bea')).toBe(1);
    await send(url, 'bea', 404);
    await eventually(async () => expect(await left('bea')).toBe(1));
  });

  it('counts by the key that the application makes, and by the rule that it names', async () => {
    const [one, other] = [await anApp({ rule: 'search' }), await anApp({ rule: 'upload' })];
    expect((await send(one, 'cid')).status).toBe(200);
    expect((await send(other, 'cid')).status).toBe(200);
    expect((await send(one, 'dan')).status).toBe(200);
    expect((await send(one, 'dan')).status).toBe(429);
  });

  it('says what is left in valid fields of the IETF draft, and in the classic ones, as it is told to', async () => {
    const both = await send(await anApp({}), 'eve');
    expect(parseList(both.headers.get('ratelimit-policy') ?? '')).toMatchObject([{ value: 'per-consumer' }]);
    expect(parseList(both.headers.get('ratelimit') ?? '')[0]?.parameters.get('r')).toBe(1);
    expect(both.headers.get('x-ratelimit-limit')).toBe('2');
    const none = await send(await anApp({ standardHeaders: false, legacyHeaders: false }), 'eve');
    expect([...none.headers.keys()].filter((name) => name.includes('ratelimit'))).toEqual([]);
    const denied = await send(await anApp({ legacyHeaders: false }), 'eve');
    expect(denied.status).toBe(429);
    const wait = Number(denied.headers.get('retry-after'));
    expect(parseList(denied.headers.get('ratelimit') ?? '')[0]?.parameters).toEqual(
      new Map([
        ['r', 0],
        ['t', wait],
      ]),
    );
    expect(denied.headers.has('x-ratelimit-limit')).toBe(false);
  });

  it('denies with the status and the message of the application', async () => {
    const url = await anApp({ statusCode: 503, message: { error: 'slow down' } });
    await send(url, 'fay');
    await send(url, 'fay');
    const denied = await send(url, 'fay');
    expect([denied.status, await denied.json()]).toEqual([503, { error: 'slow down' }]);
  });

  it('skips what the application says, also if it says so later', async () => {
    const url = await anApp({ skip: (request) => Promise.resolve(request.get('x-user') === 'gil') });
    for (let i = 0; i < 4; i += 1) expect((await send(url, 'gil')).status).toBe(200);
    expect(await left('gil')).toBe(2);
  });

  it('denies without a decision if passOnStoreError is false, as express-rate-limit does', async () => {
    const endpoint = 'http://127.0.0.1:1';
    expect((await send(await anApp({ endpoint, passOnStoreError: false }), 'hal')).status).toBe(503);
    expect((await send(await anApp({ endpoint, passOnStoreError: true }), 'hal')).status).toBe(200);
    expect((await send(await anApp({ endpoint }), 'hal')).status).toBe(200);
  });
});
