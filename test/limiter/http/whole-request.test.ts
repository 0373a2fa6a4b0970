// Whatever is read here must be what Node's reader makes of the same bytes; all else must be left to it.
import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readHead } from '../../../limiter/http/whole-request.ts';

type Seen = { readonly method: unknown; readonly url: unknown; readonly headers: object; readonly body: string };

const seen: Seen[] = [];
let node: Server;
beforeAll(async () => {
  node = createServer({ maxHeaderSize: 32_768 }, (request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      const { method, url, headers } = request;
      seen.push({ method, url, headers: { ...headers }, body: Buffer.concat(chunks).toString('latin1') });
      response.writeHead(200, { connection: 'close' }).end();
    });
  });
  node.listen(0, '127.0.0.1');
  await once(node, 'listening');
});
afterAll(() => void node.close());

/** What Node makes of these bytes when nothing follows them: all requests that it sees in them. */
async function readByNode(bytes: Buffer): Promise<Seen[]> {
  seen.length = 0;
  // A closed port is no server: whatever is listened on is a port.
  const { port } = node.address() as AddressInfo;
  const socket = connect(port, '127.0.0.1');
  socket.on('error', () => undefined);
  socket.resume();
  socket.write(bytes);
  if (!socket.closed) await once(socket, 'close');
  return [...seen];
}

const USUAL = [
  'content-type',
  'User-Agent',
  'accept',
  'Accept-Encoding',
  'X-Request-ID',
  'x-forwarded-for',
  'set-cookie',
];
const UNUSUAL = [
  'transfer-encoding',
  'connection',
  'expect',
  'upgrade',
  'cookie',
  'Host',
  'Content-Length',
  'te',
  '__proto__',
];
const VALUES = [
  'a',
  '',
  ' padded\t',
  '5',
  '0',
  'keep-alive',
  'Keep-Alive',
  'close',
  'chunked',
  'a: b',
  '"q"; v=1',
  'ü',
];

const letters = (text: string): string[] => text.split('');

const name = fc.oneof(
  { weight: 12, arbitrary: fc.constantFrom(...USUAL) },
  { weight: 2, arbitrary: fc.constantFrom(...UNUSUAL) },
  {
    weight: 1,
    arbitrary: fc.string({ unit: fc.constantFrom(...letters("aZ0-_.!#$%&'*+^`|~ (:,\t")), minLength: 1, maxLength: 8 }),
  },
);
const line = fc
  .tuple(name, fc.constantFrom(':', ': ', ': ', ': ', ':\t ', ' :'), fc.constantFrom(...VALUES))
  .map((one) => one.join(''));
const target = fc.oneof(
  fc.constantFrom(
    '/',
    '/v1/decision/check',
    '/authz/payments/a?b=c',
    '*',
    'http://a/b',
    '/%zz',
    '/a#b',
    '/ü',
    '//',
    '/a b',
  ),
  fc
    .string({ unit: fc.constantFrom(...letters('aZ09-._~%!$&\'()*+,;=:@/?[]{}\\"<>^`|#')), maxLength: 12 })
    .map((rest) => `/${rest}`),
);
const method = fc.constantFrom(
  'GET',
  'POST',
  'PUT',
  'GET',
  'POST',
  'POST',
  'PUT',
  'PATCH',
  'DELETE',
  'OPTIONS',
  'HEAD',
  'BREW',
  'post',
  'PRI',
);
const version = fc.oneof(
  { weight: 12, arbitrary: fc.constant('HTTP/1.1') },
  fc.constantFrom('HTTP/1.0', 'HTTP/2.0', 'http/1.1', 'HTTP/1.1 '),
);

/** A request that is right but for what its parts have of their own, then perhaps with some bytes changed. */
const request = fc
  .record({
    method,
    target,
    version,
    lines: fc.array(line, { maxLength: 6 }),
    body: fc.constantFrom('', 'hello', '{"a":1}'),
  })
  .chain(({ method: verb, target: path, version: protocol, lines, body }) => {
    const head = [`${verb} ${path} ${protocol}`, 'Host: a', ...(body === '' ? [] : [`content-length: ${body.length}`])];
    const text = `${[...head, ...lines].join('\r\n')}\r\n\r\n${body}`;
    const change = fc.tuple(
      fc.nat(text.length),
      fc.nat(1),
      fc.constantFrom('\r', '\n', '\r\n', '\0', ' ', '\t', ':', 'a', '0', '\x7f', '\xe9', ''),
    );
    return fc.oneof(fc.constant([]), fc.array(change, { maxLength: 2 })).map((changes) => {
      let changed = text;
      for (const [at, gone, put] of changes) changed = changed.slice(0, at) + put + changed.slice(at + gone);
      return Buffer.from(changed, 'latin1');
    });
  });

