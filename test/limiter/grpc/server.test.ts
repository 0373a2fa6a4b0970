import { once } from 'node:events';
import { connect as connectHttp2 } from 'node:http2';
import { createRequire } from 'node:module';
import { connect } from 'node:net';
import { join } from 'node:path';
import { Client, credentials } from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { serviceOf } from '../../../limiter/grpc/protocol.ts';
import { eventually } from '../../harness/eventually.ts';
import { startTestLimiter, targetOn, type TestLimiter, untilRevision } from '../../harness/limiter.ts';
import { aPolicy, publishEntries } from '../../harness/publish.ts';
import { type PrivateRedis, privateRedis } from '../../harness/redis.ts';
import { descriptor, rlsClient } from '../../harness/rls-client.ts';
import { startTcpProxy } from '../../harness/tcp-proxy.ts';

const METHOD = '/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit';
const REQUEST = { domain: 'payments', descriptors: [descriptor({ user: 'alice' })] };

let server: PrivateRedis;
let limiter: TestLimiter;
beforeAll(async () => {
  server = await privateRedis();
  const rule = { name: 'per-user', countBy: ['descriptor:user' as const], algorithm: 'TokenBucket' as const };
  await publishEntries(targetOn(server), [
    aPolicy({ domain: 'payments', rules: [{ ...rule, limits: [{ windowSeconds: 60, requests: 1_000_000 }] }] }),
  ]);
  limiter = await startTestLimiter({ redisUrl: server.url });
  await untilRevision(limiter, 1);
});
afterAll(async () => {
  await limiter.stop();
  await server.stop();
});

describe('reflection', () => {
  /** How many files of the library this process has loaded. */
  const loadedOfReflection = (): number =>
    Object.keys(createRequire(import.meta.url).cache).filter((file) => file.includes('/@grpc/reflection/')).length;

  it('lists the services and describes them, as grpcurl asks, and is loaded only then', async () => {
    const files = join(import.meta.dirname, '../../../node_modules/@grpc/reflection/build/proto');
    const protocol = loadSync(join(files, 'grpc/reflection/v1/reflection.proto'), {
      keepCase: true,
      includeDirs: [files],
    });
    const method = serviceOf(protocol, 'grpc.reflection.v1.ServerReflection')['ServerReflectionInfo'];
    if (method === undefined) throw new Error('there is no such method');
    const client = new Client(limiter.grpcAddress, credentials.createInsecure());
    expect(loadedOfReflection()).toBe(0);
    const stream = client.makeBidiStreamRequest(method.path, method.requestSerialize, method.responseDeserialize);
    stream.write({ list_services: '' });
    const [listed] = await once(stream, 'data');
    expect(listed.list_services_response.service.map(({ name }: { name: string }) => name)).toEqual(
      expect.arrayContaining(['envoy.service.ratelimit.v3.RateLimitService', 'grpc.health.v1.Health']),
    );
    stream.write({ file_containing_symbol: 'envoy.service.ratelimit.v3.RateLimitService' });
    const [described] = await once(stream, 'data');
    const protos: Buffer[] = described.file_descriptor_response.file_descriptor_proto;
    expect(Buffer.concat(protos).toString('latin1')).toContain('ShouldRateLimit');
    expect(loadedOfReflection()).toBeGreaterThan(0);
    stream.end();
    client.close();
  });

  const bytes = (message: Buffer): Buffer => message;

  it('is there in its older version too, and ends when its caller ends', async () => {
    const client = new Client(limiter.grpcAddress, credentials.createInsecure());
    const path = '/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo';
    const stream = client.makeBidiStreamRequest(path, bytes, bytes);
    // list_services: "*", field 7; twice.
    stream.write(Buffer.from([0x3a, 0x01, 0x2a]));
    stream.end(Buffer.from([0x3a, 0x01, 0x2a]));
    const answers: Buffer[] = [];
    stream.on('data', (answer: Buffer) => answers.push(answer));
    const [{ code }] = await once(stream, 'status');
    expect([code, answers.length]).toEqual([0, 2]);
    expect(String(answers[1])).toContain('envoy.service.ratelimit.v3.RateLimitService');
    client.close();
  });

  it('is ended by a message that cannot be decoded', async () => {
    const client = new Client(limiter.grpcAddress, credentials.createInsecure());
    const path = '/grpc.reflection.v1.ServerReflection/ServerReflectionInfo';
    const stream = client.makeBidiStreamRequest(path, bytes, bytes);
    stream.on('error', () => undefined);
    stream.resume();
    const status = new Promise((resolve) => stream.on('status', ({ code }) => resolve(code)));
    // A field of a wire type that there is not.
    stream.write(Buffer.from([0x0f]));
    expect(await status).toBe(13);
    client.close();
  });
});

