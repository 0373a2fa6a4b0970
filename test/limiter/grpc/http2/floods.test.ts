import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { MAX_CALLS } from '../../../../limiter/grpc/http2/calls.ts';
import { CODE } from '../../../../limiter/grpc/http2/faults.ts';
import { FRAME } from '../../../../limiter/grpc/http2/frames.ts';
import { eventually } from '../../../harness/eventually.ts';
import {
  askUntilStuck,
  block,
  data,
  type EchoServer,
  ECHO,
  ECHO_STREAM,
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

let server: EchoServer;
beforeAll(async () => {
  server = await startEcho();
});
afterEach(async () => {
  // Whatever it was, others are served.
  const other = await Peer.connect(server.port);
  expect(await other.stillServes(1)).toBe(true);
  other.close();
});
afterAll(async () => {
  await server.close();
  expect(server.errors).toEqual([]);
});

const NONE = Buffer.alloc(0);
const HELLO = Buffer.from('hello');
const many = (count: number, one: (index: number) => Buffer): Buffer =>
  Buffer.concat(Array.from({ length: count }, (_, index) => one(index)));
const reset = (streamId: number): Buffer => frame(FRAME.resetStream, 0, streamId, uint32(8));

describe('a flood of what brings nothing ends the connection', () => {
  const open = requestHead(1, ECHO_STREAM);
  it.each<[string, Buffer]>([
    ['PING', many(2_500, () => frame(FRAME.ping, 0, 0, Buffer.alloc(8)))],
    ['acknowledgements of PING', many(2_500, () => frame(FRAME.ping, 1, 0, Buffer.alloc(8)))],
    ['SETTINGS', many(250, () => frame(FRAME.settings, 0, 0))],
    ['SETTINGS that change all windows', many(250, (i) => setting(4, 1_000 + i))],
    ['acknowledgements of SETTINGS', many(2_500, () => frame(FRAME.settings, 1, 0))],
    ['PRIORITY', many(2_500, () => frame(FRAME.priority, 0, 1, Buffer.alloc(5)))],
    ['WINDOW_UPDATE', many(2_500, () => frame(FRAME.windowUpdate, 0, 0, uint32(1)))],
    ['WINDOW_UPDATE of a stream', Buffer.concat([open, many(2_500, () => frame(FRAME.windowUpdate, 0, 1, uint32(1)))])],
    ['empty DATA', Buffer.concat([open, many(2_500, () => data(1, NONE, false))])],
    ['DATA that is padding only', Buffer.concat([open, many(2_500, () => frame(FRAME.data, 8, 1, [1, 0]))])],
    ['frames that are unknown', many(2_500, () => frame(0x99, 0, 0))],
    ['GOAWAY', many(2_500, () => frame(FRAME.goaway, 0, 0, Buffer.alloc(8)))],
    [
      'streams that are reset as soon as they begin',
      many(2_500, (i) => Buffer.concat([requestHead(2 * i + 1), reset(2 * i + 1)])),
    ],
    ['resets of streams that are over', Buffer.concat([request(1, HELLO), many(2_500, () => reset(1))])],
    ['streams that are malformed', many(2_500, (i) => frame(FRAME.headers, 5, 2 * i + 1, block([['a', 'b']])))],
    [
      'CONTINUATION',
      Buffer.concat([
        frame(FRAME.headers, 0, 1, [0x82]),
        many(20, () => frame(FRAME.continuation, 0, 1, Buffer.alloc(100))),
      ]),
    ],
    [
      'empty CONTINUATION',
      Buffer.concat([frame(FRAME.headers, 0, 1, [0x82]), many(20, () => frame(FRAME.continuation, 0, 1))]),
    ],
    [
      'fields of more than 32 KiB',
      Buffer.concat([
        frame(FRAME.headers, 0, 1, [0x82]),
        many(3, () => frame(FRAME.continuation, 0, 1, Buffer.alloc(16_384))),
      ]),
    ],
    [
      'compressed messages of streams',
      many(250, (i) =>
        Buffer.concat([requestHead(2 * i + 1, ECHO_STREAM), data(2 * i + 1, grpcMessage(HELLO, true), false)]),
      ),
    ],
  ])('%s', async (_title, bytes) => {
    const peer = await Peer.connect(server.port);
    peer.send(bytes);
    expect(await peer.fault()).toBe(CODE.enhanceYourCalm);
  });
});

describe('calls that bring something', () => {
  it('pay for the frames that go with them', async () => {
    const peer = await Peer.connect(server.port);
    for (let i = 0; i < 5_000; i += 1) {
      const extra = [frame(FRAME.windowUpdate, 0, 0, uint32(1)), frame(FRAME.ping, 0, 0, Buffer.alloc(8))];
      peer.send(request(2 * i + 1, HELLO), ...extra);
      if (i % 100 === 0) await peer.answer(2 * i + 1);
    }
    expect(await peer.stillServes(10_001)).toBe(true);
    expect(peer.of(FRAME.goaway)).toEqual([]);
    peer.close();
  });

  it('that are reset keep their place until their work is done: no more work is begun than is announced', async () => {
    const before = server.slowCalls();
    const peer = await Peer.connect(server.port);
    peer.send(many(MAX_CALLS + 10, (i) => Buffer.concat([request(2 * i + 1, HELLO, SLOW), reset(2 * i + 1)])));
    expect((await peer.answer(2 * MAX_CALLS + 1)).resetCode).toBe(CODE.refusedStream);
    expect(server.slowCalls() - before).toBe(MAX_CALLS);
    server.release();
    expect(await peer.stillServes(9_001)).toBe(true);
    peer.close();
  });

  it('are refused beyond the number that is announced, and may come again', async () => {
    const peer = await Peer.connect(server.port);
    peer.send(many(MAX_CALLS + 1, (i) => request(2 * i + 1, HELLO, SLOW)));
    expect((await peer.answer(2 * MAX_CALLS + 1)).resetCode).toBe(CODE.refusedStream);
    const before = server.slowCalls();
    server.release();
    expect((await peer.answer(1)).messages).toEqual(['hello']);
    expect(await peer.stillServes(9_001)).toBe(true);
    expect(server.slowCalls()).toBe(before);
    peer.close();
  });
});

describe('fields', () => {
  it('of more than 16 KiB are refused, and the next ones are read right', async () => {
    const peer = await Peer.connect(server.port);
    // Two fields of one byte each, from the table, for each of 4,000 bytes: 4 KiB of memory, 8 MB as a list.
    const large = Buffer.concat([Buffer.from([0x40, 1, 0x78, 0x7f, 0xa1, 0x1e]), Buffer.alloc(4_000, 'v')]);
    peer.send(frame(FRAME.headers, 5, 1, [...block(requestFields()), ...large, ...Buffer.alloc(2_000, 0xbe)]));
    const { fields } = await peer.answer(1);
    expect([fields.get('grpc-status'), fields.get('grpc-message')]).toEqual([
      '8',
      'the fields are more than 16384 bytes',
    ]);
    peer.send(frame(FRAME.headers, 4, 3, [...block(requestFields(ECHO)), 0xbe]), data(3, grpcMessage(HELLO)));
    expect((await peer.answer(3)).messages).toEqual(['hello']);
    peer.close();
  });
});

describe('a peer that does not read', () => {
  it('is asked no more once its answers fill its socket', async () => {
    const peer = await Peer.connect(server.port);
    peer.send(frame(FRAME.windowUpdate, 0, 0, uint32(2 ** 31 - 65_536)), setting(4, 2 ** 31 - 1));
    await peer.until(FRAME.settings);
    const sent = await askUntilStuck(peer);
    expect(sent).toBeLessThan(5_000);
    // It is not lost: it reads, and all is there.
    peer.socket.resume();
    expect((await peer.answer(2 * sent - 1)).messages[0]).toHaveLength(16_000);
    peer.close();
  });

  it('loses its stream when what it does not take grows beyond its share', async () => {
    const peer = await Peer.connect(server.port);
    peer.send(setting(4, 0), requestHead(1, ECHO_STREAM));
    const message = grpcMessage(Buffer.alloc(200_000, 'm'));
    for (let i = 0; i < 60; i += 1) {
      for (let at = 0; at < message.length; at += 16_384) peer.send(data(1, message.subarray(at, at + 16_384), false));
    }
    expect((await peer.answer(1)).resetCode).toBe(CODE.enhanceYourCalm);
    peer.send(setting(4, 65_535));
    expect(await peer.stillServes(3)).toBe(true);
    peer.close();
  });

  it('loses the call whose answer is beyond its share, without being told that it went well', async () => {
    const peer = await Peer.connect(server.port);
    peer.send(setting(4, 0));
    const message = grpcMessage(Buffer.alloc(200_000, 'm'));
    const streams = Array.from({ length: 60 }, (_, i) => 2 * i + 1);
    for (const id of streams) {
      peer.send(requestHead(id, SLOW));
      for (let at = 0; at < message.length; at += 16_384) {
        peer.send(data(id, message.subarray(at, at + 16_384), at + 16_384 >= message.length));
      }
    }
    const before = server.slowCalls();
    await eventually(() => expect(server.slowCalls() - before).toBe(60));
    server.release();
    expect(await peer.answer(119)).toMatchObject({ resetCode: CODE.enhanceYourCalm, messages: [] });
    expect(peer.of(FRAME.headers, 119).filter(({ flags }) => (flags & 1) !== 0)).toEqual([]);
    peer.close();
  });

  it('cannot keep more unfinished messages than its share', async () => {
    const peer = await Peer.connect(server.port);
    const part = grpcMessage(Buffer.alloc(200_000)).subarray(0, 16_384);
    const streams = Array.from({ length: 700 }, (_, i) => 2 * i + 1);
    for (const id of streams) peer.send(requestHead(id), data(id, part, false));
    const answer = await peer.answer(1_399);
    expect(answer.fields.get('grpc-status')).toBe('8');
    expect(answer.fields.get('grpc-message')).toBe('too many bytes of unfinished messages');
    peer.send(...streams.slice(0, 500).map(reset));
    expect(await peer.stillServes(1_401)).toBe(true);
    peer.close();
  });

  it('leaves nothing behind when it goes: all together have a share too', async () => {
    const part = grpcMessage(Buffer.alloc(200_000)).subarray(0, 16_384);
    // 6.5 MB each, 78 MB in all, of 64 MiB.
    for (let i = 0; i < 12; i += 1) {
      const peer = await Peer.connect(server.port);
      for (let id = 1; id < 800; id += 2) peer.send(requestHead(id), data(id, part, false));
      expect(await peer.stillServes(801)).toBe(true);
      expect(peer.of(FRAME.headers, 799)).toEqual([]);
      peer.close();
    }
  });
});
