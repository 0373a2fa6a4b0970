import { once } from 'node:events';
import { Agent, request as httpRequest } from 'node:http';
import { connect as connectSocket } from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { callsOf, resetCommandStats } from '../harness/command-stats.ts';
import { eventually } from '../harness/eventually.ts';
import { get, post, startTestLimiter, targetOn, type TestLimiter, untilRevision } from '../harness/limiter.ts';
import { aPolicy, publishEntries } from '../harness/publish.ts';
import { type PrivateRedis, privateRedis } from '../harness/redis.ts';
import { startTcpProxy } from '../harness/tcp-proxy.ts';

const POLICY = aPolicy({
  rules: [
    {
      name: 'per-consumer',
      countBy: ['consumer'],
      algorithm: 'TokenBucket',
      limits: [{ windowSeconds: 3_600, requests: 1_000 }],
    },
  ],
});
const BODY = JSON.stringify({ domain: 'payments', consumer: 'alice' });

let server: PrivateRedis;
let limiter: TestLimiter;

beforeAll(async () => {
  server = await privateRedis();
  const { revision } = await publishEntries(targetOn(server), [POLICY]);
  limiter = await startTestLimiter({ redisUrl: server.url });
  await untilRevision(limiter, revision);
});
afterAll(async () => {
  await limiter.stop();
  await server.stop();
});

describe('an endpoint', () => {
  it.each([
    '/',
    '/v1/decision',
    '/v1/decision/check/',
    '/v1/decision/check?domain=a',
    '/checks',
    '/metrics',
    '/readyz',
  ])('that there is not is a 404: %s', async (path) => {
    const { status, headers, body } = await post(`${limiter.url}${path}`, BODY);
    expect(status).toBe(404);
    expect(headers.get('content-type')).toBe('application/problem+json');
    expect(body).toMatchObject({ status: 404, code: 'NOT_FOUND', title: 'Not found' });
  });

  it.each([
    ['GET', '/v1/decision/check', 'POST'],
    ['PUT', '/v1/decision/check', 'POST'],
    ['GET', '/check', 'POST'],
    ['DELETE', '/check', 'POST'],
    ['POST', '/health', 'GET'],
  ])('that answers another method is a 405 that names it: %s %s', async (method, path, allowed) => {
    const response = await fetch(`${limiter.url}${path}`, { method });
    expect(response.status).toBe(405);
    expect(response.headers.get('allow')).toBe(allowed);
    expect(response.headers.get('content-type')).toBe('application/problem+json');
    expect(await response.json()).toMatchObject({ status: 405, code: 'METHOD_NOT_ALLOWED' });
  });
});

describe('a request id', () => {
  it('is the one of the header, in the answer’s header and body', async () => {
    const { headers, body } = await post(`${limiter.url}/v1/decision/check`, BODY, { 'x-request-id': 'from-header' });
    expect(headers.get('x-request-id')).toBe('from-header');
    expect(body['request_id']).toBe('from-header');
  });

  it('is the one of the body before that of the header', async () => {
    const { headers, body } = await limiter.check(
      { domain: 'payments', consumer: 'alice', request_id: 'from-body' },
      { 'x-request-id': 'from-header' },
    );
    expect([headers.get('x-request-id'), body['request_id']]).toEqual(['from-body', 'from-body']);
  });

  it.each(['', 'with space', 'x'.repeat(129), 'ü'])('is a new one instead of "%s"', async (given) => {
    const answers = await Promise.all(
      [1, 2].map(() => post(`${limiter.url}/v1/decision/check`, BODY, { 'x-request-id': given })),
    );
    const ids = answers.map(({ headers }) => headers.get('x-request-id'));
    for (const id of ids) expect(id).toMatch(/^[0-9a-f-]{36}$/);
    expect(new Set(ids).size).toBe(2);
  });

  it('is on every answer', async () => {
    const headers = { 'x-request-id': 'r-1' };
    const answers = await Promise.all([
      fetch(`${limiter.url}/nowhere`, { headers }),
      fetch(`${limiter.url}/check`, { headers }),
      fetch(`${limiter.url}/health`, { headers }),
      fetch(`${limiter.url}/check`, { headers, method: 'POST', body: '{"identifier": "a"}' }),
      fetch(`${limiter.url}/check`, { headers, method: 'POST', body: '{' }),
      fetch(`${limiter.url}/v1/decision/check`, { headers, method: 'POST', body: '{' }),
    ]);
    expect(answers.map((answer) => answer.headers.get('x-request-id'))).toEqual(answers.map(() => 'r-1'));
  });
});