describe('the head of a request', () => {
  it('is what Node reads, wherever it is read at all', async () => {
    let read = 0;
    await fc.assert(
      fc.asyncProperty(request, async (bytes) => {
        const head = readHead(bytes);
        if (head === undefined || head.end > bytes.length) return;
        read += 1;
        const { method: verb, url, headers, bodyStart, end } = head;
        const body = bytes.toString('latin1', bodyStart, end);
        const expected = { method: verb, url, headers: Object.fromEntries(headers), body };
        // A cookie that comes once is a list of one for Node.
        const cookie = headers.get('set-cookie');
        const asNode =
          cookie === undefined ? expected : { ...expected, headers: { ...expected.headers, 'set-cookie': [cookie] } };
        expect((await readByNode(bytes.subarray(0, end))).map((one) => ({ ...one }))).toEqual([asNode]);
      }),
      { numRuns: 12_000 },
    );
    expect(read).toBeGreaterThan(500);
  }, 240_000);

  it.each([
    [
      'curl',
      'POST /check HTTP/1.1\r\nHost: a:8080\r\nUser-Agent: curl/8.5.0\r\nAccept: */*\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}',
    ],
    [
      'fetch',
      'POST /check HTTP/1.1\r\nhost: a\r\nconnection: keep-alive\r\ncontent-type: text/plain;charset=UTF-8\r\naccept: */*\r\naccept-language: *\r\nsec-fetch-mode: cors\r\nuser-agent: node\r\naccept-encoding: gzip, deflate\r\ncontent-length: 2\r\n\r\n{}',
    ],
    [
      'Go',
      'POST /check HTTP/1.1\r\nHost: a\r\nUser-Agent: Go-http-client/1.1\r\nContent-Length: 2\r\nContent-Type: application/json\r\nAccept-Encoding: gzip\r\n\r\n{}',
    ],
    [
      'Envoy',
      'GET /authz/payments/a?b=1 HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\nx-envoy-internal: true\r\nx-forwarded-for: 10.0.0.1\r\nx-envoy-expected-rq-timeout-ms: 250\r\n\r\n',
    ],
    [
      'nginx, kept alive',
      'GET /authz/payments/ HTTP/1.1\r\nX-Original-URI: /a\r\nX-Original-Method: GET\r\nHost: a\r\n\r\n',
    ],
  ])('is read as it is sent by %s', (_by, text) => {
    const head = readHead(Buffer.from(text));
    expect(head?.end).toBe(text.length);
    expect(head?.headers.get('host')).toMatch(/^a/);
  });

  it.each([
    ['no host', 'GET / HTTP/1.1\r\naccept: a\r\n\r\n'],
    ['no header', 'GET / HTTP/1.1\r\n\r\n'],
    ['an old version', 'GET / HTTP/1.0\r\nhost: a\r\n\r\n'],
    ['a method with an answer of its own', 'HEAD / HTTP/1.1\r\nhost: a\r\n\r\n'],
    ['a whole URL', 'GET http://a/ HTTP/1.1\r\nhost: a\r\n\r\n'],
    ['a body in chunks', 'POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n'],
    ['both lengths', 'POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n'],
    ['two lengths', 'POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\nContent-Length: 5\r\n\r\nhello'],
    ['a list of lengths', 'POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5, 5\r\n\r\nhello'],
    ['a signed length', 'POST / HTTP/1.1\r\nhost: a\r\ncontent-length: +5\r\n\r\nhello'],
    ['an empty length', 'POST / HTTP/1.1\r\nhost: a\r\ncontent-length:\r\n\r\n'],
    ['a length that is too long', `POST / HTTP/1.1\r\nhost: a\r\ncontent-length: ${'9'.repeat(20)}\r\n\r\n`],
    ['a header twice', 'GET / HTTP/1.1\r\nhost: a\r\nx-a: 1\r\nX-A: 2\r\n\r\n'],
    ['two hosts', 'GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n'],
    ['a folded line', 'GET / HTTP/1.1\r\nhost: a\r\nx-a: 1\r\n 2\r\n\r\n'],
    ['a space before the colon', 'GET / HTTP/1.1\r\nhost : a\r\n\r\n'],
    ['a line without a colon', 'GET / HTTP/1.1\r\nhost: a\r\nnothing\r\n\r\n'],
    ['a bare line feed', 'GET / HTTP/1.1\r\nhost: a\nx-a: 1\r\n\r\n'],
    ['a bare carriage return', 'GET / HTTP/1.1\r\nhost: a\rx-a: 1\r\n\r\n'],
    ['a byte that is not ASCII', 'GET / HTTP/1.1\r\nhost: a\r\nx-a: \xe9\r\n\r\n'],
    ['a zero byte', 'GET / HTTP/1.1\r\nhost: a\r\nx-a: \0\r\n\r\n'],
    ['an empty line first', '\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n'],
    ['the end of its connection', 'GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n'],
    ['the end of its connection, as to a proxy', 'GET / HTTP/1.1\r\nhost: a\r\nproxy-connection: close\r\n\r\n'],
    ['an upgrade', 'GET / HTTP/1.1\r\nhost: a\r\nupgrade: h2c\r\n\r\n'],
    ['a question before its body', 'POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\n\r\n'],
    ['more than 8 KiB', `GET / HTTP/1.1\r\nhost: a\r\nx-a: ${'a'.repeat(8_192)}\r\n\r\n`],
    ['no end', 'GET / HTTP/1.1\r\nhost: a\r\n'],
  ])('is left to Node where it has %s', (_what, text) => {
    expect(readHead(Buffer.from(text, 'latin1'))).toBeUndefined();
  });
});
