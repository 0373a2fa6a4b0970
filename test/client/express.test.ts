import { once } from 'node:events';
import { createServer, request as httpRequest, type RequestListener, type Server } from 'node:http';
import express, { type ErrorRequestHandler, type Express } from 'express';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { LimiterError, sluice, type SluiceOptions } from '../../client/index.ts';
import { type Json, PEPPER, startTestLimiter, targetOn, type TestLimiter, untilRevision } from '../harness/limiter.ts';
import { aDomain, aPolicy, publishEntries, publishKeys } from '../harness/publish.ts';
import { freePort, type PrivateRedis, privateRedis } from '../harness/redis.ts';

const HOUR = 3_600;
/** So long that only what never answers exceeds it. */
const PATIENT_MS = 30_000;

let redis: PrivateRedis;
let limiter: TestLimiter;
const servers: Server[] = [];
let domains = 0;

beforeAll(async () => {
  redis = await privateRedis();
  const target = targetOn(redis);
  await publishKeys(target, [{ key: 'key of acme', consumer: 'acme' }], PEPPER);
  // A domain for each test, with the same policy: no test sees the counters of another.
  const rule = { countBy: ['consumer'], algorithm: 'TokenBucket' as const };
  const policies = Array.from({ length: 40 }, (_, i) =>
    aPolicy(
      {
        domain: `payments.test-${i}`,
        rules: [
          { ...rule, name: 'per-consumer', limits: [{ windowSeconds: HOUR, requests: 3 }] },
          {
            ...rule,
            name: 'per-route',
            countBy: ['route', 'header:x-plan'],
            match: { methods: ['POST'], paths: [{ type: 'Exact', value: '/orders' }] },
            limits: [{ windowSeconds: HOUR, requests: 1 }],
          },
        ],
      },
      `policy-${i}`,
    ),
  );
  const strict = {
    domain: 'payments.strict',
    rules: [{ ...rule, name: 'own', headers: 'Hide' as const, limits: [{ windowSeconds: HOUR, requests: 3 }] }],
  };
  const { revision } = await publishEntries(target, [
    ...policies,
    aPolicy(strict, 'strict'),
    aDomain({ identity: { sources: [{ type: 'ApiKey' }], onMissing: 'Deny' } }, 'payments.strict'),
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
    server.close();
    server.closeAllConnections();
  }
});

async function listen(listener: RequestListener): Promise<string> {
  const server = createServer(listener);
  servers.push(server);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  if (typeof address !== 'object' || address === null) throw new Error('no port');
  return `http://127.0.0.1:${address.port}`;
}

/** An application behind the middleware, in a domain of its own. Answers with what it learnt of the request. */
async function anApp(options: Partial<SluiceOptions> = {}, prepare: (app: Express) => unknown = () => undefined) {
  domains += 1;
  const app = express();
  prepare(app);
  app.use(sluice({ endpoint: limiter.url, domain: `payments.test-${domains}`, timeoutMs: PATIENT_MS, ...options }));
  app.use((request, response) => {
    response.json({ passed: true, learnt: Reflect.get(request, options.requestPropertyName ?? 'rateLimit') });
  });
  const fails: ErrorRequestHandler = (error, _request, response, _next) => {
    response.status(500).json({ failed: String(error) });
  };
  app.use(fails);
  return listen(app);
}

async function send(url: string, init: RequestInit = {}): Promise<{ status: number; headers: Headers; body: Json }> {
  const response = await fetch(url, init);
  const body: unknown = await response.json();
  return { status: response.status, headers: response.headers, body: Object(body) };
}

async function statuses(url: string, count: number, init: RequestInit = {}): Promise<number[]> {
  const seen: number[] = [];
  for (let i = 0; i < count; i += 1) seen.push((await send(url, init)).status);
  return seen;
}

describe('a request that may pass', () => {
  it('reaches the application, and its answer tells what is left', async () => {
    const url = await anApp();
    const before = Math.floor(Date.now() / 1000);
    const { status, headers, body } = await send(url);
    expect(status).toBe(200);
    expect(body).toMatchObject({ passed: true });
    expect(headers.get('x-ratelimit-limit')).toBe('3');
    expect(headers.get('x-ratelimit-remaining')).toBe('2');
    expect(headers.get('x-ratelimit-strategy')).toBe('token_bucket');
    expect(headers.get('x-request-id')).toMatch(/^[0-9a-f-]{36}$/);
    expect(headers.has('retry-after')).toBe(false);
    // One of three an hour, in seconds since 1970.
    expect(Number(headers.get('x-ratelimit-reset'))).toBeGreaterThanOrEqual(before + HOUR / 3);
    expect(Number(headers.get('x-ratelimit-reset'))).toBeLessThanOrEqual(Math.ceil(Date.now() / 1000) + HOUR / 3 + 1);
  });

  it('tells the application what was decided, under a name of its choice', async () => {
    const url = await anApp({ requestPropertyName: 'limits' });
    const { body } = await send(url);
    expect(body['learnt']).toMatchObject({
      limit: 3,
      used: 1,
      remaining: 2,
      resetTime: expect.any(String),
      answer: { action: 'ALLOW', reason: 'WITHIN_LIMIT', rule: 'per-consumer', revision: 1 },
    });
  });

  it('carries no numbers where no rule applies', async () => {
    const url = await anApp({ domain: 'nobody.knows' });
    const { status, headers, body } = await send(url);
    expect(status).toBe(200);
    expect(headers.has('x-ratelimit-limit')).toBe(false);
    expect(headers.has('x-request-id')).toBe(true);
    expect(body['learnt']).toMatchObject({ limit: null, used: null, remaining: null, answer: { reason: 'NO_POLICY' } });
  });
});

describe('a request that may not pass', () => {
  it('is a 429 with a problem that says when to come back', async () => {
    const url = await anApp();
    expect(await statuses(url, 3)).toEqual([200, 200, 200]);
    const { status, headers, body } = await send(url);
    expect(status).toBe(429);
    expect(headers.get('content-type')).toMatch(/^application\/problem\+json/);
    expect(body).toEqual({
      type: 'about:blank',
      status: 429,
      title: 'Too many requests',
      detail: expect.stringMatching(
        /^rule per-consumer of policy payments\/policy-\d+ allows 3 requests; try again in \d+ s$/,
      ),
      reason: 'RATE_LIMIT_EXCEEDED',
      retry_after: expect.any(Number),
    });
    expect(headers.get('retry-after')).toBe(String(Math.ceil(Number(body['retry_after']))));
    expect(Number(headers.get('retry-after'))).toBeGreaterThan(HOUR / 3 - 60);
    expect(headers.get('x-ratelimit-remaining')).toBe('0');
  });

  it('is what the application makes of it', async () => {
    const decided: string[] = [];
    const url = await anApp({
      handler: (_request, response, _next, answer) => void response.status(503).json({ custom: answer.rule }),
      onDecision: ({ reason }) => decided.push(reason),
      cost: 3,
    });
    expect(await send(url)).toMatchObject({ status: 200 });
    expect(await send(url)).toMatchObject({ status: 503, body: { custom: 'per-consumer' } });
    expect(decided).toEqual(['WITHIN_LIMIT', 'RATE_LIMIT_EXCEEDED']);
  });

  it('with an API key that is not valid is a 401', async () => {
    const url = await anApp();
    const { status, headers, body } = await send(url, { headers: { 'x-api-key': 'wrong' } });
    expect(status).toBe(401);
    expect(headers.get('content-type')).toMatch(/^application\/problem\+json/);
    expect(body).toEqual({
      type: 'about:blank',
      status: 401,
      title: 'Invalid API key',
      detail: 'the API key is not valid',
    });
  });
});

describe('a request that says nothing of who sends it', () => {
  it('is a 401 where an identity is required', async () => {
    const url = await anApp({ domain: 'payments.strict' });
    expect(await send(url)).toMatchObject({ status: 401, body: { status: 401, title: 'Not identified' } });
    expect(await statuses(url, 3, { headers: { 'x-api-key': 'key of acme' } })).toEqual([200, 200, 200]);
    // The rule is hidden.
    const { body } = await send(url, { headers: { 'x-api-key': 'key of acme' } });
    expect(body['detail']).toMatch(/^too many requests; try again in \d+ s$/);
  });
});

describe('what the limiter is told', () => {
  it('is the API key, and otherwise the address', async () => {
    const url = await anApp({}, (app) => app.set('trust proxy', true));
    const from = (address: string): RequestInit => ({ headers: { 'x-forwarded-for': address } });
    expect(await statuses(url, 4, { headers: { 'x-api-key': 'key of acme' } })).toEqual([200, 200, 200, 429]);
    expect(await statuses(url, 4, from('203.0.113.9'))).toEqual([200, 200, 200, 429]);
    expect(await statuses(url, 4, from('2001:db8:1:2::1'))).toEqual([200, 200, 200, 429]);
    expect(await statuses(url, 1, from('2001:db8:1:2::2'))).toEqual([429]);
    expect(await statuses(url, 1, from('203.0.113.10'))).toEqual([200]);
  });

  it('is the method and the path, without the query', async () => {
    const url = await anApp({ attributes: () => ({ headers: { 'x-plan': 'a' } }), cost: 1 });
    const post: RequestInit = { method: 'POST' };
    expect(await statuses(`${url}/orders?page=1`, 2, post)).toEqual([200, 429]);
    expect(await statuses(`${url}/orders`, 1)).toEqual([200]);
  });

  it('is what the application adds to it', async () => {
    const url = await anApp({ attributes: (request) => ({ consumer: request.get('x-user') ?? 'nobody' }) });
    expect(await statuses(url, 4, { headers: { 'x-user': 'alice' } })).toEqual([200, 200, 200, 429]);
    expect(await statuses(url, 1, { headers: { 'x-user': 'bob' } })).toEqual([200]);
  });

  it('is what the request costs', async () => {
    const url = await anApp({ cost: (request) => Number(request.query['cost'] ?? 1) });
    expect(await statuses(`${url}/?cost=2`, 2)).toEqual([200, 429]);
    expect(await statuses(url, 2)).toEqual([200, 429]);
    expect((await send(`${url}/?cost=4`)).body).toMatchObject({ reason: 'COST_EXCEEDS_LIMIT', retry_after: null });
  });

  it('is nothing at all of a request that is skipped', async () => {
    const url = await anApp({ skip: (request) => request.path === '/healthz' });
    const answers = await Promise.all(Array.from({ length: 10 }, () => send(`${url}/healthz`)));
    expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([200]));
    expect(answers.every(({ headers }) => !headers.has('x-ratelimit-limit'))).toBe(true);
    expect((await send(url)).headers.get('x-ratelimit-remaining')).toBe('2');
  });
});

