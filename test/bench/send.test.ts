import { once } from 'node:events';
import { createServer, type RequestListener, type Server } from 'node:http';
import { afterEach, describe, expect, it } from 'vitest';
import type { Load } from '../../bench/senders/load.ts';
import { findWrk, send } from '../../bench/senders/send.ts';

const STALL_MILLIS = 600;

let server: Server | undefined;

afterEach(() => {
  server?.closeAllConnections();
  server?.close();
  server = undefined;
});

async function serve(listener: RequestListener): Promise<number> {
  server = createServer(listener).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  if (typeof address !== 'object' || address === null) throw new Error('the server has no port');
  return address.port;
}

const aLoad = (port: number, overrides: Partial<Load> = {}): Load => ({
  protocol: 'http',
  port,
  sender: 'own',
  requests: ['GET /########/one HTTP/1.1\r\nhost: a\r\n\r\n', 'GET /########/two HTTP/1.1\r\nhost: a\r\n\r\n'],
  subjects: 1_000,
  fragments: ['"allowed":true'],
  count: 1,
  connections: 4,
  seconds: 1,
  ...overrides,
});

const RIGHT = '{"allowed":true}';
const signal = new AbortController().signal;

describe('a sender of the benchmark', () => {
  it('counts what a stall did to requests that could not be sent meanwhile', async () => {
    let answers = 0;
    const port = await serve((_request, response) => {
      answers += 1;
      // Everything stands still: nothing is read, nothing is answered.
      if (answers === 400) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, STALL_MILLIS);
      response.end(RIGHT);
    });
    const result = await send(aLoad(port, { ratePerSecond: 1_000 }), signal);
    // About half of 1,000 requests were due while nothing was answered, but only four could have been under way.
    expect(result.p99Millis).toBeGreaterThan(STALL_MILLIS / 2);
    expect(result.responses).toBeGreaterThanOrEqual(1_000);
  }, 30_000);

  for (const sender of findWrk() === undefined ? (['own'] as const) : (['own', 'fastest'] as const)) {
    it(`sends every request with another subject (sender: ${sender})`, async () => {
      const paths = new Set<string>();
      const subjects = new Set<string>();
      const port = await serve(({ url = '' }, response) => {
        const [, subject = '', path = ''] = url.split('/');
        subjects.add(subject);
        paths.add(path);
        response.end(RIGHT);
      });
      const { responses } = await send(aLoad(port, { sender }), signal);
      expect(paths).toEqual(new Set(['one', 'two']));
      expect(subjects.size).toBeGreaterThanOrEqual(Math.min(responses, 1_000));
      expect([...subjects].every((subject) => /^\d{8}$/.test(subject))).toBe(true);
    }, 30_000);

    it(`refuses to measure wrong answers (sender: ${sender})`, async () => {
      const port = await serve((_request, response) => response.end('{"allowed":false}'));
      await expect(send(aLoad(port, { sender }), signal)).rejects.toThrow(/answers are wrong.*allowed/s);
    }, 30_000);

    it(`refuses to measure answers that are not 200 (sender: ${sender})`, async () => {
      const port = await serve((_request, response) => response.writeHead(503).end('no configuration'));
      await expect(send(aLoad(port, { sender }), signal)).rejects.toThrow(/are refusals.*no configuration/s);
    }, 30_000);
  }
});
