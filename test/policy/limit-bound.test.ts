import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { compilePolicy } from '../../policy/compile.ts';
import { mostLimitsPerRequest } from '../../policy/limit-bound.ts';
import type { ValidPolicy } from '../../policy/resource.ts';
import type { Limit } from '../../policy/schema/limit.ts';
import type { Match, PathMatcher } from '../../policy/schema/match.ts';
import type { Rule } from '../../policy/schema/rate-limit-policy.ts';
import type { RequestContext } from '../../policy/selection.ts';
import { aLimit, aPolicy, selectAmong } from './builders.ts';

const limits = (count: number): Limit[] => Array.from({ length: count }, (_, n) => aLimit({ windowSeconds: n + 1 }));
const path = (type: PathMatcher['type'], value: string): Match => ({ paths: [{ type, value }] });
const exact = (value: string): Match => path('Exact', value);
const prefix = (value: string): Match => path('Prefix', value);
const template = (value: string): Match => path('Template', value);

/** Rules with one limit each: the bound counts rules. */
const policyWith = (...matches: readonly Match[]): ValidPolicy =>
  matches.reduce((policy, match, index) => policy.withRule({ name: `r${index}`, match }), aPolicy()).build();

describe('the most limits that one request can meet', () => {
  it('is the sum over rules that match every request', () => {
    const policy = aPolicy()
      .withRule({ name: 'a', limits: limits(3) })
      .withRule({ name: 'b', limits: limits(2) });
    expect(mostLimitsPerRequest([policy.build()])).toBe(5);
  });

  it('counts the largest tier, whichever a request has', () => {
    const policy = aPolicy()
      .withTier('free', { default: true, limits: limits(1) })
      .withTier('pro', { limits: limits(3) })
      .withRule({ name: 'a', limitsFrom: 'Tier' })
      .withRule({ name: 'b', limitsFrom: 'Tier' });
    expect(mostLimitsPerRequest([policy.build()])).toBe(6);
  });

  it('adds up over the policies of a domain', () => {
    const policy = aPolicy().withRule({ limits: limits(4) });
    expect(mostLimitsPerRequest([policy.named('a').build(), policy.named('b').build()])).toBe(8);
  });

  it('is 0 without policies', () => {
    expect(mostLimitsPerRequest([])).toBe(0);
  });

  it.each([
    ['different exact paths', [exact('/a'), exact('/b')], 1],
    ['one exact path twice', [exact('/a'), exact('/a')], 2],
    ['a prefix and an exact path below it', [prefix('/a'), exact('/a/b')], 2],
    ['a prefix and an exact path beside it', [prefix('/a'), exact('/ab')], 1],
    ['a prefix and the same exact path', [prefix('/a'), exact('/a')], 2],
    ['a prefix with a slash and the path without', [prefix('/a/'), exact('/a')], 1],
    ['a prefix below a prefix', [prefix('/a'), prefix('/a/b')], 2],
    ['prefixes side by side', [prefix('/a'), prefix('/b')], 1],
    ['the prefix of everything', [prefix('/'), prefix('/b'), template('/b/{c}')], 3],
    ['a template and a path that fills it', [template('/a/{id}'), exact('/a/b')], 2],
    ['a template and a path that does not', [template('/a/{id}'), exact('/b/b')], 1],
    ['a template and a path that is longer', [template('/a/{id}'), exact('/a/b/c')], 1],
    ['a template and a prefix above it', [template('/a/{id}'), prefix('/a')], 2],
    ['a template and a prefix that its placeholder may fill', [template('/{x}/{y}'), prefix('/a/b')], 2],
    ['a template and a prefix that is longer', [template('/{x}'), prefix('/a/b')], 1],
    ['a template and a prefix with a slash after its last segment', [template('/{x}'), prefix('/a/')], 1],
    ['a template with a slash at its end and a prefix with one', [template('/{x}/'), prefix('/a/')], 2],
    ['a template and a path that only looks like one', [template('/a/{id}'), exact('/{id}/b')], 1],
    ['an exact path that looks like a template and one that would fill it', [exact('/{a}'), exact('/b')], 1],
    ['a prefix that looks like a template and a path that would fill it', [prefix('/{a}'), exact('/b')], 1],
    ['a template below a prefix with a slash at its end', [template('/a/b/{x}'), prefix('/a/')], 2],
    ['templates that one path fills', [template('/a/{id}'), template('/{what}/b')], 2],
    ['templates that no path fills both', [template('/a/{id}'), template('/b/{id}')], 1],
    ['different methods', [{ methods: ['GET'] }, { methods: ['POST'] }], 1],
    ['one method of several in common', [{ methods: ['GET', 'PUT'] }, { methods: ['POST', 'PUT'] }], 2],
    ['GET and HEAD, which GET covers', [{ methods: ['GET'] }, { methods: ['HEAD'] }], 2],
    ['a rule for some methods, and one for all', [{ methods: ['GET'] }, {}], 2],
    [
      'one path with different methods',
      [
        { ...exact('/a'), methods: ['GET'] },
        { ...exact('/a'), methods: ['PUT'] },
      ],
      1,
    ],
    ['several paths, of which two meet', [{ paths: exactPaths('/a', '/b') }, { paths: exactPaths('/b', '/c') }], 2],
  ] as readonly [string, Match[], number][])('knows which rules can meet: %s', (_title, matches, most) => {
    expect(mostLimitsPerRequest([policyWith(...matches)])).toBe(most);
  });
});

