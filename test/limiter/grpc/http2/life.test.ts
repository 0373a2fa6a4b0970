import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect as connectTls } from 'node:tls';
import { Client, credentials } from '@grpc/grpc-js';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { CODE } from '../../../../limiter/grpc/http2/faults.ts';
import { FRAME, PREFACE } from '../../../../limiter/grpc/http2/frames.ts';
import { eventually } from '../../../harness/eventually.ts';
import {
  askUntilStuck,
  block,
  data,
  ECHO,
  type EchoServer,
  frame,
  grpcMessage,
  Peer,
  request,
  requestFields,
  requestHead,
  setting,
  SLOW,
  startEcho,
  uint32,
} from './peer.ts';

const HELLO = Buffer.from('hello');
const EVERY = 2 ** 31 - 1;

describe('a peer has so much time, and no more,', () => {
  let server: EchoServer;
  beforeEach(async () => {
    // Of the server; the sockets are real.
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval', 'performance'] });
    server = await startEcho();
  });
  afterEach(async () => {
    await server.close();
    vi.useRealTimers();
  });

  /** Time passes in which nothing is said. */
  const pass = (seconds: number): unknown => vi.advanceTimersByTime(seconds * 1_000);
  /** By a call of another connection: so that what was sent before it has been read. */
  const untilRead = async (): Promise<void> => {
    const other = await Peer.connect(server.port);
    expect(await other.stillServes(1)).toBe(true);
    other.close();
  };

  it.each<[string, Buffer]>([
    ['say that it speaks HTTP/2', Buffer.alloc(0)],
    ['say all of it', PREFACE.subarray(0, 20)],
    ['say its settings', PREFACE],
  ])('to %s', async (_title, greeting) => {
    const peer = await Peer.connect(server.port, greeting);
    await untilRead();
    pass(4);
    await untilRead();
    expect(peer.isClosed).toBe(false);
    pass(2);
    await peer.closed();
  });

  it.each<[string, Buffer]>([
    ['a frame', data(1, HELLO).subarray(0, 10)],
    ['a block of fields', frame(FRAME.headers, 0, 1, block(requestFields()))],
  ])('to end %s that it has begun, even if it says a little of it now and then', async (_title, bytes) => {
    const peer = await Peer.connect(server.port);
    expect(await peer.stillServes(11)).toBe(true);
    peer.send(_title === 'a frame' ? bytes : Buffer.concat([frame(FRAME.headers, 0, 13, bytes.subarray(9))]));
    await untilRead();
    pass(3);
    peer.send(_title === 'a frame' ? bytes.subarray(10, 11) : frame(FRAME.continuation, 0, 13, [0x82]));
    await untilRead();
    expect(peer.isClosed).toBe(false);
    pass(3);
    await peer.closed();
  });

  it('to say its request to the end: the call is ended, its connection is not', async () => {
    const peer = await Peer.connect(server.port);
    peer.send(requestHead(1), data(1, grpcMessage(HELLO).subarray(0, 6), false));
    await untilRead();
    pass(11);
    expect((await peer.answer(1)).fields.get('grpc-status')).toBe('4');
    expect(await peer.stillServes(3)).toBe(true);
    peer.close();
  });

  it('to take its answer: the stream is reset, its connection is not', async () => {
    const peer = await Peer.connect(server.port);
    peer.send(setting(4, 0), request(1, HELLO));
    await peer.until(FRAME.headers, 1);
    pass(31);
    expect((await peer.answer(1)).resetCode).toBe(CODE.cancel);
    peer.send(setting(4, 65_535));
    expect(await peer.stillServes(3)).toBe(true);
    peer.close();
  });

  it('to say that it is there when it is asked', async () => {
    const [silent, polite] = [await Peer.connect(server.port), await Peer.connect(server.port)];
    for (const peer of [silent, polite]) expect(await peer.stillServes(1)).toBe(true);
    pass(31);
    await silent.until(FRAME.ping);
    polite.send(frame(FRAME.ping, 1, 0, (await polite.until(FRAME.ping)).payload));
    await untilRead();
    pass(11);
    await silent.closed();
    expect(await polite.stillServes(3)).toBe(true);
    polite.close();
  });

  it('to read, once its answers fill its socket', async () => {
    const peer = await Peer.connect(server.port);
    peer.send(frame(FRAME.windowUpdate, 0, 0, uint32(2 ** 31 - 65_536)), setting(4, EVERY));
    await peer.until(FRAME.settings);
    expect(await askUntilStuck(peer)).toBeLessThan(5_000);
    pass(9);
    await untilRead();
    expect(peer.socket.writable).toBe(true);
    pass(2);
    peer.socket.resume();
    await peer.closed();
  });
});

