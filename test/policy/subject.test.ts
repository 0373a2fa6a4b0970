import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { RequestContext } from '../../policy/selection.ts';
import { aPolicy, selectAmong } from './builders.ts';

/** The subject under which a request is counted by these axes. */
function subject(countBy: string[], request: RequestContext): string | undefined {
  return selectAmong([aPolicy().withRule({ countBy }).document()], request).rules[0]?.limits[0]?.subject;
}

const AXES = ['consumer', 'tenant', 'header:a', 'header:b', 'descriptor:a', 'attribute:a'] as const;
type Values = Readonly<Record<(typeof AXES)[number], string>>;

function requestWith(values: Values): RequestContext {
  return {
    consumer: values.consumer,
    tenant: values.tenant,
    headers: new Map([
      ['a', values['header:a']],
      ['b', values['header:b']],
    ]),
    descriptors: new Map([['a', values['descriptor:a']]]),
    attributes: new Map([['a', values['attribute:a']]]),
  };
}

/** Few different ones, so that some are equal by chance. */
const value = fc.oneof(fc.constantFrom('', 'a', 'b', 'a:b', '1:a'), fc.string());
const values: fc.Arbitrary<Values> = fc.record({
  consumer: value,
  tenant: value,
  'header:a': value,
  'header:b': value,
  'descriptor:a': value,
  'attribute:a': value,
});
const axes = fc.shuffledSubarray([...AXES], { minLength: 1, maxLength: 4 });

describe('a subject', () => {
  it('is the same in whatever order its axes are written', () => {
    fc.assert(
      fc.property(axes, values, (countBy, given) => {
        expect(subject(countBy.toReversed(), requestWith(given))).toBe(subject(countBy, requestWith(given)));
      }),
    );
  });

  it('is the same for the same axes and values, and for no others', () => {
    const identity = (countBy: readonly (keyof Values)[], given: Values): string =>
      JSON.stringify(countBy.toSorted().map((axis) => [axis, given[axis]]));
    fc.assert(
      fc.property(axes, values, axes, values, (oneAxes, one, otherAxes, other) => {
        const isSame = subject(oneAxes, requestWith(one)) === subject(otherAxes, requestWith(other));
        expect(isSame).toBe(identity(oneAxes, one) === identity(otherAxes, other));
      }),
      { numRuns: 2_000 },
    );
  });

  it('does not confuse where one value ends and the next begins, whatever separators these contain', () => {
    const separator = fc.oneof(fc.constantFrom('', ':', '/', '|', ',', ' ', '=', '\n', '\u0000'), fc.string());
    const pieces = fc.array(value, { minLength: 3, maxLength: 5 });
    fc.assert(
      fc.property(pieces, separator, (parts, between) => {
        // Joined by this separator, with the names of the axes, all of these would be one text.
        const join = (some: readonly string[]): string => some.join(`${between}tenant${between}`);
        const cuts = parts.slice(1).map((_, index) => index + 1);
        const subjects = cuts.map((cut) =>
          subject(['consumer', 'tenant'], { consumer: join(parts.slice(0, cut)), tenant: join(parts.slice(cut)) }),
        );
        expect(new Set(subjects).size).toBe(cuts.length);
      }),
    );
  });

  it('says nothing of its values in the key', () => {
    expect(subject(['consumer'], { consumer: 'key:acme' })).toMatch(/^[A-Za-z0-9_-]{22}$/);
  });
});