describe('bad input', () => {
  const stillServes = async (): Promise<void> => {
    const client = rlsClient(limiter.grpcAddress);
    expect(await client.shouldRateLimit(REQUEST)).toMatchObject({ overall_code: 1 });
    client.close();
  };

  it('of random bytes where HTTP/2 is spoken ends that connection only', async () => {
    const [host = '', port] = limiter.grpcAddress.split(':');
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ minLength: 1, maxLength: 512 }), async (bytes) => {
        const socket = connect(Number(port), host);
        socket.on('error', () => undefined);
        socket.resume();
        socket.end(bytes);
        await once(socket, 'close');
      }),
      { numRuns: 100 },
    );
    await stillServes();
  });

  it('in a message is that call’s error, and never ours', async () => {
    const session = connectHttp2(`http://${limiter.grpcAddress}`);
    const statusOf = async (payload: Uint8Array, lengthSaid: number): Promise<string> => {
      const stream = session.request({
        ':method': 'POST',
        ':path': METHOD,
        'content-type': 'application/grpc',
        te: 'trailers',
      });
      const head = Buffer.alloc(5);
      head.writeUInt32BE(lengthSaid, 1);
      let code = '';
      stream.on('error', () => undefined);
      stream.on('response', (headers) => (code = String(headers['grpc-status'] ?? code)));
      stream.on('trailers', (headers) => (code = String(headers['grpc-status'] ?? code)));
      stream.resume();
      stream.end(Buffer.concat([head, payload]));
      await once(stream, 'close');
      return code;
    };
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 300 }), async (payload) => {
        // OK (an answer), INVALID_ARGUMENT, or INTERNAL for a message that cannot be decoded.
        expect(['0', '3', '13']).toContain(await statusOf(payload, payload.length));
      }),
      { numRuns: 300 },
    );
    expect(await statusOf(new Uint8Array(3), 100)).not.toBe('0');
    expect(await statusOf(new Uint8Array(300_000), 300_000)).toBe('8');
    session.close();
    await stillServes();
  });

  // Rapid reset. The HTTP port speaks no HTTP/2: test/limiter/http/http2.test.ts.
  it('of streams that are reset as soon as they begin does not keep others from being served', async () => {
    const session = connectHttp2(`http://${limiter.grpcAddress}`);
    session.on('error', () => undefined);
    for (let i = 0; i < 20_000 && !session.destroyed; i += 1) {
      const stream = session.request({ ':method': 'POST', ':path': METHOD, 'content-type': 'application/grpc' });
      stream.on('error', () => undefined);
      stream.close(8);
      if (i % 500 === 0) await new Promise((resolve) => setImmediate(resolve));
    }
    await stillServes();
    session.destroy();
    expect(limiter.logged().filter(({ event }) => event === 'request_failed')).toEqual([]);
  });
});

describe('connections', () => {
  it('are closed gently when they are old, without a lost call', async () => {
    const short = await startTestLimiter({
      redisUrl: server.url,
      pod: 'pod-b',
      doors: { grpcMaxConnectionAgeMillis: 300 },
    });
    await untilRevision(short, 1);
    const session = connectHttp2(`http://${short.grpcAddress}`);
    const goaway = once(session, 'goaway');
    const client = rlsClient(short.grpcAddress);
    let calls = 0;
    const calling = (async () => {
      for (; !session.closed && !session.destroyed; calls += 1) await client.shouldRateLimit(REQUEST);
    })();
    await goaway;
    await calling;
    for (let i = 0; i < 20; i += 1) expect(await client.shouldRateLimit(REQUEST)).toMatchObject({ overall_code: 1 });
    expect(calls).toBeGreaterThan(0);
    session.destroy();
    client.close();
    await short.stop();
  });
});

describe('stopping', () => {
  it('says NOT_SERVING first, answers what is under way, and ends', async () => {
    const proxy = await startTcpProxy(server.port);
    const stopping = await startTestLimiter({
      redisUrl: `redis://127.0.0.1:${proxy.port}`,
      pod: 'pod-c',
      doors: { drainMillis: 1_000 },
    });
    await untilRevision(stopping, 1);
    const client = rlsClient(stopping.grpcAddress);
    expect(await client.health()).toEqual({ status: 1 });
    proxy.holdReplies();
    const underWay = client.shouldRateLimit(REQUEST);
    const stopped = stopping.stop();
    await eventually(async () => expect(await client.health()).toEqual({ status: 2 }));
    proxy.releaseReplies();
    expect(await underWay).toMatchObject({ overall_code: 1 });
    await stopped;
    await expect(client.health()).rejects.toMatchObject({ code: 14 });
    client.close();
    await proxy.close();
  });
});
