import { describe, expect, it } from 'vitest';
import type { Limit } from '../../policy/schema/limit.ts';
import type { Rule } from '../../policy/schema/rate-limit-policy.ts';
import type { SystemHealthSpec } from '../../policy/schema/system-health.ts';
import type { RequestContext, SelectedLimit, Selection } from '../../policy/selection.ts';
import { aHealthDocument, aLimit, aPolicy, type PolicyBuilder, selectAmong } from './builders.ts';

const NOW = Date.parse('2026-06-01T12:00:00Z') * 1000;

/** Carries something for every axis. */
const REQUEST: RequestContext = {
  path: '/v1/users',
  method: 'GET',
  headers: new Map([['x-plan', 'gold']]),
  consumer: 'key:acme',
  tenant: 'tenant-1',
  clientIP: '203.0.113.9',
  descriptors: new Map([['region', 'eu']]),
  attributes: new Map([['region', 'us']]),
};

function select(
  policy: PolicyBuilder,
  request: RequestContext = REQUEST,
  healths: Partial<SystemHealthSpec>[] = [],
): Selection {
  return selectAmong([policy.document(), ...healths.map(aHealthDocument)], request, NOW);
}

const NOTHING = { rules: [], penalties: [], missing: [], exemptions: [], overrides: [], blockedBy: undefined };

const limitsOf = (selection: Selection): SelectedLimit[] => selection.rules.flatMap((rule) => rule.limits);

/** The subject under which a request is counted by these axes. */
function subject(countBy: string[], request: RequestContext = REQUEST): string | undefined {
  return limitsOf(select(aPolicy().withRule(countingBy(countBy)), request))[0]?.subject;
}

/** Everything under /v1 has that route. */
const countingBy = (countBy: string[]): Partial<Rule> => ({
  countBy,
  match: { paths: [{ type: 'Prefix', value: '/v1' }] },
});

describe('an axis', () => {
  const other: RequestContext = {
    method: 'PUT',
    headers: new Map([['x-plan', 'silver']]),
    consumer: 'key:other',
    tenant: 'tenant-2',
    clientIP: '203.0.113.10',
    descriptors: new Map([['region', 'asia']]),
    attributes: new Map([['region', 'africa']]),
  };
  const CARRIED_BY = {
    consumer: 'consumer',
    tenant: 'tenant',
    clientIP: 'clientIP',
    method: 'method',
    'header:x-plan': 'headers',
    'descriptor:region': 'descriptors',
    'attribute:region': 'attributes',
  } as const;
  const axes = Object.entries(CARRIED_BY);

  it.each(axes)('%s gives each value a counter of its own', (axis, field) => {
    expect(subject([axis])).toBeDefined();
    expect(subject([axis])).toBe(subject([axis], { ...REQUEST }));
    expect(subject([axis], { ...REQUEST, [field]: other[field] })).not.toBe(subject([axis]));
  });

  it.each(axes)('%s is counted by nothing else', (axis, field) => {
    expect(subject([axis], { ...other, path: REQUEST.path, [field]: REQUEST[field] })).toBe(subject([axis]));
  });

  it.each(axes)('%s that the request lacks makes the rule inapplicable, and is reported', (axis, field) => {
    const selection = select(aPolicy().withRule({ name: 'r', countBy: [axis] }), { ...REQUEST, [field]: undefined });
    expect(selection).toEqual({ ...NOTHING, missing: [{ policy: 'payments/limits', rule: 'r', input: axis }] });
  });

  it.each([['header:x-absent'], ['descriptor:absent'], ['attribute:absent']])(
    '%s that is absent among others of its kind is reported, never one counter for all',
    (axis) => {
      const selection = select(aPolicy().withRule({ name: 'r', countBy: [axis] }));
      expect(selection).toEqual({ ...NOTHING, missing: [{ policy: 'payments/limits', rule: 'r', input: axis }] });
    },
  );

  it('header, descriptor and attribute of one key are three things', () => {
    const same = new Map([['a', 'value']]);
    const request = { ...REQUEST, headers: same, descriptors: same, attributes: same };
    const subjects = ['header:a', 'descriptor:a', 'attribute:a'].map((axis) => subject([axis], request));
    expect(new Set(subjects).size).toBe(3);
  });

  it('may have an empty value', () => {
    expect(subject(['header:x-plan'], { ...REQUEST, headers: new Map([['x-plan', '']]) })).toBeDefined();
  });

  it('global is one counter for all requests', () => {
    expect(subject(['global'])).toBeDefined();
    expect(subject(['global'], { path: '/v1' })).toBe(subject(['global']));
  });

  it('key:acme and caller:acme are different consumers', () => {
    expect(subject(['consumer'], { ...REQUEST, consumer: 'caller:acme' })).not.toBe(
      subject(['consumer'], { ...REQUEST, consumer: 'key:acme' }),
    );
  });
});

