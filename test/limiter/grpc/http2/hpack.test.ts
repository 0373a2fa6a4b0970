import { once } from 'node:events';
import { connect, sensitiveHeaders } from 'node:http2';
import { createServer, type Socket } from 'node:net';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ConnectionFault } from '../../../../limiter/grpc/http2/faults.ts';
import { FrameReader } from '../../../../limiter/grpc/http2/frame-reader.ts';
import { FLAG, FRAME } from '../../../../limiter/grpc/http2/frames.ts';
import { HpackDecoder } from '../../../../limiter/grpc/http2/hpack.ts';
import { eventually } from '../../../harness/eventually.ts';
import { block, frame, setting } from './peer.ts';

const LIMIT = 1_000_000;

/** Takes what a client of node:http2 sends, and keeps the blocks of fields. */
type Catcher = {
  readonly port: number;
  readonly blocks: Buffer[];
  readonly send: (bytes: Buffer) => void;
  close(): void;
};

async function startCatcher(): Promise<Catcher> {
  const blocks: Buffer[] = [];
  let parts: Buffer[] = [];
  let current: Socket | undefined;
  const server = createServer((socket) => {
    current = socket;
    const reader = new FrameReader({
      onFrame: (type, flags, _streamId, payload) => {
        if (type === FRAME.settings && (flags & FLAG.ack) === 0) socket.write(frame(FRAME.settings, FLAG.ack, 0));
        if (type !== FRAME.headers && type !== FRAME.continuation) return;
        // A client of node:http2 says a priority with each request.
        parts.push(Buffer.from((flags & FLAG.priority) === 0 ? payload : payload.subarray(5)));
        if ((flags & FLAG.endHeaders) === 0) return;
        blocks.push(Buffer.concat(parts));
        parts = [];
      },
    });
    socket.on('error', () => undefined);
    socket.on('data', (chunk) => reader.read(chunk));
    socket.write(Buffer.concat([frame(FRAME.settings, 0, 0)]));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  const port = typeof address === 'object' && address !== null ? address.port : 0;
  return { port, blocks, send: (bytes) => current?.write(bytes), close: () => server.close() };
}

let catcher: Catcher;
beforeAll(async () => {
  catcher = await startCatcher();
});
afterAll(() => catcher.close());

const name = fc.stringMatching(/^x-[a-z0-9_.!#$%&'*+^`|~-]{1,30}$/);
const value = fc
  .oneof(
    fc.string({ unit: 'grapheme-ascii', maxLength: 60 }),
    fc
      .array(
        fc.integer({ min: 0x21, max: 0xff }).filter((code) => code !== 0x7f),
        { maxLength: 300 },
      )
      .map((codes) => String.fromCharCode(...codes)),
  )
  .map((text) => text.trim());
const headers = fc.dictionary(name, value, { maxKeys: 12, noNullPrototype: true });
/** Requests of one connection: some fields again and again, some kept out of tables, and the size of the table changed. */
const requests = fc.array(
  fc.record({
    headers,
    isSensitive: fc.boolean(),
    tableBytes: fc.option(fc.integer({ min: 0, max: 4_096 }), { freq: 4 }),
  }),
  { minLength: 1, maxLength: 12 },
);

describe('fields as node:http2 compresses them', () => {
  it('are read as they were sent, whatever is in the table and however large that is', async () => {
    await fc.assert(
      fc.asyncProperty(requests, async (asked) => {
        catcher.blocks.length = 0;
        const session = connect(`http://127.0.0.1:${catcher.port}`);
        session.on('error', () => undefined);
        await once(session, 'remoteSettings');
        const decoder = new HpackDecoder();
        for (const [index, { headers: sent, isSensitive, tableBytes }] of asked.entries()) {
          if (tableBytes !== null) {
            catcher.send(setting(1, tableBytes));
            await once(session, 'remoteSettings');
          }
          const names = Object.keys(sent);
          session
            .request({
              ':method': 'POST',
              ':path': `/${index % 3}`,
              ...sent,
              ...(isSensitive ? { [sensitiveHeaders]: names } : {}),
            })
            .on('error', () => undefined);
          const bytes = await eventually(() => {
            const caught = catcher.blocks[index];
            if (caught === undefined) throw new Error('it has not come');
            return caught;
          });
          const read = new Map(decoder.decode(bytes, LIMIT)?.map((field) => [field.name, field.value]));
          expect(read.get(':path')).toBe(`/${index % 3}`);
          for (const one of names) expect([one, read.get(one)]).toEqual([one, sent[one]]);
        }
        session.destroy();
      }),
      { numRuns: 40 },
    );
  }, 120_000);
});

describe('a decoder', () => {
  it('reads any bytes as fields or finds the fault of their sender', () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 200 }), { maxLength: 5 }), (blocks) => {
        const decoder = new HpackDecoder();
        const faultOf = (bytes: Uint8Array): unknown => {
          try {
            decoder.decode(Buffer.from(bytes), LIMIT);
            return undefined;
          } catch (error) {
            return error instanceof ConnectionFault ? undefined : error;
          }
        };
        expect(blocks.map(faultOf).filter((error) => error !== undefined)).toEqual([]);
      }),
      { numRuns: 3_000 },
    );
  });

  it('counts 32 bytes for each field besides its text', () => {
    const fields = block([['a', 'bc']]);
    expect(new HpackDecoder().decode(fields, 35)).toHaveLength(1);
    expect(new HpackDecoder().decode(fields, 34)).toBeUndefined();
  });

  it('evicts the oldest when its table is full, and all for one that is larger than the table', () => {
    const decoder = new HpackDecoder();
    const kept = (text: string): Buffer =>
      Buffer.from([0x40, 1, text.charCodeAt(0), 0x7f, 0xa1, 0x0f, ...Buffer.alloc(2_000 + 80, text)]);
    const newest = Buffer.from([0xbe]);
    const namesOf = (bytes: Buffer): string[] | undefined => decoder.decode(bytes, LIMIT)?.map((field) => field.name);
    decoder.decode(kept('a'), LIMIT);
    expect(namesOf(newest)).toEqual(['a']);
    decoder.decode(kept('b'), LIMIT);
    expect(namesOf(newest)).toEqual(['b']);
    expect(() => new HpackDecoder().decode(newest, LIMIT)).toThrow('there is no field 62');
    expect(() => decoder.decode(Buffer.from([0xbf]), LIMIT)).toThrow('there is no field 63');
  });

  // RFC 7541, C.4.1 and C.4.2.
  it('reads the examples of its specification', () => {
    const decoder = new HpackDecoder();
    const read = (hex: string) =>
      decoder.decode(Buffer.from(hex, 'hex'), LIMIT)?.map((field) => [field.name, field.value]);
    const first = [
      [':method', 'GET'],
      [':scheme', 'http'],
      [':path', '/'],
      [':authority', 'www.example.com'],
    ];
    expect(read('828684418cf1e3c2e5f23a6ba0ab90f4ff')).toEqual(first);
    expect(read('828684be5886a8eb10649cbf')).toEqual([...first, ['cache-control', 'no-cache']]);
  });
});