describe('GET /health', () => {
  it('tells what is enforced', async () => {
    const { status, body } = await get(`${limiter.url}/health`);
    expect(status).toBe(200);
    expect(body).toEqual({ status: 'ok', redis: 'ok', postgres: 'not configured', revision: 1 });
    expect((await fetch(`${limiter.url}/health`, { method: 'HEAD' })).status).toBe(200);
  });
});

describe('the port for operators', () => {
  it('answers probes and metrics', async () => {
    expect((await get(`${limiter.opsUrl}/livez`)).body).toEqual({ status: 'ok' });
    expect(await get(`${limiter.opsUrl}/readyz`)).toMatchObject({ status: 200, body: { status: 'ok' } });
    const response = await fetch(`${limiter.opsUrl}/metrics`);
    expect(response.headers.get('content-type')).toMatch(/^text\/plain; version=0\.0\.4/);
    const text = await response.text();
    for (const series of ['sluice_snapshot_revision 1', 'sluice_ready 1', 'sluice_redis_reachable 1']) {
      expect(text).toContain(`\n${series}\n`);
    }
    expect(text).toMatch(/^sluice_decision_duration_seconds_count \d+$/m);
  });

  it('has no decisions', async () => {
    const response = await fetch(`${limiter.opsUrl}/v1/decision/check`, { method: 'POST', body: BODY });
    expect(response.status).toBe(404);
  });
});

describe('a caller who goes away', () => {
  it('in the middle of a body is nobody’s fault', async () => {
    const { hostname, port } = new URL(limiter.url);
    const socket = connectSocket(Number(port), hostname);
    socket.write('POST /v1/decision/check HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n{"domain":');
    // Another request is answered after it: by then the limiter has seen this one.
    await limiter.check({ domain: 'payments', consumer: 'bob' });
    socket.destroy();
    await once(socket, 'close');
    await limiter.check({ domain: 'payments', consumer: 'bob' });
    expect(limiter.logged().filter(({ event }) => event === 'request_failed')).toEqual([]);
  });
});

describe('stopping', () => {
  it('answers what is under way, on a connection that its caller would keep open, and ends', async () => {
    const proxy = await startTcpProxy(server.port);
    const stopping = await startTestLimiter({ redisUrl: `redis://127.0.0.1:${proxy.port}`, pod: 'pod-b' });
    await untilRevision(stopping, 1);
    proxy.holdReplies();
    await resetCommandStats(server.redis);
    const agent = new Agent({ keepAlive: true });
    const request = httpRequest(`${stopping.url}/v1/decision/check`, { method: 'POST', agent });
    request.end(BODY);
    await eventually(async () => expect(await callsOf(server.redis, 'evalsha')).toBeGreaterThan(0));
    const stopped = stopping.stop();
    proxy.releaseReplies();
    const [response]: { statusCode?: number; resume(): void }[] = await once(request, 'response');
    expect(response?.statusCode).toBe(200);
    response?.resume();
    await stopped;
    await expect(get(`${stopping.url}/health`)).rejects.toThrow('fetch failed');
    agent.destroy();
    await proxy.close();
  });

  it('takes the pod off the list', async () => {
    const { redis, names } = targetOn(server);
    const short = await startTestLimiter({ redisUrl: server.url, pod: 'pod-c' });
    await eventually(async () => expect(await redis.hexists(names.pods, 'pod-c')).toBe(1));
    await short.stop();
    expect(await redis.hkeys(names.pods)).toEqual(['pod-a']);
  });

  it('is what happens when a port is taken, with the reason', async () => {
    const { port } = new URL(limiter.url);
    await expect(startTestLimiter({ redisUrl: server.url, pod: 'pod-d', port: Number(port) })).rejects.toThrow(
      'EADDRINUSE',
    );
    expect(await targetOn(server).redis.hkeys(targetOn(server).names.pods)).toEqual(['pod-a']);
  });
});