describe('the route', () => {
  it('is the matcher that matched, never the path', () => {
    const match: Rule['match'] = {
      paths: [
        { type: 'Template', value: '/v1/{what}' },
        { type: 'Prefix', value: '/v2' },
      ],
    };
    const at = (path: string): string | undefined =>
      limitsOf(select(aPolicy().withRule({ countBy: ['route'], match }), { path }))[0]?.subject;
    expect(at('/v1/users')).toBe(at('/v1/orders'));
    expect(at('/v2/users')).toBe(at('/v2'));
    expect(at('/v1/users')).not.toBe(at('/v2/users'));
  });

  it('is missing from a rule that does not match by path', () => {
    expect(select(aPolicy().withRule({ countBy: ['route'] })).missing).toMatchObject([{ input: 'route' }]);
  });
});

describe('a rule', () => {
  const onlyPosts = { name: 'posts', match: { methods: ['POST' as const] } };

  it('that does not match is neither applied nor reported', () => {
    expect(select(aPolicy().withRule(onlyPosts))).toEqual(NOTHING);
  });

  it('whose match asks for what the request lacks is reported', () => {
    expect(select(aPolicy().withRule(onlyPosts), { ...REQUEST, method: undefined })).toEqual({
      ...NOTHING,
      missing: [{ policy: 'payments/limits', rule: 'posts', input: 'method' }],
    });
  });

  it('that cannot be judged leaves the others in force', () => {
    const policy = aPolicy()
      .withRule({ name: 'a', countBy: ['tenant'] })
      .withRule({ name: 'b', countBy: ['consumer'] });
    const { rules, missing } = select(policy, { ...REQUEST, tenant: undefined });
    expect(rules.map(({ rule }) => rule)).toEqual(['b']);
    expect(missing.map(({ rule }) => rule)).toEqual(['a']);
  });

  it('gives all its limits, with the numbers as written', () => {
    const limits = [aLimit({ windowSeconds: 1, requests: 5, burst: 8 }), aLimit({ windowSeconds: 60, requests: 100 })];
    const selected = limitsOf(select(aPolicy().withRule({ name: 'r', limits, algorithm: 'SlidingWindow' })));
    expect(selected).toMatchObject([
      { policy: 'payments/limits', rule: 'r', algorithm: 'SlidingWindow', windowSeconds: 1, capacity: 8, refill: 5 },
      {
        policy: 'payments/limits',
        rule: 'r',
        algorithm: 'SlidingWindow',
        windowSeconds: 60,
        capacity: 100,
        refill: 100,
      },
    ]);
    expect(new Set(selected.map(({ field }) => field)).size).toBe(2);
    expect(new Set(selected.map((limit) => limit.subject)).size).toBe(1);
  });

  it('of every policy of the domain applies, and of no other domain', () => {
    const documents = [
      aPolicy().named('b').document(),
      aPolicy().named('a').document(),
      aPolicy().named('c').forDomain('payments.eu').document(),
    ];
    const policiesOf = (domain: string): string[] =>
      selectAmong(documents, REQUEST, NOW, domain).rules.map(({ policy }) => policy);
    expect(policiesOf('payments')).toEqual(['payments/a', 'payments/b']);
    expect(policiesOf('payments.eu')).toEqual(['payments/c']);
  });
});

