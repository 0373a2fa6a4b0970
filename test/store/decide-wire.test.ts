import { describe, expect, it } from 'vitest';
import { decodeVerdict } from '../../store/decide-wire.ts';
import { aWindow } from '../harness/limits.ts';
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
