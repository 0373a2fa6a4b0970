// What Node's own server would write: its date, and its refusal of headers that would not be one line.
import { validateHeaderValue } from 'node:http';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { answerText } from '../../../limiter/http/answer-text.ts';

afterEach(() => vi.useRealTimers());

const textWith = (value: string): string => answerText({ status: 200, headers: { 'x-a': value }, body: 'ü' }).text;

/** The code of the error, if it is refused. */
function refusalOf(write: () => unknown): unknown {
  try {
    write();
    return undefined;
  } catch (error) {
    return Object(error).code;
  }
}

describe('the text of an answer', () => {
  it('has the date of now, however many answers there were before', () => {
    vi.useFakeTimers({ toFake: ['Date'] });
    for (const now of [1_800_000_000_000, 1_800_000_000_999, 1_800_000_001_000, 1_900_000_000_000]) {
      vi.setSystemTime(now);
      expect(textWith('a')).toContain(`\r\nDate: ${new Date(now).toUTCString()}\r\n`);
    }
  });

  it('has no character in a header that Node refuses, and none beyond ASCII, which a body in UTF-8 would change', () => {
    for (let code = 0; code < 0x180; code += 1) {
      const value = `a${String.fromCodePoint(code)}b`;
      const expected = code > 0x7f ? 'ERR_INVALID_CHAR' : refusalOf(() => validateHeaderValue('x-a', value));
      expect([code, refusalOf(() => textWith(value))]).toEqual([code, expected]);
    }
  });
});
