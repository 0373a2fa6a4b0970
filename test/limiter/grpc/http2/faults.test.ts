import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { CODE } from '../../../../limiter/grpc/http2/faults.ts';
import { FRAME, PREFACE } from '../../../../limiter/grpc/http2/frames.ts';
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

const { protocolError, flowControlError, frameSizeError, compressionError, streamClosed } = CODE;

let server: EchoServer;
beforeAll(async () => {
  server = await startEcho();
});
afterAll(async () => {
  await server.close();
  expect(server.errors).toEqual([]);
});

const [HELLO, NONE] = [grpcMessage(Buffer.from('hello')), Buffer.alloc(0)];
const fields = (streamId: number, ...more: [string, string][]): Buffer =>
  frame(FRAME.headers, 0x5, streamId, block([...requestFields(), ...more]));
const without = (name: string): Buffer =>
  frame(FRAME.headers, 0x5, 1, block(requestFields().filter(([one]) => one !== name)));

describe('a fault of the connection', () => {
  it.each<[string, Buffer]>([
    ['another preface', Buffer.from('GET / HTTP/1.1\r\nHost: a\r\n\r\n')],
    ['a preface that is wrong in its last byte', Buffer.concat([PREFACE.subarray(0, 23), Buffer.from('x')])],
    ['another frame before SETTINGS', Buffer.concat([PREFACE, frame(FRAME.ping, 0, 0, Buffer.alloc(8))])],
    ['an acknowledgement before SETTINGS', Buffer.concat([PREFACE, frame(FRAME.settings, 1, 0)])],
  ])('at its beginning: %s', async (_title, greeting) => {
    const peer = await Peer.connect(server.port, greeting);
    expect(await peer.fault()).toBe(protocolError);
  });

  it.each<[string, number, Buffer[]]>([
    ['DATA of no stream', protocolError, [data(0, HELLO)]],
    ['DATA of a stream that has not begun', protocolError, [data(1, HELLO)]],
    ['more padding than DATA', protocolError, [requestHead(1), frame(FRAME.data, 0x9, 1, [3, 0, 0])]],
    ['DATA that is padded and empty', frameSizeError, [requestHead(1), frame(FRAME.data, 0x9, 1)]],
    ['HEADERS of no stream', protocolError, [requestHead(0)]],
    ['HEADERS of a stream of servers', protocolError, [requestHead(2)]],
    ['HEADERS of an older stream', protocolError, [request(5, NONE), requestHead(3)]],
    ['HEADERS that depend on themselves', protocolError, [frame(FRAME.headers, 0x24, 1, [...uint32(1), 0])]],
    ['HEADERS with half a priority', frameSizeError, [frame(FRAME.headers, 0x24, 1, [0, 0])]],
    ['more padding than HEADERS', protocolError, [frame(FRAME.headers, 0xc, 1, [9, 0x82])]],
    [
      'another frame amid fields',
      protocolError,
      [frame(FRAME.headers, 0, 1, [0x82]), frame(FRAME.ping, 0, 0, Buffer.alloc(8))],
    ],
    [
      'fields of another stream amid fields',
      protocolError,
      [frame(FRAME.headers, 0, 1, [0x82]), frame(FRAME.continuation, 4, 3)],
    ],
    ['CONTINUATION of nothing', protocolError, [frame(FRAME.continuation, 4, 1)]],
    ['CONTINUATION after the end of fields', protocolError, [requestHead(1), frame(FRAME.continuation, 4, 1)]],
    ['PRIORITY of no stream', protocolError, [frame(FRAME.priority, 0, 0, Buffer.alloc(5))]],
    ['PRIORITY that depends on itself', protocolError, [frame(FRAME.priority, 0, 7, [...uint32(7), 0])]],
    ['PRIORITY of four bytes', frameSizeError, [frame(FRAME.priority, 0, 1, Buffer.alloc(4))]],
    ['RST_STREAM of no stream', protocolError, [frame(FRAME.resetStream, 0, 0, uint32(8))]],
    ['RST_STREAM of a stream that has not begun', protocolError, [frame(FRAME.resetStream, 0, 1, uint32(8))]],
    ['RST_STREAM of three bytes', frameSizeError, [requestHead(1), frame(FRAME.resetStream, 0, 1, [0, 0, 8])]],
    ['SETTINGS of a stream', protocolError, [frame(FRAME.settings, 0, 1)]],
    ['SETTINGS of five bytes', frameSizeError, [frame(FRAME.settings, 0, 0, Buffer.alloc(5))]],
    ['an acknowledgement with SETTINGS', frameSizeError, [frame(FRAME.settings, 1, 0, Buffer.alloc(6))]],
    ['ENABLE_PUSH of 2', protocolError, [setting(2, 2)]],
    ['INITIAL_WINDOW_SIZE of 2^31', flowControlError, [setting(4, 2 ** 31)]],
    ['MAX_FRAME_SIZE of 16,383', protocolError, [setting(5, 16_383)]],
    ['MAX_FRAME_SIZE of 2^24', protocolError, [setting(5, 2 ** 24)]],
    ['PUSH_PROMISE', protocolError, [frame(FRAME.pushPromise, 4, 1, uint32(2))]],
    ['PING of a stream', protocolError, [frame(FRAME.ping, 0, 1, Buffer.alloc(8))]],
    ['PING of seven bytes', frameSizeError, [frame(FRAME.ping, 0, 0, Buffer.alloc(7))]],
    ['GOAWAY of a stream', protocolError, [frame(FRAME.goaway, 0, 1, Buffer.alloc(8))]],
    ['GOAWAY of seven bytes', frameSizeError, [frame(FRAME.goaway, 0, 0, Buffer.alloc(7))]],
    ['WINDOW_UPDATE of three bytes', frameSizeError, [frame(FRAME.windowUpdate, 0, 0, Buffer.alloc(3))]],
    ['WINDOW_UPDATE by nothing', protocolError, [frame(FRAME.windowUpdate, 0, 0, uint32(0))]],
    ['WINDOW_UPDATE of a stream that has not begun', protocolError, [frame(FRAME.windowUpdate, 0, 1, uint32(1))]],
    ['WINDOW_UPDATE above 2^31', flowControlError, [frame(FRAME.windowUpdate, 0, 0, uint32(2 ** 31 - 1))]],
    [
      'a stream’s window above 2^31 by SETTINGS',
      flowControlError,
      [requestHead(1, ECHO_STREAM), frame(FRAME.windowUpdate, 0, 1, uint32(2 ** 31 - 65_536)), setting(4, 65_536)],
    ],
    ['a frame of 16,385 bytes', frameSizeError, [requestHead(1), data(1, Buffer.alloc(16_385))]],
    ['an index of 0', compressionError, [frame(FRAME.headers, 4, 1, [0x80])]],
    ['an index of nothing', compressionError, [frame(FRAME.headers, 4, 1, [0xff, 0])]],
    ['fields that end in an integer', compressionError, [frame(FRAME.headers, 4, 1, [0x82, 0xff])]],
    ['an integer without end', compressionError, [frame(FRAME.headers, 4, 1, [0xff, ...Array(9).fill(0x80), 1])]],
    [
      'an integer beyond all bounds',
      compressionError,
      [frame(FRAME.headers, 4, 1, [0xff, 0xff, 0xff, 0xff, 0xff, 0x7f])],
    ],
    ['a text that is longer than its block', compressionError, [frame(FRAME.headers, 4, 1, [0, 9, 0x61])]],
    ['a table of 4,097 bytes', compressionError, [frame(FRAME.headers, 4, 1, [0x3f, 0xe2, 0x1f])]],
    ['a change of the table after a field', compressionError, [frame(FRAME.headers, 4, 1, [0x82, 0x20])]],
    ['Huffman code with EOS', compressionError, [frame(FRAME.headers, 4, 1, [0, 0x84, 255, 255, 255, 255, 1, 0x61])]],
    [
      'Huffman code with eight bits of padding',
      compressionError,
      [frame(FRAME.headers, 4, 1, [0, 0x82, 0x1f, 0xff, 1, 0x61])],
    ],
    ['Huffman code padded with zeros', compressionError, [frame(FRAME.headers, 4, 1, [0, 0x81, 0x18, 1, 0x61])]],
  ])('is told by its code: %s', async (_title, code, frames) => {
    const peer = await Peer.connect(server.port);
    peer.send(...frames);
    expect(await peer.fault()).toBe(code);
  });
});