describe('a request that the limiter cannot understand', () => {
  const sent = async (url: string, options: { method?: string; path?: string; headers?: Record<string, string> }) => {
    const { port } = new URL(url);
    const request = httpRequest({ port, path: '/', ...options });
    request.end();
    const [response]: { statusCode?: number; headers: Json; resume(): void }[] = await once(request, 'response');
    response?.resume();
    return { status: response?.statusCode, type: response?.headers['content-type'] };
  };

  it.each([
    ['a path with a broken escape', { path: '/orders/%zz' }],
    ['a path that is too long', { path: `/${'p'.repeat(8_192)}` }],
    ['an API key that is too long', { headers: { 'x-api-key': 'k'.repeat(513) } }],
    ['an address that is none', { headers: { 'x-forwarded-for': 'unknown' } }],
  ])('does not pass by being one, although errors may: %s', async (_title, options) => {
    const url = await anApp({ onError: 'allow' }, (app) => app.set('trust proxy', true));
    expect(await sent(url, options)).toMatchObject({ status: 400, type: expect.stringContaining('problem+json') });
  });

  it.each([
    ['a long query', { path: `/?${'q'.repeat(9_000)}` }],
    ['a method that few know', { method: 'M-SEARCH' }],
  ])('is none that is only unusual: %s', async (_title, options) => {
    const url = await anApp({ onError: 'deny' });
    const answers = [];
    for (let i = 0; i < 4; i += 1) answers.push((await sent(url, options)).status);
    expect(answers).toEqual([200, 200, 200, 429]);
  });
});

