import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { FRAME } from '../../../../limiter/grpc/http2/frames.ts';
import {
  block,
  ECHO,
  ECHO_STREAM,
  type EchoServer,
  frame,
  grpcMessage,
  Peer,
  requestFields,
  SLOW,
  startEcho,
  uint32,
} from './peer.ts';

let server: EchoServer;
beforeAll(async () => {
  server = await startEcho();
});
afterAll(() => server.close());

const streamId = fc.oneof({ weight: 9, arbitrary: fc.constantFrom(1, 3, 5, 7) }, { weight: 1, arbitrary: fc.nat(12) });
const flags = fc.oneof(fc.constantFrom(0, 1, 4, 5), fc.nat(255));
const message = fc.oneof(
  fc.uint8Array({ maxLength: 40 }).map((bytes) => grpcMessage(bytes)),
  fc.uint8Array({ maxLength: 40 }).map((bytes) => grpcMessage(bytes, true)),
  fc.uint8Array({ maxLength: 40 }),
);
const fields = fc
  .record({
    path: fc.constantFrom(ECHO, ECHO_STREAM, SLOW, '/nothing'),
    encoding: fc.constantFrom('gzip', 'identity', 'deflate'),
  })
  .map(({ path, encoding }) => block([...requestFields(path), ['grpc-encoding', encoding]]));
const settings = fc
  .record({ id: fc.nat(8), value: fc.oneof(fc.nat(70_000), fc.nat(2 ** 31 - 1)) })
  .map(({ id, value }) => [0, id, ...uint32(value)]);

/** Frames that mean something, most of them, in an order that may not. */
const anyFrame = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.tuple(fields, flags, streamId).map(([payload, flag, id]) => frame(FRAME.headers, flag, id, payload)),
  },
  {
    weight: 8,
    arbitrary: fc.tuple(message, flags, streamId).map(([payload, flag, id]) => frame(FRAME.data, flag, id, payload)),
  },
  { weight: 2, arbitrary: settings.map((payload) => frame(FRAME.settings, 0, 0, payload)) },
  {
    weight: 3,
    arbitrary: fc
      .tuple(fc.nat(2 ** 31 - 1), streamId)
      .map(([bytes, id]) => frame(FRAME.windowUpdate, 0, id % 8, uint32(bytes))),
  },
  { weight: 2, arbitrary: streamId.map((id) => frame(FRAME.resetStream, 0, id, uint32(8))) },
  {
    weight: 1,
    arbitrary: fc
      .tuple(fc.nat(10), flags, streamId, fc.uint8Array({ maxLength: 30 }))
      .map(([type, flag, id, payload]) => frame(type, flag, id, payload)),
  },
);

describe('frames of any kind in any order', () => {
  it('are answered or end their connection, and are never a fault of ours', async () => {
    const steady = await Peer.connect(server.port);
    let next = 1;
    await fc.assert(
      fc.asyncProperty(fc.array(anyFrame, { maxLength: 40 }), fc.boolean(), async (frames, isLeftOpen) => {
        const peer = await Peer.connect(server.port);
        peer.send(...frames);
        if (isLeftOpen) peer.socket.end();
        else peer.close();
        expect(await steady.stillServes(next)).toBe(true);
        next += 2;
        server.release();
        expect(server.errors).toEqual([]);
      }),
      { numRuns: 400 },
    );
    steady.close();
  }, 120_000);
});
