// Bad input, made from a seed: the same number gives the same inputs.

export type Random = { below(bound: number): number; pick<T>(list: readonly T[]): T };

export function seeded(seed: number): Random {
  let state = seed >>> 0;
  // mulberry32
  const next = (): number => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
  const below = (bound: number): number => Math.floor(next() * bound);
  return {
    below,
    pick: (list) => {
      const item = list[below(list.length)];
      if (item === undefined) throw new RangeError('nothing to pick from');
      return item;
    },
  };
}

const FIELDS = [
  'domain',
  'api_key',
  'consumer',
  'tenant',
  'tier',
  'ip',
  'method',
  'path',
  'host',
  'headers',
  'attributes',
  'descriptors',
  'cost',
  'mode',
  'refundable',
  'request_id',
  'checks',
  'identifier',
  'entries',
  'key',
  'value',
  'hitsAddend',
  'hits_addend',
  'isNegativeHits',
  'limit',
  'requestsPerUnit',
  'unit',
  '__proto__',
  'constructor',
  'toString',
  'prototype',
  '0',
  '-1',
  '',
] as const;

const TEXTS = [
  '"payments"',
  '"fuzz"',
  '""',
  '"a"',
  '"\\ud800"',
  '"\\udc00\\ud800"',
  '"\\u0000"',
  '"\u202e"',
  '"/v1/%zz"',
  '"/../../etc"',
  '"127.0.0.1"',
  '"::1%eth0"',
  '"999.1.1.1"',
  '"GET"',
  '"peek"',
  '"consume"',
  '"__proto__"',
  '"slk_x"',
  '"*"',
] as const;
const SCALARS = [
  '0',
  '1',
  '-1',
  '-0',
  '1e400',
  '1e-400',
  '0.1',
  '9007199254740993',
  '4294967296',
  '1000001',
  'true',
  'false',
  'null',
  'NaN',
  '01',
  '[]',
  '{}',
] as const;

/** JSON text, often nearly right: that gets deepest. */
export function jsonText(random: Random): string {
  // The large ones are few: they cost a hundred times as much as the others.
  switch (random.below(100)) {
    case 0: {
      const depth = random.below(20_000) + 1;
      const open = random.pick(['[', '{"domain":', '{"headers":{"a":']);
      return open.repeat(Math.min(depth, Math.floor(30_000 / open.length))) + (random.below(2) === 0 ? '1' : '');
    }
    case 1:
      return `{"domain":"payments","headers":{${integerKeys(random.below(4_000))}}}`;
    default:
      return random.below(8) === 0
        ? damaged(random, Buffer.from(nearlyRight(random))).toString('latin1')
        : nearlyRight(random);
  }
}

function nearlyRight(random: Random): string {
  const base = random.pick([
    '"domain":"payments","consumer":"c"',
    '"domain":"payments","descriptors":[{"entries":[{"key":"user","value":"u"}]}]',
    '"identifier":"i"',
    '"checks":[{"domain":"payments"}]',
    '"request_id":"r"',
  ]);
  const more = Array.from({ length: random.below(4) }, () => `"${random.pick(FIELDS)}":${value(random, 0)}`);
  return `{${[base, ...more].join(',')}}`;
}

function value(random: Random, depth: number): string {
  switch (depth > 3 ? random.below(2) : random.below(5)) {
    case 0:
      return random.pick(TEXTS);
    case 1:
      return random.pick(SCALARS);
    case 2:
      return `[${Array.from({ length: random.below(4) }, () => value(random, depth + 1)).join(',')}]`;
    case 3:
      return `"${'x'.repeat(random.pick([1, 63, 64, 253, 254, 256, 257, 512, 513, 8_192, 8_193]))}"`;
    default:
      return `{${Array.from({ length: random.below(4) }, () => `"${random.pick(FIELDS)}":${value(random, depth + 1)}`).join(',')}}`;
  }
}