describe('the tier of a request', () => {
  const tiered = aPolicy()
    .withTier('free', { default: true, limits: [aLimit({ requests: 10 })] })
    .withTier('pro', { limits: [aLimit({ requests: 100 })] })
    .withRule({ limitsFrom: 'Tier' });
  const chosen = (policy: PolicyBuilder, tier: string | undefined): Partial<SelectedLimit>[] =>
    limitsOf(select(policy, { ...REQUEST, tier })).map((limit) => ({ tier: limit.tier, refill: limit.refill }));

  it('chooses the limits', () => {
    expect(chosen(tiered, 'free')).toEqual([{ tier: 'free', refill: 10 }]);
    expect(chosen(tiered, 'pro')).toEqual([{ tier: 'pro', refill: 100 }]);
  });

  it('is the default tier of the policy if it is not known, or not to this policy', () => {
    expect(chosen(tiered, undefined)).toEqual([{ tier: 'free', refill: 10 }]);
    expect(chosen(tiered, 'enterprise')).toEqual([{ tier: 'free', refill: 10 }]);
  });

  it('is resolved by each policy in its own way', () => {
    const other = aPolicy()
      .named('other')
      .withTier('basic', { default: true, limits: [aLimit({ requests: 7 })] })
      .withRule({ limitsFrom: 'Tier' });
    const documents = [tiered.document(), other.document()];
    const limits = limitsOf(selectAmong(documents, { ...REQUEST, tier: 'pro' }, NOW));
    expect(limits.map(({ tier, refill }) => [tier, refill])).toEqual([
      ['pro', 100],
      ['basic', 7],
    ]);
  });

  it('may be one that a property of objects is called', () => {
    expect(chosen(tiered, 'constructor')).toEqual([{ tier: 'free', refill: 10 }]);
    expect(chosen(aPolicy().withTier('constructor').withRule({ limitsFrom: 'Tier' }), 'constructor')).toEqual([
      { tier: 'constructor', refill: 10 },
    ]);
  });

  it('does not change whose counter it is: a new tier acts on what was counted', () => {
    const identity = (tier: string): unknown =>
      limitsOf(select(tiered, { ...REQUEST, tier })).map((limit) => [limit.subject, limit.field]);
    expect(identity('pro')).toEqual(identity('free'));
  });

  it('leaves a rule with limits of its own alone', () => {
    expect(chosen(aPolicy(), 'pro')).toEqual([{ tier: 'pro', refill: 10 }]);
    expect(chosen(aPolicy(), undefined)).toEqual([{ tier: undefined, refill: 10 }]);
  });

  it('that has no limits in a policy without a default limits nothing', () => {
    const noDefault = aPolicy().withTier('free').withRule({ limitsFrom: 'Tier' });
    expect(select(noDefault, { ...REQUEST, tier: 'pro' })).toEqual(NOTHING);
    expect(select(noDefault, { ...REQUEST, tier: 'constructor' })).toEqual(NOTHING);
    expect(select(noDefault)).toEqual(NOTHING);
  });
});

describe('while DEGRADED', () => {
  const numbers = (limit: Partial<Limit>, healths: Partial<SystemHealthSpec>[], tier?: string): unknown =>
    limitsOf(
      select(
        aPolicy()
          .withTier('free')
          .withRule({ limits: [aLimit({ requests: 10, ...limit })] }),
        { ...REQUEST, tier },
        healths,
      ),
    ).map(({ capacity, refill, normalCapacity, normalRefill, mode }) => ({
      capacity,
      refill,
      normalCapacity,
      normalRefill,
      mode,
    }));
  const normal = { capacity: 20, refill: 10, normalCapacity: 20, normalRefill: 10, mode: 'NORMAL' };

  it.each([
    [
      { burst: 20, degraded: 2 },
      { capacity: 2, refill: 2, normalCapacity: 20 },
    ],
    [{ burst: 20 }, { capacity: 10, refill: 10, normalCapacity: 20 }],
    [{}, { capacity: 10, refill: 10, normalCapacity: 10 }],
    [{ degraded: 0 }, { capacity: 0, refill: 0, normalCapacity: 10 }],
    [{ degraded: 10 }, { capacity: 10, refill: 10, normalCapacity: 10 }],
  ])('the limit of 10 requests with %o is %o', (limit, expected) => {
    expect(numbers(limit, [{}])).toEqual([{ ...expected, normalRefill: 10, mode: 'DEGRADED' }]);
  });

  it.each([
    ['nothing was declared', []],
    ['the mode is NORMAL', [{ mode: 'NORMAL' }]],
    ['it has expired', [{ expiresAt: '2026-06-01T12:00:00Z' }]],
    ['it is another domain', [{ scope: { domains: ['payments.eu'] } }]],
    ['it is another tier', [{ scope: { tiers: ['pro'] } }]],
  ] as [string, Partial<SystemHealthSpec>[]][])('nothing changes if %s', (_title, healths) => {
    expect(numbers({ burst: 20, degraded: 2 }, healths, 'free')).toEqual([normal]);
  });

  it('the tier that was resolved is the one that is degraded', () => {
    const policy = aPolicy()
      .withTier('free', { default: true, limits: [aLimit({ degraded: 1 })] })
      .withRule({ limitsFrom: 'Tier' });
    const limits = limitsOf(select(policy, REQUEST, [{ scope: { tiers: ['free'] } }]));
    expect(limits).toMatchObject([{ tier: 'free', mode: 'DEGRADED', capacity: 1 }]);
  });

  it('the end of the incident is told, if it has one', () => {
    const end = (healths: Partial<SystemHealthSpec>[]): unknown =>
      limitsOf(select(aPolicy(), REQUEST, healths))[0]?.modeUntilMicros;
    expect(end([{ expiresAt: '2026-06-01T12:00:01Z' }])).toBe(NOW + 1_000_000);
    expect(end([{}])).toBeUndefined();
    expect(end([])).toBeUndefined();
  });

  it('the counter stays the same', () => {
    const identity = (healths: Partial<SystemHealthSpec>[]): unknown =>
      limitsOf(select(aPolicy(), REQUEST, healths)).map((limit) => [limit.subject, limit.field]);
    expect(identity([{}])).toEqual(identity([]));
  });
});