describe('a fault of a stream', () => {
  it.each<[string, number, Buffer[]]>([
    ['no method', protocolError, [without(':method')]],
    ['no path', protocolError, [without(':path')]],
    ['no scheme', protocolError, [without(':scheme')]],
    ['an empty path', protocolError, [frame(FRAME.headers, 5, 1, block(requestFields('')))]],
    ['two paths', protocolError, [frame(FRAME.headers, 5, 1, block([[':path', '/'], ...requestFields()]))]],
    [
      'a pseudo-header after others',
      protocolError,
      [frame(FRAME.headers, 5, 1, block([['a', 'b'], ...requestFields()]))],
    ],
    [
      'a pseudo-header of answers',
      protocolError,
      [frame(FRAME.headers, 5, 1, block([[':status', '200'], ...requestFields()]))],
    ],
    [
      'a pseudo-header that is unknown',
      protocolError,
      [frame(FRAME.headers, 5, 1, block([[':what', 'a'], ...requestFields()]))],
    ],
    ['a name in upper case', protocolError, [fields(1, ['X-Name', 'a'])]],
    ['a name with a space', protocolError, [fields(1, ['x name', 'a'])]],
    ['an empty name', protocolError, [fields(1, ['', 'a'])]],
    ['a value with a line end', protocolError, [fields(1, ['x', 'a\r\nb: c'])]],
    ['a field of a connection', protocolError, [fields(1, ['connection', 'close'])]],
    ['transfer-encoding', protocolError, [fields(1, ['transfer-encoding', 'chunked'])]],
    ['te other than trailers', protocolError, [fields(1, ['te', 'gzip'])]],
    ['two content types', protocolError, [fields(1, ['content-type', 'application/grpc'])]],
    ['two lengths', protocolError, [fields(1, ['content-length', '0'], ['content-length', '0'])]],
    ['a length that is no number', protocolError, [fields(1, ['content-length', '1a'])]],
    [
      'more DATA than announced',
      protocolError,
      [frame(FRAME.headers, 4, 1, block([...requestFields(), ['content-length', '3']])), data(1, HELLO, false)],
    ],
    [
      'less DATA than announced',
      protocolError,
      [frame(FRAME.headers, 4, 1, block([...requestFields(), ['content-length', '99']])), data(1, HELLO)],
    ],
    [
      'trailers that do not end',
      protocolError,
      [requestHead(1), data(1, HELLO, false), frame(FRAME.headers, 4, 1, block([['a', 'b']]))],
    ],
    [
      'trailers with a pseudo-header',
      protocolError,
      [requestHead(1), data(1, HELLO, false), frame(FRAME.headers, 5, 1, block([[':path', '/']]))],
    ],
    ['WINDOW_UPDATE by nothing', protocolError, [requestHead(1), frame(FRAME.windowUpdate, 0, 1, uint32(0))]],
    [
      'WINDOW_UPDATE above 2^31',
      flowControlError,
      [requestHead(1), frame(FRAME.windowUpdate, 0, 1, uint32(2 ** 31 - 1))],
    ],
    ['DATA after its end', streamClosed, [request(1, NONE, '/test.Echo/Slow'), data(1, HELLO)]],
    ['HEADERS after its end', streamClosed, [request(1, NONE, '/test.Echo/Slow'), fields(1)]],
  ])('ends it by its code, and no other: %s', async (_title, code, frames) => {
    const peer = await Peer.connect(server.port);
    peer.send(...frames);
    expect((await peer.answer(1)).resetCode).toBe(code);
    expect(await peer.stillServes(3)).toBe(true);
    peer.close();
  });

  it('is DATA for a stream that was answered to its end', async () => {
    const peer = await Peer.connect(server.port);
    expect(await peer.stillServes(1)).toBe(true);
    peer.send(data(1, HELLO));
    expect((await peer.until(FRAME.resetStream, 1)).payload.readUInt32BE(0)).toBe(streamClosed);
    expect(await peer.stillServes(3)).toBe(true);
    peer.close();
  });
});