const integerKeys = (count: number): string => Array.from({ length: count }, (_, i) => `"${i * 7}":"v"`).join(',');

/** Some bytes changed, left out or doubled. */
export function damaged(random: Random, bytes: Buffer): Buffer {
  const copy = Buffer.from(bytes);
  for (let i = random.below(8) + 1; i > 0; i -= 1) copy[random.below(copy.length)] = random.below(256);
  const cut = random.below(copy.length);
  switch (random.below(4)) {
    case 0:
      return copy.subarray(0, cut);
    case 1:
      return Buffer.concat([copy, copy.subarray(cut)]);
    default:
      return copy;
  }
}

const SMUGGLED = 'GET /health HTTP/1.1\r\nHost: smuggled\r\n\r\n';

/** Requests on whose end two servers may not agree. None of them may be answered as two requests, the second one fine. */
export const SMUGGLING: readonly string[] = [
  `POST /check HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n${SMUGGLED}`,
  `POST /check HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nContent-Length: 44\r\n\r\n${SMUGGLED}`,
  `POST /check HTTP/1.1\r\nHost: a\r\nContent-Length: 0, 44\r\n\r\n${SMUGGLED}`,
  `POST /check HTTP/1.1\r\nHost: a\r\nContent-Length: +4\r\n\r\nabcd${SMUGGLED}`,
  `POST /check HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n${SMUGGLED}`,
  `POST /check HTTP/1.1\r\nHost: a\r\nContent-Length : 4\r\n\r\nabcd${SMUGGLED}`,
  `POST /check HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n${SMUGGLED}`,
  `POST /check HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n${SMUGGLED}`,
  `POST /check HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n${SMUGGLED}`,
  `POST /check HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n${SMUGGLED}`,
  `POST /check HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n${SMUGGLED}`,
  `POST /check HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n${SMUGGLED}`,
  `POST /check HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0x2\r\n{}\r\n0\r\n\r\n${SMUGGLED}`,
  `POST /check HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\n{}\n0\n\n${SMUGGLED}`,
  `POST /check HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n${SMUGGLED}`,
  `POST /check HTTP/1.1\r\nHost: a\r\nX: a\rTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n${SMUGGLED}`,
  `POST /check HTTP/1.1\nHost: a\nContent-Length: 0\n\n${SMUGGLED}`,
  `GET /health\r\n${SMUGGLED}`,
  `POST /check HTTP/1.1\r\nContent-Length: 0\r\n\r\n${SMUGGLED}`,
];

const REQUESTS: readonly string[] = [
  'POST /v1/decision/check HTTP/1.1\r\nHost: a\r\nContent-Length: 38\r\n\r\n{"domain":"payments","consumer":"alice"}',
  'GET /authz/payments/v1/a%20b?x=1 HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1.2.3.4\r\nX-API-Key: k\r\n\r\n',
  'POST /json HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n',
  'CONNECT example.com:443 HTTP/1.1\r\nHost: a\r\n\r\n',
  'GET http://example.com/health HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n',
  'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n',
  'OPTIONS * HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n{}',
];

/** Bytes for a connection: a damaged request, noise, or headers beyond measure. */
export function rawBytes(random: Random): Buffer {
  switch (random.below(8)) {
    case 0:
      return Buffer.from(Array.from({ length: random.below(600) + 1 }, () => random.below(256)));
    case 1:
      return Buffer.from(`GET /health HTTP/1.1\r\nHost: a\r\nX: ${'y'.repeat(random.below(70_000))}\r\n\r\n`);
    case 2:
      return Buffer.from(`GET /authz/payments/${'a/'.repeat(random.below(20_000))} HTTP/1.1\r\nHost: a\r\n\r\n`);
    case 3:
      return Buffer.from(random.pick(SMUGGLING));
    default:
      return damaged(random, Buffer.from(random.pick(REQUESTS)));
  }
}
