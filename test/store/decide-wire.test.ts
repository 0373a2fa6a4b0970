import { describe, expect, it } from 'vitest';
import { DecideArguments, decodeVerdict } from '../../store/decide-wire.ts';
import { createNames } from '../../store/names.ts';
import { aWindow } from '../harness/limits.ts';
import { aPenalty } from '../harness/penalties.ts';
import { plainRequest } from '../harness/plain.ts';

const request = plainRequest('p', [aWindow({ subject: 'alice', capacity: 5 })]);

describe('the verdict on one request', () => {
  it('is read from numbers between spaces, up to the largest exact one', () => {
    expect(decodeVerdict(request, '0 -1 1 2 0 -1 9007199254740991')).toEqual({
      code: 'denied',
      retryAfterMicros: -1,
      byThrottle: true,
      penalties: [],
      rules: [
        {
          outcome: 'Denied',
          limits: [{ remaining: 0, retryAfterMicros: -1, resetAfterMicros: 9_007_199_254_740_991 }],
        },
      ],
    });
  });

  it('has the penalties before the rules, each in the order of the request', () => {
    const penalties = [aPenalty('alice'), aPenalty('bob')];
    const punishable = { ...request, selection: { ...request.selection, penalties } };
    expect(decodeVerdict(punishable, '1 0 0 1 2 3000000 7 4 3 -1 9 1 4 0 6000000')).toEqual({
      code: 'admitted',
      retryAfterMicros: 0,
      byThrottle: false,
      penalties: [
        { before: 'WARN', after: 'THROTTLE', endsInMicros: 3_000_000, violations: 7 },
        { before: 'BLOCK', after: 'TEMP_BLOCK', endsInMicros: -1, violations: 9 },
      ],
      rules: [{ outcome: 'Admitted', limits: [{ remaining: 4, retryAfterMicros: 0, resetAfterMicros: 6_000_000 }] }],
    });
    expect(() => decodeVerdict(punishable, '1 0 0 1 5 3000000 7 0 0 0 0 1 4 0 6000000')).toThrow(
      expect.objectContaining({ code: 'BAD_REPLY' }),
    );
  });

  it.each([
    ['nothing', ''],
    ['too short', '0 -1 1 2 0 -1'],
    ['too long', '0 -1 1 2 0 -1 5 6'],
    ['a space at the end', '0 -1 1 2 0 -1 5 '],
    ['two spaces', '0 -1  1 2 0 -1 5'],
    ['a fraction', '0 -1 1 2 0 -1 5.5'],
    ['an exponent', '0 -1 1 2 0 -1 5e3'],
    ['no number', '0 -1 1 2 0 -1 nan'],
    ['a sign alone', '0 - 1 2 0 -1 5'],
    ['two signs', '0 --1 1 2 0 -1 5'],
    ['more than is exact', '0 -1 1 2 0 -1 9007199254740992'],
    ['an unknown code', '4 -1 1 2 0 -1 5'],
    ['an unknown outcome', '0 -1 1 7 0 -1 5'],
  ])('is not had from %s', (_title, text) => {
    expect(() => decodeVerdict(request, text)).toThrow(expect.objectContaining({ code: 'BAD_REPLY' }));
  });
});

describe('the arguments of a batch', () => {
  const askedFor = (subject: string, capacity: number) => plainRequest('p', [aWindow({ subject, capacity })]);
  /** For each request of the batch the text of its shape. */
  const shapesOf = (requests: readonly ReturnType<typeof askedFor>[]): unknown[] => {
    const { args } = new DecideArguments(createNames('x'), requests);
    const count = Number(args[0]);
    return requests.map((_, i) => args[Number(args[1 + count + 2 * i])]);
  };

  it('have one shape for all requests that differ in their subjects only', () => {
    const { args, keys } = new DecideArguments(createNames('x'), [askedFor('alice', 5), askedFor('bob', 5)]);
    expect(args.slice(0, 1)).toEqual([1]);
    expect(args.slice(2)).toEqual([1, 1, 1, 1]);
    expect(keys).toHaveLength(2);
  });

  it('have the numbers of each request, whatever was asked before it', () => {
    const texts = shapesOf([askedFor('a', 5), askedFor('b', 6), askedFor('c', 6), askedFor('d', 5)]);
    expect(texts).toEqual([5, 6, 6, 5].map((capacity) => expect.stringContaining(` 2 ${capacity} ${capacity} 60 `)));
  });
});
