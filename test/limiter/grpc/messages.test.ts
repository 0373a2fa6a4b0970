import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { answerMessage, healthMessage, readRequest, readService } from '../../../limiter/grpc/messages.ts';
import { loadProtocol, serviceOf } from '../../../limiter/grpc/protocol.ts';
import { HEALTH_SERVICE, RATE_LIMIT_SERVICE } from '../../../limiter/grpc/services.ts';
import { BadMessage } from '../../../limiter/grpc/wire.ts';
import { CODES, type RlsAnswer, UNITS } from '../../../limiter/rls/answer.ts';
import type { RlsRequest } from '../../../limiter/rls/request.ts';

// protobufjs with the files of proto/: the other opinion on what the bytes mean.
const protocol = loadProtocol();
function methodOf(service: string, name: string) {
  const method = serviceOf(protocol, service)[name];
  if (method === undefined) throw new Error(`there is no method ${name}`);
  return method;
}
const shouldRateLimit = methodOf(RATE_LIMIT_SERVICE, 'ShouldRateLimit');
const check = methodOf(HEALTH_SERVICE, 'Check');

const UINT32 = 2 ** 32 - 1;
const text = fc.oneof(fc.string({ maxLength: 40 }), fc.string({ unit: 'binary', maxLength: 300 }));
const uint32 = fc.oneof(fc.nat(200), fc.integer({ min: 0, max: UINT32 }));
const uint64 = fc.oneof(fc.nat(3), fc.maxSafeNat());

const request: fc.Arbitrary<RlsRequest> = fc.record({
  domain: text,
  hitsAddend: uint32,
  descriptors: fc.array(
    fc.record({
      entries: fc.array(fc.record({ key: text, value: text }), { maxLength: 4 }),
      hitsAddend: fc.option(uint64, { nil: undefined }),
      isNegativeHits: fc.boolean(),
      limit: fc.option(fc.record({ requestsPerUnit: uint32, unit: fc.nat(2 ** 31 - 1) }), { nil: undefined }),
    }),
    { maxLength: 6 },
  ),
});

const asMessage = ({ domain, hitsAddend, descriptors }: RlsRequest): object => ({
  domain,
  hits_addend: hitsAddend,
  descriptors: descriptors.map((one) => ({
    entries: one.entries,
    is_negative_hits: one.isNegativeHits,
    ...(one.hitsAddend === undefined ? {} : { hits_addend: { value: one.hitsAddend } }),
    ...(one.limit === undefined
      ? {}
      : { limit: { requests_per_unit: one.limit.requestsPerUnit, unit: one.limit.unit } }),
  })),
});

const answer: fc.Arbitrary<RlsAnswer> = fc.record({
  overallCode: fc.constantFrom('OK', 'OVER_LIMIT'),
  statuses: fc.array(
    fc.record({
      code: fc.constantFrom('OK', 'OVER_LIMIT'),
      currentLimit: fc.option(fc.record({ name: text, requestsPerUnit: uint32, unit: fc.constantFrom(...UNITS) }), {
        nil: undefined,
      }),
      limitRemaining: uint32,
      secondsUntilReset: fc.option(uint64, { nil: undefined }),
    }),
    { maxLength: 70 },
  ),
  headers: fc.dictionary(text, text, { maxKeys: 5, noNullPrototype: true }),
  metadata: fc.dictionary(text, fc.oneof(text, fc.double(), fc.nat()), { maxKeys: 5, noNullPrototype: true }),
});

const asAnswer = ({ overallCode, statuses, headers, metadata }: RlsAnswer): object => ({
  overall_code: CODES.indexOf(overallCode),
  statuses: statuses.map((one) => ({
    code: CODES.indexOf(one.code),
    current_limit:
      one.currentLimit === undefined
        ? null
        : {
            name: one.currentLimit.name,
            requests_per_unit: one.currentLimit.requestsPerUnit,
            unit: UNITS.indexOf(one.currentLimit.unit),
          },
    limit_remaining: one.limitRemaining,
    duration_until_reset: one.secondsUntilReset === undefined ? null : { seconds: one.secondsUntilReset, nanos: 0 },
  })),
  response_headers_to_add: Object.entries(headers).map(([key, value]) => ({ key, value, raw_value: Buffer.alloc(0) })),
  request_headers_to_add: [],
  raw_body: Buffer.alloc(0),
  dynamic_metadata: {
    fields: Object.fromEntries(
      Object.entries(metadata).map(([name, value]) => [
        name,
        typeof value === 'number' ? { numberValue: value } : { stringValue: value },
      ]),
    ),
  },
});

