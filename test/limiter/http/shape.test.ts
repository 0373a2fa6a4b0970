import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  batchRequestSchema,
  decisionRequestSchema,
  MAX_BATCH,
  MAX_COST,
  MAX_PAIRS,
} from '../../../limiter/http/request.ts';
import { isBatchRequest, isDecisionRequest } from '../../../limiter/http/shape.ts';

/** As a body has it. `__proto__` is a field like others there. */
const sent = (value: unknown): unknown => JSON.parse(JSON.stringify(value));

const text = (length: number): string => 'x'.repeat(length);

const pairs = (count: number): Record<string, string> =>
  Object.fromEntries(Array.from({ length: count }, (_, index) => [`name-${index}`, 'value']));

/** Of each field what is just allowed, and what is just not. */
const VALUES: Readonly<Record<string, readonly unknown[]>> = {
  domain: ['payments', '', text(253), text(254), 'a\ud800b', '\ud83d\ude00'],
  api_key: ['slk_x', '', text(1_024), text(4_096), text(4_097), text(65_000)],
  consumer: ['acme', '', text(256), text(257), '\udc00'],
  tenant: ['t', '', text(256), text(257)],
  tier: ['free', '', text(63), text(64)],
  ip: ['10.0.0.1', '010.0.0.1', '2001:db8::1', '::ffff:1.2.3.4', 'localhost', '', text(65), '1.2.3.4\u0000'],
  method: ['GET', 'get', 'X-Y', '-GET', '', text(16), text(17), 'GET\n', 'G1'],
  path: ['/', '/a/b', 'a', '', '/%zz', '/%00', '/a%2fb', `/${text(8_191)}`, `/${text(8_192)}`, '/\ud800'],
  host: ['example.com', '', text(255), text(256)],
  headers: [{}, { a: '' }, { a: 1 }, { '': 'a' }, { [text(64)]: 'a' }, { [text(65)]: 'a' }, pairs(MAX_PAIRS)],
  attributes: [{ a: text(8_192) }, { a: text(8_193) }, { a: '\ud800' }, { '\ud800': 'a' }, pairs(MAX_PAIRS + 1), []],
  descriptors: [{ a: null }, { a: 'b', c: 'd' }, 'text', ['a'], { constructor: 'a', toString: 'b' }],
  cost: [1, 0, 2, -1, 1.5, MAX_COST, MAX_COST + 1, 1e300, '1'],
  mode: ['consume', 'peek', 'Peek', ''],
  refundable: [true, false, 'true', 0],
  request_id: ['a', '', text(128), text(129), 'a b', 'a\n', '\u007f'],
  unknown: ['x'],
  constructor: ['x'],
};
const ODD = [null, 0, true, '', [], {}, 'text'];

const field = (name: string): fc.Arbitrary<unknown> =>
  fc.oneof({ arbitrary: fc.constantFrom(...(VALUES[name] ?? [])), weight: 20 }, fc.constantFrom(...ODD));

/** The first value of each field is allowed. */
const ALLOWED = Object.entries(VALUES).filter(([name]) => name !== 'unknown' && name !== 'constructor');
const good = fc
  .subarray(ALLOWED)
  .map((fields) => Object.fromEntries([...fields.map(([name, [value]]) => [name, value]), ['domain', 'payments']]));

/** Mostly requests that a caller could send, with one or two mistakes in them. */
const requests = fc.oneof(
  { arbitrary: good, weight: 5 },
  {
    arbitrary: fc.record(Object.fromEntries(Object.keys(VALUES).map((n) => [n, field(n)])), { requiredKeys: [] }),
    weight: 5,
  },
  {
    arbitrary: fc
      .tuple(fc.constantFrom(...Object.keys(VALUES)), fc.constantFrom(...Object.keys(VALUES)))
      .chain(([one, other]) =>
        fc.record({ domain: fc.constant('payments'), [one]: field(one), [other]: field(other) }),
      ),
    weight: 10,
  },
  fc.jsonValue(),
);

function expectAgreement(value: unknown): void {
  const parsed = decisionRequestSchema.safeParse(value);
  // What is not read by the schema is what the schema would have read.
  const wanted = parsed.success ? { isFine: true, value: parsed.data } : { isFine: false, value };
  expect({ isFine: isDecisionRequest(value), value }).toEqual(wanted);
}

describe('the shape of a decision request, looked at by hand', () => {
  it('is allowed exactly where the schema allows it, for each field', () => {
    for (const [name, values] of Object.entries(VALUES)) {
      for (const value of [...values, ...ODD]) expectAgreement(sent({ domain: 'payments', [name]: value }));
    }
    for (const value of [...ODD, { consumer: 'acme' }]) expectAgreement(value);
  });

  it('is allowed exactly where the schema allows it, for any request', () => {
    let allowed = 0;
    fc.assert(
      fc.property(requests, (request) => {
        const value = sent(request);
        expectAgreement(value);
        if (isDecisionRequest(value)) allowed += 1;
      }),
      { numRuns: 3_000 },
    );
    expect(allowed).toBeGreaterThan(300);
  });

  it('is left to the schema where a name has a meaning in JavaScript', () => {
    const value: unknown = JSON.parse('{"domain": "payments", "headers": {"__proto__": "a", "b": "c"}}');
    expect(isDecisionRequest(value)).toBe(false);
    expect(decisionRequestSchema.safeParse(value)).toMatchObject({ success: true, data: { headers: { b: 'c' } } });
    expect(isDecisionRequest(JSON.parse('{"domain": "payments", "__proto__": "a"}'))).toBe(false);
  });
});

describe('the shape of a batch, looked at by hand', () => {
  const check = { domain: 'payments', consumer: 'acme' };

  it.each([
    ['one check', { checks: [check] }],
    ['the most checks', { checks: Array.from({ length: MAX_BATCH }, () => check) }],
    ['one too many', { checks: Array.from({ length: MAX_BATCH + 1 }, () => check) }],
    ['no checks', { checks: [] }],
    ['one that is not allowed', { checks: [check, { ...check, cost: 0 }] }],
    ['another field', { checks: [check], other: 1 }],
    ['nothing', {}],
    ['no list', { checks: check }],
    ['a list', [check]],
    ['null', null],
  ])('is allowed exactly where the schema allows it: %s', (_title, value) => {
    expect(isBatchRequest(value)).toBe(batchRequestSchema.safeParse(value).success);
  });
});