describe('without a limiter', () => {
  const dead = async (): Promise<string> => `http://127.0.0.1:${await freePort()}`;

  it('requests pass by default', async () => {
    const url = await anApp({ endpoint: await dead() });
    const { status, headers, body } = await send(url);
    expect(status).toBe(200);
    expect(body).toEqual({ passed: true });
    expect(headers.has('x-ratelimit-limit')).toBe(false);
  });

  it('requests are refused where the application wants that', async () => {
    const url = await anApp({ endpoint: await dead(), onError: 'deny' });
    const { status, headers, body } = await send(url);
    expect(status).toBe(503);
    expect(headers.get('content-type')).toMatch(/^application\/problem\+json/);
    expect(body).toMatchObject({ status: 503, title: 'Rate limiter unavailable' });
  });

  it('the application may decide by itself', async () => {
    const errors: unknown[] = [];
    const url = await anApp({
      endpoint: await dead(),
      onError: (error, _request, response) => {
        errors.push(error);
        response.status(418).json({});
      },
    });
    expect(await send(url)).toMatchObject({ status: 418 });
    expect(errors).toEqual([expect.any(LimiterError)]);
    expect(errors[0]).toMatchObject({ status: undefined, message: expect.stringContaining('ECONNREFUSED') });
  });

  it('that refuses connections, the next one is asked, and every request is decided once', async () => {
    const url = await anApp({ endpoint: [await dead(), limiter.url], onError: 'deny' });
    expect(await statuses(url, 5)).toEqual([200, 200, 200, 429, 429]);
  });

  it('that is ready, requests are errors', async () => {
    const unready = await startTestLimiter({ redisUrl: `redis://127.0.0.1:${await freePort()}`, pod: 'unready' });
    const url = await anApp({ endpoint: unready.url, onError: 'deny' });
    expect(await send(url)).toMatchObject({ status: 503 });
    await unready.stop();
  });
});