describe('the request of the rate limit service', () => {
  it('is read as protobufjs writes it', () => {
    fc.assert(
      fc.property(request, (asked) => {
        expect(readRequest(shouldRateLimit.requestSerialize(asMessage(asked)))).toEqual(asked);
      }),
      { numRuns: 1_000 },
    );
  });

  it.each<[string, string, object]>([
    ['fields that nobody knows', '0a0161 5001 5101020304050607089a0103616263 5d01020304 63086464', { domain: 'a' }],
    ['a field that is not written as it should be', '0801 1005 1a0161', { domain: '', hitsAddend: 0, descriptors: [] }],
    ['what comes twice: the last counts', '0a0161 0a0162 1801 1802', { domain: 'b', hitsAddend: 2 }],
    [
      'a limit in two parts: they are one',
      '120812021005 12020803',
      { descriptors: [{ limit: { requestsPerUnit: 3, unit: 5 } }] },
    ],
    ['an integer of more bits than its field has', '1882808080f0ffffffff01', { hitsAddend: 2 }],
    ['text that is no UTF-8', '0a02ff61', { domain: '\uFFFDa' }],
    ['no bytes', '', { domain: '', hitsAddend: 0, descriptors: [] }],
  ])('may have %s', (_title, hex, expected) => {
    expect(readRequest(Buffer.from(hex.replaceAll(' ', ''), 'hex'))).toMatchObject(expected);
  });

  it.each<[string, string]>([
    ['a text that is longer than the message', '0a0561'],
    ['a descriptor that is longer than the message', '12050a00'],
    ['an entry that is longer than its descriptor', '12040a050a00'],
    ['half an integer', '1880'],
    ['an integer that does not end', '18ffffffffffffffffffffff01'],
    ['the field 0', '0001'],
    ['a group that does not end', '63'],
    ['a group that ends as another', '636c'],
    ['the end of a group that has not begun', '64'],
    ['a wire type that there is not', '0f'],
    ['groups within groups', '63'.repeat(1_000)],
    ['a fixed field that is cut off', '5d0102'],
  ])('cannot have %s', (_title, hex) => {
    expect(() => readRequest(Buffer.from(hex, 'hex'))).toThrow(BadMessage);
  });

  it('of any bytes is read or is none, soon', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 400 }), request, fc.nat(), (bytes, asked, place) => {
        const damaged = Buffer.from(shouldRateLimit.requestSerialize(asMessage(asked)));
        damaged.set(bytes.subarray(0, Math.max(0, damaged.length - (place % 400))), 0);
        const faultOf = (message: Buffer): unknown => {
          try {
            readRequest(message);
            return undefined;
          } catch (error) {
            return error instanceof BadMessage ? undefined : error;
          }
        };
        expect([faultOf(Buffer.from(bytes)), faultOf(damaged)]).toEqual([undefined, undefined]);
      }),
      { numRuns: 3_000 },
    );
  });
});

describe('the answer of the rate limit service', () => {
  it('is read by protobufjs as it was meant', () => {
    fc.assert(
      fc.property(answer, (answered) => {
        expect(shouldRateLimit.responseDeserialize(answerMessage(answered))).toEqual(asAnswer(answered));
      }),
      { numRuns: 1_000 },
    );
  });

  it('has nothing of one before it that could not be written', () => {
    const [broken] = fc.sample(answer, 1);
    if (broken === undefined) throw new Error('there is no sample');
    const metadata = {
      get reason(): string {
        throw new Error('broken on purpose');
      },
    };
    expect(() => answerMessage({ ...broken, metadata })).toThrow('broken on purpose');
    expect(check.responseDeserialize(healthMessage(1))).toEqual({ status: 1 });
    expect(() => answerMessage({ ...broken, metadata })).toThrow('broken on purpose');
    expect(shouldRateLimit.responseDeserialize(answerMessage(broken))).toEqual(asAnswer(broken));
  });
});

describe('the messages of the health service', () => {
  it('are those of protobufjs', () => {
    fc.assert(
      fc.property(text, fc.nat(3), (service, status) => {
        expect(readService(check.requestSerialize({ service }))).toBe(service);
        expect(check.responseDeserialize(healthMessage(status))).toEqual({ status });
      }),
    );
  });
});