describe('a connection that has become old', () => {
  it('is told so, answers what has begun before it heard of it, and begins nothing after', async () => {
    const server = await startEcho({ maxConnectionAgeMillis: 100 });
    const peer = await Peer.connect(server.port);
    peer.send(request(1, HELLO, SLOW));
    const announced = await peer.until(FRAME.goaway);
    expect([announced.payload.readUInt32BE(0), announced.payload.readUInt32BE(4)]).toEqual([EVERY, 0]);
    // It had not heard of it when it sent this.
    expect(await peer.stillServes(3)).toBe(true);
    peer.send(frame(FRAME.ping, 1, 0, (await peer.until(FRAME.ping)).payload));
    await eventually(() => expect(peer.of(FRAME.goaway)).toHaveLength(2));
    const last = peer.of(FRAME.goaway)[1];
    expect([last?.payload.readUInt32BE(0), last?.payload.readUInt32BE(4)]).toEqual([3, 0]);
    peer.send(request(5, HELLO));
    peer.send(frame(FRAME.ping, 0, 0, Buffer.alloc(8)));
    await eventually(() => expect(peer.of(FRAME.ping)).toHaveLength(2));
    expect(peer.of(FRAME.headers, 5)).toEqual([]);
    server.release();
    expect((await peer.answer(1)).messages).toEqual(['hello']);
    await peer.closed();
    await server.close();
  });

  it('is closed though its peer does not say that it has heard', async () => {
    const server = await startEcho({ maxConnectionAgeMillis: 100 });
    const peer = await Peer.connect(server.port);
    await peer.closed();
    expect(peer.of(FRAME.goaway)).toHaveLength(2);
    await server.close();
  });
});

describe('a server that is closed', () => {
  it('answers what is under way, on connections old and new, and then ends', async () => {
    const server = await startEcho();
    const [busy, idle] = [await Peer.connect(server.port), await Peer.connect(server.port)];
    busy.send(request(1, HELLO, SLOW));
    expect(await idle.stillServes(1)).toBe(true);
    const silent = connect(server.port, '127.0.0.1');
    await once(silent, 'connect');
    await eventually(() => expect(server.slowCalls()).toBe(1));
    const closed = server.close(20_000);
    for (const peer of [busy, idle]) peer.send(frame(FRAME.ping, 1, 0, (await peer.until(FRAME.ping)).payload));
    await idle.closed();
    server.release();
    expect((await busy.answer(1)).messages).toEqual(['hello']);
    await closed;
    silent.destroy();
  });

  it('cuts off what does not end in time', async () => {
    const server = await startEcho();
    const peer = await Peer.connect(server.port);
    peer.send(request(1, HELLO, SLOW));
    await eventually(() => expect(server.slowCalls()).toBe(1));
    await server.close(50);
    await peer.closed();
    expect(peer.of(FRAME.headers, 1)).toEqual([]);
    // Its work ends later, for nobody.
    expect(() => server.release()).not.toThrow();
  });
});

describe('TLS', () => {
  let folder: string;
  let server: EchoServer;
  let ca: Buffer;
  beforeEach(async () => {
    folder = mkdtempSync(join(tmpdir(), 'sluice-h2-'));
    const files = ['-keyout', join(folder, 'key'), '-out', join(folder, 'crt')];
    const subject = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1'];
    const args = ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2'];
    execFileSync('openssl', [...args, ...files, ...subject], { stdio: 'ignore' });
    ca = readFileSync(join(folder, 'crt'));
    server = await startEcho({ tls: { cert: ca.toString(), key: readFileSync(join(folder, 'key'), 'utf8') } });
  });
  afterEach(async () => {
    await server.close();
    rmSync(folder, { recursive: true });
  });

  it('carries calls, large ones too', async () => {
    const client = new Client(`127.0.0.1:${server.port}`, credentials.createSsl(ca));
    const same = (bytes: Buffer): Buffer => bytes;
    const send = (bytes: Buffer): Promise<Buffer | undefined> =>
      new Promise((resolve, reject) => {
        client.makeUnaryRequest(ECHO, same, same, bytes, (error, answer) =>
          error === null ? resolve(answer) : reject(error),
        );
      });
    const messages = Array.from({ length: 50 }, (_, i) => Buffer.alloc(i * 2_000, `${i} `));
    const answers = await Promise.all(messages.map(send));
    expect(answers.every((answer, i) => answer?.equals(messages[i] ?? HELLO))).toBe(true);
    client.close();
  });

  it.each<[string, object]>([
    ['a client that does not say that it speaks HTTP/2', {}],
    ['a client that speaks HTTP/1.1 only', { ALPNProtocols: ['http/1.1'] }],
    [
      'a client of TLS 1.1',
      { ALPNProtocols: ['h2'], minVersion: 'TLSv1', maxVersion: 'TLSv1.1', ciphers: 'ALL@SECLEVEL=0' },
    ],
  ])('is not had by %s', async (_title, options) => {
    const socket = connectTls({ port: server.port, host: '127.0.0.1', servername: 'localhost', ca, ...options });
    const chunks: Buffer[] = [];
    socket.on('data', (chunk: Buffer) => chunks.push(chunk));
    socket.on('error', () => undefined);
    await eventually(() => expect(socket.closed).toBe(true));
    expect(chunks).toEqual([]);
  });

  it('that does not come about keeps nobody from closing', async () => {
    const socket = connect(server.port, '127.0.0.1');
    socket.on('error', () => undefined);
    await once(socket, 'connect');
    await server.close(100);
    socket.destroy();
    expect(server.errors).toEqual([]);
  });
});