function exactPaths(...values: readonly string[]): PathMatcher[] {
  return values.map((value) => ({ type: 'Exact', value }));
}

const METHODS = ['GET', 'HEAD', 'POST', 'PUT'] as const;

const segments = (...alphabet: readonly string[]): fc.Arbitrary<string> =>
  fc
    .tuple(fc.array(fc.constantFrom(...alphabet), { maxLength: 3 }), fc.boolean())
    .map(([names, isFolder]) => (names.length === 0 ? '/' : `/${names.join('/')}${isFolder ? '/' : ''}`));

const matcher: fc.Arbitrary<PathMatcher> = fc.oneof(
  fc.record({ type: fc.constant('Exact' as const), value: segments('a', 'b', '{x}') }),
  fc.record({ type: fc.constant('Prefix' as const), value: segments('a', 'b', '{x}') }),
  fc.record({
    type: fc.constant('Template' as const),
    value: segments('a', 'b', '{x}', '{y}').filter((value) => value.includes('{')),
  }),
);

const match: fc.Arbitrary<Match> = fc.record({
  paths: fc.option(fc.array(matcher, { minLength: 1, maxLength: 3 }), { nil: undefined }),
  methods: fc.option(fc.subarray([...METHODS], { minLength: 1 }), { nil: undefined }),
});

/** The sizes of two tiers, and rules: whom each matches, and its own number of limits or 0 for those of the tier. */
type Shape = {
  readonly free: number;
  readonly pro: number;
  readonly rules: readonly { readonly match: Match; readonly own: number }[];
};

const shapesWith = (matching: fc.Arbitrary<Match>): fc.Arbitrary<Shape[]> => {
  const rule = fc.record({ match: matching, own: fc.integer({ min: 0, max: 3 }) });
  const size = fc.integer({ min: 1, max: 3 });
  const shape = fc.record({ free: size, pro: size, rules: fc.array(rule, { minLength: 1, maxLength: 4 }) });
  return fc.array(shape, { minLength: 1, maxLength: 3 });
};

function toPolicy({ free, pro, rules }: Shape, index: number): ValidPolicy {
  const tiers = aPolicy()
    .named(`p${index}`)
    .withTier('free', { default: true, limits: limits(free) })
    .withTier('pro', { limits: limits(pro) });
  const numbers = (own: number): Partial<Rule> => (own === 0 ? { limitsFrom: 'Tier' } : { limits: limits(own) });
  return rules
    .reduce(
      (policy, { match: matching, own }, n) =>
        policy.withRule({ name: `r${n}`, match: matching, countBy: ['global'], ...numbers(own) }),
      tiers,
    )
    .build();
}

const policies = shapesWith(match).map((shapes) => shapes.map(toPolicy));

/** Here pro is the larger tier of every policy, so that one request can have the largest of all. */
const exactPolicies = shapesWith(
  match.map(({ paths: some, ...others }) =>
    some === undefined ? others : { ...others, paths: exactPaths(...some.map(({ value }) => value)) },
  ),
).map((shapes) => shapes.map((shape, index) => toPolicy({ ...shape, free: 1, pro: 2 }, index)));

/** Paths at, below and beside what the policies match: on others hardly any rule would meet another. */
function pathsNear(all: readonly ValidPolicy[]): string[] {
  const matchers = all.flatMap(({ spec }) => spec.rules.flatMap((rule) => rule.match?.paths ?? []));
  const near = matchers.flatMap(({ value }) => {
    const filled = value.replaceAll(/\{[xy]\}/g, 'a');
    return [value, filled, `${filled}/b`, `${filled}/`, `${filled}b`];
  });
  return ['/', '/c', ...near].map((somewhere) => somewhere.replaceAll('//', '/'));
}

const meetings = policies.chain((all) =>
  fc.record({
    all: fc.constant(all),
    path: fc.option(fc.constantFrom(...pathsNear(all)), { nil: undefined }),
    method: fc.constantFrom(...METHODS, 'DELETE', undefined),
    tier: fc.constantFrom('free', 'pro', 'gone', undefined),
  }),
);

function selected(all: readonly ValidPolicy[], request: RequestContext): number {
  const { rules } = selectAmong(all.map(compilePolicy), request);
  return rules.flatMap((rule) => rule.limits).length;
}

describe('for random policies', () => {
  it('no random request ever meets more', () => {
    fc.assert(
      fc.property(meetings, ({ all, ...request }) => {
        expect(selected(all, request)).toBeLessThanOrEqual(mostLimitsPerRequest(all));
      }),
      { numRuns: 5_000 },
    );
  });

  it('some request meets as many, where all paths are exact', () => {
    fc.assert(
      fc.property(exactPolicies, (all) => {
        const named = all.flatMap(({ spec }) => spec.rules.flatMap((rule) => rule.match?.paths ?? []));
        const met = ['/nowhere', ...named.map(({ value }) => value)].flatMap((where) =>
          [...METHODS, 'DELETE'].map((method) => selected(all, { path: where, method, tier: 'pro' })),
        );
        expect(Math.max(...met)).toBe(mostLimitsPerRequest(all));
      }),
    );
  });
});
