import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { MostDenied } from '../../limiter/most-denied.ts';

const ROOM = 5;

function trueCounts(names: readonly string[]): Map<string, number> {
  const counts = new Map<string, number>();
  for (const name of names) counts.set(name, (counts.get(name) ?? 0) + 1);
  return counts;
}

/** A few who come often, among many who do not. */
const name = fc.oneof(
  { arbitrary: fc.constantFrom('a', 'b', 'c', 'd'), weight: 3 },
  { arbitrary: fc.nat({ max: 60 }).map((n) => `n${n}`), weight: 2 },
);

describe('the most denied', () => {
  it('are counted exactly while all of them find room', () => {
    const most = new MostDenied(ROOM);
    for (const who of ['a', 'b', 'a', 'c', 'a', 'b']) most.note(who, `reason of ${who}`, 7);
    expect(most.top()).toEqual([
      { who: 'a', denials: 3, uncertainty: 0, lastReason: 'reason of a', lastAtMillis: 7 },
      { who: 'b', denials: 2, uncertainty: 0, lastReason: 'reason of b', lastAtMillis: 7 },
      { who: 'c', denials: 1, uncertainty: 0, lastReason: 'reason of c', lastAtMillis: 7 },
    ]);
  });

  it('give the place of one of the least to a newcomer, who is uncertain by its count', () => {
    const most = new MostDenied(2);
    for (const who of ['a', 'a', 'a', 'b', 'b', 'c']) most.note(who, 'r', 0);
    expect(most.top()).toMatchObject([
      { who: 'a', denials: 3, uncertainty: 0 },
      { who: 'c', denials: 3, uncertainty: 2 },
    ]);
    most.note('d', 'r', 1);
    expect(most.top().map(({ denials }) => denials)).toEqual([4, 3]);
  });

  it('are bounded as they say, and whoever has more than one in so many denials is among them', () => {
    fc.assert(
      fc.property(fc.array(name, { maxLength: 300, size: 'max' }), (names) => {
        const most = new MostDenied(ROOM);
        const seen: string[] = [];
        for (const who of names) {
          const before = most.top();
          most.note(who, 'r', 0);
          seen.push(who);
          const top = most.top();
          // Only one of the least ever goes.
          const gone = before.filter((one) => !top.some((other) => other.who === one.who));
          expect(gone.map(({ denials }) => denials)).toEqual(
            gone.map(() => Math.min(...before.map(({ denials }) => denials))),
          );
          expect(gone.length).toBeLessThanOrEqual(before.length === ROOM ? 1 : 0);
        }
        const counts = trueCounts(seen);
        const top = most.top();
        expect(top.length).toBe(Math.min(ROOM, counts.size));
        expect(top.reduce((sum, { denials }) => sum + denials, 0)).toBe(seen.length);
        for (const { who, denials, uncertainty } of top) {
          expect(counts.get(who)).toBeLessThanOrEqual(denials);
          expect(counts.get(who)).toBeGreaterThanOrEqual(denials - uncertainty);
        }
        const often = [...counts].filter(([, count]) => count > seen.length / ROOM).map(([who]) => who);
        expect(top.map(({ who }) => who)).toEqual(expect.arrayContaining(often));
      }),
      { numRuns: 60 },
    );
  });
});
