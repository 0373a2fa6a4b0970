import { once } from 'node:events';
import { connect, type ClientHttp2Session, type IncomingHttpHeaders } from 'node:http2';
import { deflateSync, gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { FRAME, PREFACE } from '../../../../limiter/grpc/http2/frames.ts';
import { eventually } from '../../../harness/eventually.ts';
import {
  block,
  data,
  ECHO,
  ECHO_STREAM,
  type EchoServer,
  frame,
  grpcMessage,
  Peer,
  request,
  requestFields,
  requestHead,
  setting,
  startEcho,
  uint32,
} from './peer.ts';

let server: EchoServer;
beforeAll(async () => {
  server = await startEcho();
});
afterAll(async () => {
  await server.close();
  expect(server.errors).toEqual([]);
});

type Answered = { readonly fields: IncomingHttpHeaders; readonly trailers: IncomingHttpHeaders; readonly body: Buffer };

async function call(
  session: ClientHttp2Session,
  body: Buffer,
  headers: Record<string, string> = {},
): Promise<Answered> {
  const stream = session.request({
    ':method': 'POST',
    ':path': ECHO,
    'content-type': 'application/grpc',
    te: 'trailers',
    ...headers,
  });
  const chunks: Buffer[] = [];
  let [fields, trailers]: IncomingHttpHeaders[] = [{}, {}];
  stream.on('response', (got) => (fields = got));
  stream.on('trailers', (got) => (trailers = got));
  stream.on('data', (chunk: Buffer) => chunks.push(chunk));
  stream.on('error', () => undefined);
  stream.end(body);
  await once(stream, 'close');
  return { fields: fields ?? {}, trailers: trailers ?? {}, body: Buffer.concat(chunks) };
}

async function withSession<T>(settings: object, use: (session: ClientHttp2Session) => Promise<T>): Promise<T> {
  const session = connect(`http://127.0.0.1:${server.port}`, { settings });
  session.on('error', () => undefined);
  try {
    return await use(session);
  } finally {
    session.destroy();
  }
}

const callOnce = (body: Buffer, headers?: Record<string, string>): Promise<Answered> =>
  withSession({}, (session) => call(session, body, headers));
const statusOf = ({ fields, trailers }: Answered): unknown => trailers['grpc-status'] ?? fields['grpc-status'];

describe('calls of a client of node:http2', () => {
  it('are answered with the fields of gRPC', async () => {
    const { fields, trailers, body } = await callOnce(grpcMessage(Buffer.from('hello')));
    expect(fields).toMatchObject({ ':status': 200, 'content-type': 'application/grpc' });
    expect(trailers).toMatchObject({ 'grpc-status': '0' });
    expect(body).toEqual(grpcMessage(Buffer.from('hello')));
  });

  it.each<[string, object]>([
    ['as they are', {}],
    ['with a window of one byte', { initialWindowSize: 1 }],
    ['with a window of 1,000 bytes', { initialWindowSize: 1_000 }],
    ['without a table of fields', { headerTableSize: 0 }],
  ])(
    'are answered whatever their size and number: settings %s',
    async (_title, settings) => {
      const sizes = fc.array(fc.oneof(fc.nat(300), fc.nat('initialWindowSize' in settings ? 5_000 : 262_144)), {
        minLength: 1,
        maxLength: 30,
      });
      await withSession(settings, (session) =>
        fc.assert(
          fc.asyncProperty(sizes, async (lengths) => {
            const messages = lengths.map((length, i) => Buffer.alloc(length, `${i} `));
            const answers = await Promise.all(messages.map((message) => call(session, grpcMessage(message))));
            for (const [i, answer] of answers.entries()) {
              expect(statusOf(answer)).toBe('0');
              expect(answer.body.equals(grpcMessage(messages[i] ?? Buffer.alloc(0)))).toBe(true);
            }
          }),
          { numRuns: 10 },
        ),
      );
    },
    120_000,
  );

  it.each<[string, Buffer, Record<string, string>, object]>([
    [
      'an unknown path',
      grpcMessage(Buffer.from('a')),
      { ':path': '/a.B/ü%' },
      { 'grpc-status': '12', 'grpc-message': 'there is no method /a.B/%C3%BC%25' },
    ],
    ['another method', Buffer.alloc(0), { ':method': 'PUT' }, { ':status': 405 }],
    ['another content type', grpcMessage(Buffer.from('a')), { 'content-type': 'application/json' }, { ':status': 415 }],
    ['no message', Buffer.alloc(0), {}, { 'grpc-status': '13', 'grpc-message': 'there is no whole message' }],
    ['half a message', grpcMessage(Buffer.from('hello')).subarray(0, 7), {}, { 'grpc-status': '13' }],
    [
      'two messages',
      Buffer.concat([grpcMessage(Buffer.from('a')), grpcMessage(Buffer.from('b'))]),
      {},
      { 'grpc-status': '13', 'grpc-message': 'there is more than one message' },
    ],
    ['a message that is too large', grpcMessage(Buffer.alloc(262_145)), {}, { 'grpc-status': '8' }],
    ['a message that says it is far too large', Buffer.from('00ffffffff00', 'hex'), {}, { 'grpc-status': '8' }],
    ['a compressed message of no compression', grpcMessage(Buffer.from('a'), true), {}, { 'grpc-status': '13' }],
    [
      'a compression that there is not',
      grpcMessage(Buffer.from('a'), true),
      { 'grpc-encoding': 'snappy' },
      { 'grpc-status': '12', 'grpc-accept-encoding': 'identity,deflate,gzip' },
    ],
    [
      'a compressed message that is none',
      grpcMessage(Buffer.from('a'), true),
      { 'grpc-encoding': 'gzip' },
      { 'grpc-status': '13' },
    ],
    [
      'a compressed message that becomes too large',
      grpcMessage(gzipSync(Buffer.alloc(262_145)), true),
      { 'grpc-encoding': 'gzip' },
      { 'grpc-status': '8' },
    ],
  ])('are ended by the right code: %s', async (_title, body, headers, fields) => {
    expect((await callOnce(body, headers)).fields).toMatchObject(fields);
  });

  it.each<[string, Buffer]>([
    ['gzip', gzipSync('hello')],
    ['deflate', deflateSync('hello')],
  ])('may compress their messages: %s', async (encoding, message) => {
    const answer = await callOnce(grpcMessage(message, true), { 'grpc-encoding': encoding });
    expect(answer.body).toEqual(grpcMessage(Buffer.from('hello')));
    // Or say that they could.
    expect(statusOf(await callOnce(grpcMessage(Buffer.from('hello')), { 'grpc-encoding': encoding }))).toBe('0');
  });
});

describe('windows', () => {
  const received = (peer: Peer, ...streams: number[]): number =>
    streams.flatMap((id) => peer.of(FRAME.data, id)).reduce((sum, { payload }) => sum + payload.length, 0);
  const large = Buffer.alloc(60_000, 'x');
  const largeRequest = (streamId: number): Buffer => {
    const message = grpcMessage(large);
    const parts = Array.from({ length: 4 }, (_, i) => message.subarray(i * 16_000, (i + 1) * 16_000));
    return Buffer.concat([requestHead(streamId), ...parts.map((part, i) => data(streamId, part, i === 3))]);
  };

  it('of the connection are kept by all its streams together', async () => {
    const peer = await Peer.connect(server.port);
    peer.send(setting(4, 2 ** 31 - 1), largeRequest(1), largeRequest(3));
    await eventually(() => expect(received(peer, 1, 3)).toBe(65_535));
    // A small one too.
    peer.send(request(5, Buffer.from('small')));
    await peer.until(FRAME.headers, 5);
    peer.send(frame(FRAME.ping, 0, 0, Buffer.from('12345678')));
    await peer.until(FRAME.ping);
    expect(received(peer, 1, 3, 5)).toBe(65_535);
    peer.send(frame(FRAME.windowUpdate, 0, 0, uint32(10)));
    await eventually(() => expect(received(peer, 1, 3, 5)).toBe(65_545));
    peer.send(frame(FRAME.windowUpdate, 0, 0, uint32(100_000)));
    expect((await peer.answer(3)).messages[0]?.length).toBe(60_000);
    expect((await peer.answer(1)).messages[0]?.length).toBe(60_000);
    peer.close();
  });

  it('of a stream are kept, also when they shrink below nothing, and keep no other from being answered', async () => {
    const peer = await Peer.connect(server.port);
    peer.send(setting(4, 1_000), largeRequest(1));
    await eventually(() => expect(received(peer, 1)).toBe(1_000));
    // From 1,000 that were used to 100: 900 below nothing.
    peer.send(setting(4, 100), frame(FRAME.windowUpdate, 0, 1, uint32(900)));
    expect(await peer.stillServes(3)).toBe(true);
    expect(received(peer, 1)).toBe(1_000);
    peer.send(frame(FRAME.windowUpdate, 0, 1, uint32(5)));
    await eventually(() => expect(received(peer, 1)).toBe(1_005));
    peer.send(setting(4, 65_535), frame(FRAME.windowUpdate, 0, 0, uint32(65_535)));
    expect((await peer.answer(1)).messages[0]?.length).toBe(60_000);
    peer.close();
  });

  it('of ours are widened as they are used, and must be kept', async () => {
    const peer = await Peer.connect(server.port);
    peer.send(requestHead(1, ECHO_STREAM));
    const message = grpcMessage(Buffer.alloc(16_000));
    // 4 MB, more than each window: the peer waits whenever it would be beyond one of them.
    const allowed = (streamId: number, start: number): number =>
      peer.of(FRAME.windowUpdate, streamId).reduce((sum, { payload }) => sum + payload.readUInt32BE(0), start);
    peer.send(frame(FRAME.windowUpdate, 0, 0, uint32(2 ** 30)), frame(FRAME.windowUpdate, 0, 1, uint32(2 ** 30)));
    for (let sent = 0; sent < 4_000_000; sent += message.length) {
      await eventually(() =>
        expect(Math.min(allowed(0, 65_535), allowed(1, 1_048_576))).toBeGreaterThan(sent + 16_384),
      );
      peer.send(data(1, message, false));
    }
    peer.send(data(1, Buffer.alloc(0)));
    expect((await peer.answer(1)).messages).toHaveLength(250);
    peer.close();
  });
});

describe('streams of messages', () => {
  it('are answered in their order, compressed or not, and end when their caller ends', async () => {
    const peer = await Peer.connect(server.port);
    peer.send(frame(FRAME.headers, 4, 1, block([...requestFields(ECHO_STREAM), ['grpc-encoding', 'gzip']])));
    peer.send(
      data(
        1,
        Buffer.concat([grpcMessage(gzipSync('one'), true), grpcMessage(Buffer.from('two')).subarray(0, 6)]),
        false,
      ),
    );
    peer.send(
      data(1, Buffer.concat([Buffer.from('wo'), grpcMessage(gzipSync('three'), true)]), false),
      data(1, Buffer.alloc(0)),
    );
    const { messages, fields } = await peer.answer(1);
    expect([messages, fields.get('grpc-status')]).toEqual([['one', 'two', 'three'], '0']);
    peer.close();
  });
});

describe('the same bytes', () => {
  const script = Buffer.concat([
    PREFACE,
    setting(4, 7),
    request(1, Buffer.from('a message that does not fit into its window')),
    frame(FRAME.headers, 0, 3, block(requestFields()).subarray(0, 10)),
    frame(FRAME.continuation, 4, 3, block(requestFields()).subarray(10)),
    data(3, grpcMessage(Buffer.from('second')).subarray(0, 8), false),
    request(5, Buffer.from('third'), '/nothing'),
    data(3, grpcMessage(Buffer.from('second')).subarray(8)),
    frame(FRAME.windowUpdate, 0, 1, uint32(100)),
    setting(4, 65_535),
    requestHead(7, ECHO_STREAM),
    data(7, Buffer.concat([grpcMessage(Buffer.from('fourth')), grpcMessage(Buffer.from('fifth'))])),
  ]);

  it('have the same answers, wherever they are cut', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.nat(script.length), { maxLength: 40 }), async (cuts) => {
        const peer = await Peer.connect(server.port, Buffer.alloc(0));
        let at = 0;
        for (const cut of [...cuts, script.length].toSorted((one, other) => one - other)) {
          peer.send(script.subarray(at, cut));
          at = cut;
          // So that it is a chunk of its own there.
          await new Promise((resolve) => setImmediate(resolve));
        }
        const answers = await Promise.all([1, 3, 5, 7].map((id) => peer.answer(id)));
        expect(answers.map(({ messages, fields }) => [...messages, fields.get('grpc-status')])).toEqual([
          ['a message that does not fit into its window', '0'],
          ['second', '0'],
          ['12'],
          ['fourth', 'fifth', '0'],
        ]);
        peer.close();
      }),
      { numRuns: 60 },
    );
  }, 60_000);
});
