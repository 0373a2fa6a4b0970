import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { changesBetween } from '../../operator/changes.ts';

const list = fc.uniqueArray(fc.nat(12));

describe('what changed from one list to the next', () => {
  it('is what only one of them has, wherever it stands', () => {
    fc.assert(
      fc.property(list, list, (before, now) => {
        const { gone, come } = changesBetween(before, now);
        expect(gone).toEqual(before.filter((one) => !now.includes(one)));
        expect(come).toEqual(now.filter((one) => !before.includes(one)));
      }),
      { numRuns: 500 },
    );
  });
});