describe('what is allowed and seldom seen', () => {
  const hello = async (...frames: Buffer[]): Promise<string | undefined> => {
    const peer = await Peer.connect(server.port);
    peer.send(...frames);
    const { messages } = await peer.answer(1);
    peer.close();
    return messages[0];
  };
  const head = block(requestFields(ECHO));

  it.each<[string, Buffer[]]>([
    [
      'padding',
      [frame(FRAME.headers, 0xc, 1, [4, ...head, 0, 0, 0, 0]), frame(FRAME.data, 0x9, 1, [2, ...HELLO, 0, 0])],
    ],
    ['padding and nothing else', [requestHead(1), frame(FRAME.data, 0x8, 1, [2, 0, 0]), data(1, HELLO)]],
    ['a priority', [frame(FRAME.headers, 0x24, 1, [...uint32(3), 16, ...head]), data(1, HELLO)]],
    [
      'fields in many frames',
      [
        frame(FRAME.headers, 0, 1, head.subarray(0, 1)),
        frame(FRAME.continuation, 0, 1),
        frame(FRAME.continuation, 0, 1, head.subarray(1, 20)),
        frame(FRAME.continuation, 4, 1, head.subarray(20)),
        data(1, HELLO),
      ],
    ],
    ['trailers', [requestHead(1), data(1, HELLO, false), frame(FRAME.headers, 5, 1, block([['a', 'b']]))]],
    ['an end by itself', [requestHead(1), data(1, HELLO, false), data(1, NONE)]],
    [
      'a message byte by byte',
      [requestHead(1), ...[...HELLO].map((byte) => data(1, Buffer.from([byte]), false)), data(1, NONE)],
    ],
    [
      'frames and settings that are unknown',
      [frame(0x42, 0xff, 9, [1]), setting(0x42, 7), requestHead(1), data(1, HELLO)],
    ],
    [
      'PRIORITY of a stream that has not begun',
      [frame(FRAME.priority, 0, 7, Buffer.alloc(5)), requestHead(1), data(1, HELLO)],
    ],
    [
      'GOAWAY of a client that waits for its answers',
      [requestHead(1), frame(FRAME.goaway, 0, 0, Buffer.alloc(8)), data(1, HELLO)],
    ],
    ['the reserved bit of a number', [frame(FRAME.headers, 4, 1 + 2 ** 31, head), data(1 + 2 ** 31, HELLO)]],
    [
      'a length that is right',
      [frame(FRAME.headers, 4, 1, block([...requestFields(), ['content-length', '10']])), data(1, HELLO)],
    ],
    [
      'a table of no bytes and then of 4,096',
      [frame(FRAME.headers, 4, 1, [0x20, 0x3f, 0xe1, 0x1f, ...head]), data(1, HELLO)],
    ],
  ])('is understood: %s', async (_title, frames) => {
    expect(await hello(...frames)).toBe('hello');
  });

  it('is a PING, which is answered with what it carries', async () => {
    const peer = await Peer.connect(server.port);
    peer.send(frame(FRAME.ping, 0, 0, Buffer.from('12345678')));
    const { flags, payload } = await peer.until(FRAME.ping);
    expect([flags, payload.toString()]).toEqual([1, '12345678']);
    peer.close();
  });
});