describe('a limiter that misbehaves', () => {
  type Misbehaviour = [string, RequestListener, string];

  it.each<Misbehaviour>([
    ['never answers', () => undefined, 'no answer from the limiter within 100 ms'],
    [
      'stops in the middle of its answer',
      (_request, response) => void response.writeHead(200, { 'content-length': '100' }).write('{"allowed": true'),
      'no answer from the limiter within 100 ms',
    ],
    ['hangs up', (request) => void request.socket.destroy(), 'socket hang up'],
    [
      'hangs up in the middle of its answer',
      (_request, response) => {
        response.writeHead(200, { 'content-length': '100' });
        response.write('{"allowed": true', () => response.destroy());
      },
      'aborted',
    ],
    ['answers something else', (_request, response) => void response.end('<html>'), 'something that is no decision'],
    ['answers another object', (_request, response) => void response.end('{"allowed": "yes"}'), 'no decision'],
    ['answers without end', (_request, response) => void response.end('x'.repeat(100_000)), 'too long'],
    [
      'fails',
      (_request, response) => void response.writeHead(500).end('{"detail": "it broke"}'),
      'the limiter answered 500: it broke',
    ],
  ])('is an error that says what happened, and is asked once: it %s', async (_title, listener, says) => {
    const errors: unknown[] = [];
    let asked = 0;
    const endpoint = await listen((request, response) => {
      asked += 1;
      request.resume();
      listener(request, response);
    });
    const url = await anApp({
      endpoint: [endpoint, endpoint],
      timeoutMs: says.includes('100 ms') ? 100 : PATIENT_MS,
      onError: (error, _request, _response, next) => {
        errors.push(error);
        next();
      },
    });
    expect(await send(url)).toMatchObject({ status: 200, body: { passed: true } });
    expect(errors).toEqual([expect.any(LimiterError)]);
    expect(String(errors[0])).toContain(says);
    expect(asked).toBe(1);
  });
});

describe('a callback of the application that throws', () => {
  const fail = (): never => {
    throw new Error('a bug of the application');
  };

  it.each<[string, Partial<SluiceOptions>]>([
    ['onDecision', { onDecision: fail }],
    ['handler', { handler: fail, cost: 4 }],
    ['onError', { onError: fail, endpoint: 'http://127.0.0.1:1' }],
    ['attributes', { attributes: fail }],
    ['cost', { cost: fail }],
    ['skip', { skip: fail }],
  ])('is an error of that request, not the end of the process: %s', async (_name, options) => {
    const url = await anApp(options);
    expect(await send(url)).toMatchObject({ status: 500, body: { failed: 'Error: a bug of the application' } });
  });
});
