import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { pathMatches } from '../../policy/match.ts';
import { RouteIndex } from '../../policy/route-index.ts';
import type { PathMatcher } from '../../policy/schema/match.ts';
import { isExemptForEveryone, selectRules } from '../../policy/select.ts';
import { aPolicy, indexOf } from './builders.ts';

/** Few segments, so that random paths meet random matchers. */
const segment = fc.constantFrom('a', 'b', 'c', '{x}');
const path = fc
  .tuple(fc.array(segment, { maxLength: 4 }), fc.boolean())
  .map(([segments, isFolder]) => `/${segments.join('/')}${isFolder && segments.length > 0 ? '/' : ''}`);
const matcher: fc.Arbitrary<PathMatcher> = fc.oneof(
  path.map((value): PathMatcher => ({ type: 'Exact', value })),
  path.map((value): PathMatcher => ({ type: 'Prefix', value })),
  fc
    .array(fc.constantFrom('a', 'b', '{x}', '{y}'), { maxLength: 3 })
    .map((segments): PathMatcher => ({ type: 'Template', value: `/${[...segments, '{last}'].join('/')}` })),
);
const matchers = fc.array(matcher, { maxLength: 12 });

function indexing(all: readonly PathMatcher[]): RouteIndex<number> {
  const index = new RouteIndex<number>();
  all.forEach((one, i) => index.add(one, i));
  return index;
}

const positions = (found: readonly number[]): number[] => [...new Set(found)].toSorted((a, b) => a - b);

describe('an index of paths', () => {
  it('finds for a path what matches it, as if each matcher had been asked', () => {
    fc.assert(
      fc.property(matchers, path, (all, wanted) => {
        const expected = all.flatMap((one, i) => (pathMatches(one, wanted) ? [i] : []));
        expect(positions(indexing(all).matching(wanted))).toEqual(expected);
      }),
      { numRuns: 5_000 },
    );
  });

  it('finds for a matcher whatever shares a path with it', () => {
    fc.assert(
      fc.property(matchers, matcher, path, (all, wanted, shared) => {
        fc.pre(pathMatches(wanted, shared));
        const found = new Set(indexing(all).overlapping(wanted));
        const sharing = all.flatMap((one, i) => (pathMatches(one, shared) ? [i] : []));
        expect(sharing.filter((i) => !found.has(i))).toEqual([]);
      }),
      { numRuns: 3_000, maxSkipsPerRun: 1_000 },
    );
  });

  it.each<[PathMatcher, PathMatcher]>([
    [
      { type: 'Exact', value: '/a' },
      { type: 'Exact', value: '/a/' },
    ],
    [
      { type: 'Exact', value: '/a' },
      { type: 'Prefix', value: '/a/' },
    ],
    [
      { type: 'Prefix', value: '/a' },
      { type: 'Prefix', value: '/b' },
    ],
    [
      { type: 'Prefix', value: '/a' },
      { type: 'Prefix', value: '/ab' },
    ],
    [
      { type: 'Template', value: '/{x}' },
      { type: 'Exact', value: '/' },
    ],
    [
      { type: 'Template', value: '/{x}' },
      { type: 'Template', value: '/{x}/{y}' },
    ],
    [
      { type: 'Template', value: '/a/{x}' },
      { type: 'Prefix', value: '/b' },
    ],
  ])('keeps apart %j and %j', (one, other) => {
    expect(indexing([one]).overlapping(other)).toEqual([]);
    expect(indexing([other]).overlapping(one)).toEqual([]);
  });

  it('that was copied and changed finds what one finds that was made so, and leaves the other as it was', () => {
    fc.assert(
      fc.property(matchers, matchers, fc.array(fc.nat({ max: 11 })), path, (first, second, removed, wanted) => {
        const index = indexing(first);
        const before = index.matching(wanted);
        const copy = index.copy();
        const kept = first.map((one, i) => [one, i] as const).filter(([, i]) => !removed.includes(i));
        first.forEach((one, i) => (removed.includes(i) ? copy.remove(one, i) : undefined));
        second.forEach((one, i) => copy.add(one, first.length + i));
        // The one that was copied is changed as well: neither may show in the other.
        const changed = index.copy();
        index.add({ type: 'Prefix', value: '/' }, -1);
        const made = new RouteIndex<number>();
        for (const [one, i] of kept) made.add(one, i);
        second.forEach((one, i) => made.add(one, first.length + i));
        expect(positions(copy.matching(wanted))).toEqual(positions(made.matching(wanted)));
        expect(changed.matching(wanted)).toEqual(before);
        expect(positions(index.matching(wanted))).toEqual([-1, ...positions(before)]);
      }),
      { numRuns: 1_000 },
    );
  });

  it('of many policies selects what looking at each of them selects', () => {
    const rule = fc.record({ paths: fc.option(fc.array(matcher, { minLength: 1, maxLength: 3 }), { nil: undefined }) });
    const request = { consumer: 'caller:acme' };
    fc.assert(
      fc.property(fc.array(rule, { minLength: 5, maxLength: 12 }), path, (rules, wanted) => {
        const documents = rules.map(({ paths }, i) =>
          aPolicy()
            .named(`p${String(i).padStart(2, '0')}`)
            .withRule(paths === undefined ? {} : { match: { paths } })
            .document(),
        );
        const domain = indexOf(documents);
        const byIndex = selectRules(domain, { ...request, path: wanted }, 0, { healths: [] });
        const byAll = selectRules(domain, { ...request, path: wanted }, 0, { healths: [], onRule: () => undefined });
        expect(byIndex).toEqual(byAll);
      }),
      { numRuns: 500 },
    );
  });
});

describe('a request that nobody has to be identified for', () => {
  const probes = { name: 'probes', match: { paths: [{ type: 'Prefix' as const, value: '/healthz' }] } };
  const exempting = { ...aPolicy().document(), exemptions: [probes] };
  const onlyAPI = aPolicy()
    .named('api')
    .withRule({ match: { paths: [{ type: 'Prefix', value: '/v1' }] } })
    .document();

  it('is one that an exemption names and to which no other policy applies a rule', () => {
    const facts = { path: '/healthz/live', method: 'GET' };
    expect(isExemptForEveryone(indexOf([exempting]), facts)).toBe(true);
    expect(isExemptForEveryone(indexOf([exempting, onlyAPI]), facts)).toBe(true);
    const forAll = aPolicy().named('all').document();
    expect(isExemptForEveryone(indexOf([exempting, forAll]), facts)).toBe(false);
    const forPro = aPolicy()
      .named('pro')
      .withRule({ match: { tiers: ['pro'] } })
      .document();
    expect(isExemptForEveryone(indexOf([exempting, forPro]), facts)).toBe(false);
    expect(isExemptForEveryone(indexOf([exempting]), { path: '/v1' })).toBe(false);
    expect(isExemptForEveryone(indexOf([onlyAPI]), facts)).toBe(false);
  });

  it('is none if the exemption depends on who it is', () => {
    const personal = { name: 'staff', match: { ...probes.match, consumers: ['key:staff'] } };
    expect(isExemptForEveryone(indexOf([{ ...exempting, exemptions: [personal] }]), { path: '/healthz' })).toBe(false);
  });
});
