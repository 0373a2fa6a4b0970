import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';

const ROOT = join(import.meta.dirname, '../..');

/** The properties that the table must have, each at least once. */
const NUMBERS = [
  ...range(1, 9),
  ...range(11, 22),
  25,
  26,
  28,
  29,
  ...range(33, 38),
  ...range(40, 46),
  ...range(52, 56),
  58,
  59,
];

function range(first: number, last: number): number[] {
  return Array.from({ length: last - first + 1 }, (_, i) => first + i);
}

const rows = readFileSync(join(ROOT, 'docs/bounds.md'), 'utf8')
  .split('\n')
  .map((line) => /^\| (\d+) +\|.*\]\(\.\.\/(test\/[^)]+)\) *\| (.*?) *\|$/.exec(line))
  .filter((match) => match !== null)
  .map(([, number = '', file = '', title = '']) => ({ number: Number(number), file, title }));

describe('the table of properties in docs/bounds.md', () => {
  it('has every property', () => {
    expect([...new Set(rows.map(({ number }) => number))]).toEqual(NUMBERS);
  });

  it.each(rows)('names a test that is there: $number, $file', ({ file, title }) => {
    expect(title).not.toBe('');
    expect(readFileSync(join(ROOT, file), 'utf8')).toContain(title);
  });
});
