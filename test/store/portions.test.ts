import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { portionsOf } from '../../store/portions.ts';

const sizeOf = (item: number): number => item;

describe('portions', () => {
  it.each<[readonly number[], number[][]]>([
    [[], []],
    [
      [4, 4, 2, 1],
      [[4, 4, 2], [1]],
    ],
    [
      [4, 4, 3],
      [[4, 4], [3]],
    ],
    [[30], [[30]]],
    [
      [1, 30, 1],
      [[1], [30], [1]],
    ],
    [[0, 10, 0], [[0, 10, 0]]],
  ])('of %j that hold 10', (items, portions) => {
    expect([...portionsOf(items, 10, sizeOf)]).toEqual(portions);
  });

  it('have every item once, in order, and are as few as that allows', () => {
    fc.assert(
      fc.property(fc.array(fc.nat(20)), fc.integer({ min: 1, max: 30 }), (items, most) => {
        const portions = [...portionsOf(items, most, sizeOf)];
        expect(portions.flat()).toEqual(items);
        const sizes = portions.map((portion) => portion.reduce((sum, item) => sum + item, 0));
        expect(sizes.filter((size, index) => size > most && portions[index]?.length !== 1)).toEqual([]);
        const hadRoom = sizes.slice(0, -1).filter((size, index) => size + (portions[index + 1]?.[0] ?? 0) <= most);
        expect(hadRoom).toEqual([]);
      }),
    );
  });
});
