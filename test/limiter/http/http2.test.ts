// The HTTP port speaks HTTP/1.1 only: floods of HTTP/2 frames (rapid reset, CONTINUATION, SETTINGS) have nothing to meet
// there. gRPC's port speaks HTTP/2: test/limiter/grpc/server.test.ts.
import { once } from 'node:events';
import { connect as connectHttp2 } from 'node:http2';
import { connect } from 'node:net';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { startTestLimiter, targetOn, type TestLimiter, untilRevision } from '../../harness/limiter.ts';
import { aPolicy, publishEntries } from '../../harness/publish.ts';
import { type PrivateRedis, privateRedis } from '../../harness/redis.ts';

const PREFACE = 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n';
const RESET = Buffer.from('000004030000000001', 'hex');

let server: PrivateRedis;
let limiter: TestLimiter;
beforeAll(async () => {
  server = await privateRedis();
  const limits = [{ windowSeconds: 60, requests: 1_000 }];
  await publishEntries(targetOn(server), [
    aPolicy({ domain: 'payments', rules: [{ name: 'all', countBy: ['global'], algorithm: 'TokenBucket', limits }] }),
  ]);
  limiter = await startTestLimiter({ redisUrl: server.url });
  await untilRevision(limiter, 1);
});
afterEach(async () => {
  expect(await limiter.check({ domain: 'payments' })).toMatchObject({ status: 200, body: { allowed: true } });
  expect(limiter.logged().filter(({ event }) => event === 'request_failed')).toEqual([]);
});
afterAll(async () => {
  await limiter.stop();
  await server.stop();
});

/** What is said to these bytes until the server closes the connection, which the client leaves open. */
async function exchange(bytes: Buffer): Promise<string> {
  const socket = connect(Number(new URL(limiter.url).port), '127.0.0.1');
  const chunks: Buffer[] = [];
  socket.on('data', (chunk: Buffer) => chunks.push(chunk));
  socket.on('error', () => undefined);
  socket.write(bytes);
  if (!socket.closed) await once(socket, 'close');
  return Buffer.concat(chunks).toString('latin1');
}

describe('HTTP/2 on the HTTP port', () => {
  it('is refused at its first bytes with a 400 of HTTP/1.1, and the connection is closed', async () => {
    const text = await exchange(Buffer.from(PREFACE));
    expect(text).toMatch(/^HTTP\/1\.1 400 Bad Request\r\n/);
    expect(text).toMatch(/\r\nconnection: close\r\n/i);
  });

  it('is refused once, whatever frames follow', async () => {
    const frames = Buffer.concat(Array.from({ length: 1_000 }, () => Buffer.concat([RESET, Buffer.alloc(4, 8)])));
    const text = await exchange(Buffer.concat([Buffer.from(PREFACE), frames]));
    expect(text.match(/HTTP\/1\.1 \d{3}/g) ?? []).toEqual(['HTTP/1.1 400']);
  });

  it('is not had by asking for an upgrade: the answer is one of HTTP/1.1', async () => {
    const upgrade =
      'Connection: close, Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n';
    const text = await exchange(Buffer.from(`GET /health HTTP/1.1\r\nHost: a\r\n${upgrade}\r\n`));
    expect(text.match(/HTTP\/\d\S* \d{3}/g)).toEqual(['HTTP/1.1 200']);
  });

  it('ends the session of a client that knows nothing else', async () => {
    const session = connectHttp2(limiter.url);
    session.request({ ':path': '/health' }).on('error', () => undefined);
    const [error] = await once(session, 'error');
    expect(String(error)).toContain('Protocol error');
    if (!session.closed) session.destroy();
  });
});
