// What overrides and negotiated limits make of the limits of one subject.
import { describe, expect, it } from 'vitest';
import { decideWithoutCounters } from '../../policy/decision.ts';
import { clientText, parseIP } from '../../policy/ip.ts';
import type { OverrideDocument } from '../../policy/documents.ts';
import type { Limit } from '../../policy/schema/limit.ts';
import type { RateLimitOverrideSpec } from '../../policy/schema/rate-limit-override.ts';
import type { Algorithm } from '../../policy/schema/rate-limit-policy.ts';
import type { NegotiatedLimits, RequestContext, Selection } from '../../policy/selection.ts';
import { aDomainDocument, aHealthDocument, aLimit, anOverrideDocument, aPolicy, selectAmong } from './builders.ts';

const NOON = '2026-06-01T12:00:00Z';
const NOW = Date.parse(NOON) * 1000;
const REQUEST: RequestContext = { consumer: 'key:acme', tenant: 'tenant-1', clientIP: '203.0.113.9' };

/** Two rules of one limit each: 20 at once and 10 a minute while NORMAL, 2 while DEGRADED. */
const POLICY = aPolicy()
  .withPenalty()
  .withRule({ name: 'a', limits: [aLimit({ requests: 10, burst: 20, degraded: 2 })] })
  .withRule({ name: 'b', limits: [aLimit({ requests: 10, burst: 20, degraded: 2 })] });

const override = (spec: Partial<RateLimitOverrideSpec>, name?: string): OverrideDocument =>
  anOverrideDocument(spec, name);
const BLOCK = override({ action: 'Block' }, 'block');
const EXEMPT = override({ action: 'Exempt' }, 'exempt');
const REPLACE = override({ action: 'Replace', limits: [aLimit({ requests: 50 })] }, 'replace');
const SCALE = override({ action: 'Scale', percent: 200 }, 'scale');

type Situation = {
  readonly overrides?: readonly OverrideDocument[];
  readonly request?: RequestContext;
  readonly policy?: typeof POLICY;
  readonly isDegraded?: boolean;
  readonly nowMicros?: number;
};

function select({ overrides = [], request = REQUEST, policy = POLICY, isDegraded, nowMicros }: Situation): Selection {
  const documents = [policy.document(), ...overrides, ...(isDegraded === true ? [aHealthDocument()] : [])];
  return selectAmong(documents, request, nowMicros ?? NOW);
}

/** What is left of each rule: its capacity, or what was done to it. */
function whatIsLeft(situation: Situation): Readonly<Record<string, unknown>> {
  const { rules, overrides } = select(situation);
  return Object.fromEntries([
    ...overrides.map(({ rule, action }) => [rule, action]),
    ...rules.map(({ rule, limits }) => [rule, limits.map(({ capacity }) => capacity).join(' ')]),
  ]);
}

describe('of several overrides on one request', () => {
  const all = [BLOCK, EXEMPT, REPLACE, SCALE];

  it.each([
    [all, 'Block'],
    [[EXEMPT, REPLACE, SCALE], 'Exempt'],
    [[REPLACE, SCALE], '50'],
    [[SCALE], '40'],
    [[], '20'],
  ])('%# the strongest holds, in whatever order they come', (overrides, expected) => {
    for (const order of [overrides, overrides.toReversed()]) {
      expect(whatIsLeft({ overrides: order })).toEqual({ a: expected, b: expected });
    }
  });

  it('the first by name holds, if they are of one kind', () => {
    const scale = (name: string, percent: number): OverrideDocument => override({ action: 'Scale', percent }, name);
    const overrides = [scale('m', 300), scale('a', 200), scale('z', 400)];
    expect(whatIsLeft({ overrides })).toEqual({ a: '40', b: '40' });
    expect(whatIsLeft({ overrides: overrides.toReversed() })).toEqual({ a: '40', b: '40' });
  });

  it('each speaks of its own rules', () => {
    const onlyA = override({ action: 'Block', rules: ['a'] }, 'block');
    expect(whatIsLeft({ overrides: [onlyA, SCALE] })).toEqual({ a: 'Block', b: '40' });
    expect(whatIsLeft({ overrides: [override({ action: 'Exempt', rules: ['b'] }), SCALE] })).toEqual({
      a: '40',
      b: 'Exempt',
    });
  });

  it('the strongest holds whether it is on the consumer, the tenant or the address', () => {
    const on = (subject: RateLimitOverrideSpec['subject'], spec: Partial<RateLimitOverrideSpec>): OverrideDocument =>
      override({ subject, ...spec }, Object.keys(subject)[0]);
    const scaled = on({ consumer: 'key:acme' }, { action: 'Scale', percent: 50 });
    const replaced = on({ tenant: 'tenant-1' }, { action: 'Replace', limits: [aLimit({ requests: 7 })] });
    const blocked = on({ clientIP: '203.0.113.9' }, { action: 'Block' });
    expect(whatIsLeft({ overrides: [scaled, replaced] })).toEqual({ a: '7', b: '7' });
    expect(whatIsLeft({ overrides: [scaled, replaced, blocked] })).toEqual({ a: 'Block', b: 'Block' });
  });

  it('the block that lasts longest is the one that is told', () => {
    const until = (expiresAt: string, rules: string[]): OverrideDocument =>
      override({ action: 'Block', rules, expiresAt }, `until-${rules[0]}`);
    const overrides = [until('2026-06-01T14:00:00Z', ['a']), until('2026-06-01T13:00:00Z', ['b'])];
    const selection = select({ overrides });
    expect(selection.blockedBy).toMatchObject({ override: 'until-a', rule: 'a' });
    expect(decideWithoutCounters(selection, NOW)).toMatchObject({
      action: 'BLOCK',
      reason: 'OVERRIDE_BLOCK',
      triggeredBy: 'Override',
      retryAfterMicros: 7_200_000_000,
    });
  });
});

describe('an override', () => {
  it.each([
    ['another consumer', { consumer: 'key:other' }],
    ['a consumer of that name from another source', { consumer: 'caller:acme' }],
    ['a request without a consumer', { consumer: undefined }],
  ])('of a consumer does not touch %s', (_title, change) => {
    const policy = aPolicy().withRule({ name: 'a', countBy: ['tenant'] });
    expect(whatIsLeft({ policy, overrides: [BLOCK], request: { ...REQUEST, ...change } })).toEqual({ a: '10' });
  });

  it('of a policy touches no other policy', () => {
    const documents = [POLICY.document(), aPolicy().named('other').document(), EXEMPT];
    const { rules } = selectAmong(documents, REQUEST, NOW);
    expect(rules.map(({ policy }) => policy)).toEqual(['payments/other']);
  });

  it('holds from its start on, and no more at its end, by the microsecond', () => {
    const timed = override({ action: 'Block', startsAt: NOON, expiresAt: '2026-06-01T12:00:01Z' });
    const isBlocked = (nowMicros: number): boolean => select({ overrides: [timed], nowMicros }).blockedBy !== undefined;
    expect([NOW - 1, NOW, NOW + 999_999, NOW + 1_000_000].map(isBlocked)).toEqual([false, true, true, false]);
  });

  it('without a start holds at once', () => {
    expect(select({ overrides: [override({ startsAt: undefined })], nowMicros: 1 }).blockedBy).toBeDefined();
  });

  it('of no rule that applies does nothing', () => {
    const policy = aPolicy().withRule({ match: { methods: ['POST'] } });
    const selection = select({ policy, overrides: [BLOCK], request: { ...REQUEST, method: 'GET' } });
    expect(selection).toMatchObject({ blockedBy: undefined, overrides: [] });
  });

  it('blocks and exempts nobody in a policy in shadow, or by a rule in shadow', () => {
    expect(whatIsLeft({ policy: POLICY.inShadow(), overrides: [BLOCK] })).toEqual({ a: '20', b: '20' });
    const policy = aPolicy().withRule({ name: 'a', mode: 'Shadow' }).withRule({ name: 'b', enforcePercent: 0 });
    for (const overrides of [[BLOCK], [EXEMPT]]) {
      expect(select({ policy, overrides })).toMatchObject({ blockedBy: undefined, overrides: [] });
      expect(whatIsLeft({ policy, overrides })).toEqual({ a: '10', b: '10' });
    }
  });

  it('says why, and until when', () => {
    const [applied] = select({ overrides: [override({ action: 'Exempt', rules: ['a'], reason: 'launch' })] }).overrides;
    expect(applied).toEqual({
      policy: 'payments/limits',
      rule: 'a',
      override: 'override',
      action: 'Exempt',
      reason: 'launch',
      expiresAtMicros: Date.parse('2027-01-01T00:00:00Z') * 1000,
    });
  });
});

describe('Exempt', () => {
  it('without rules lifts the penalty too', () => {
    expect(select({ overrides: [EXEMPT] })).toMatchObject({ rules: [], penalties: [] });
  });

  it('of some rules leaves the others to the penalty', () => {
    const { rules, penalties } = select({ overrides: [override({ action: 'Exempt', rules: ['a'] })] });
    expect(rules).toMatchObject([{ rule: 'b', penalty: 0 }]);
    expect(penalties).toHaveLength(1);
  });

  it('lets pass with its own reason, before that of an exemption', () => {
    const selection = select({ overrides: [EXEMPT] });
    expect(decideWithoutCounters(selection, NOW)).toMatchObject({
      action: 'ALLOW',
      reason: 'OVERRIDE_EXEMPT',
      triggeredBy: 'Override',
    });
    const both = { ...selection, exemptions: [{ policy: 'payments/other', exemption: 'e' }] };
    expect(decideWithoutCounters(both, NOW)).toMatchObject({ reason: 'OVERRIDE_EXEMPT' });
    expect(decideWithoutCounters({ ...both, overrides: [] }, NOW)).toMatchObject({ reason: 'EXEMPT' });
  });
});

describe('Scale', () => {
  const scaled = (percent: number, limit: Partial<Limit>, algorithm: Algorithm = 'TokenBucket'): unknown => {
    const policy = aPolicy().withRule({ algorithm, limits: [aLimit(limit)] });
    const { rules } = select({ policy, overrides: [override({ action: 'Scale', percent })] });
    return rules.flatMap(({ limits }) => limits.map(({ capacity, refill }) => [capacity, refill]));
  };

  it.each([
    [100, { requests: 10, burst: 20 }, [20, 10]],
    [150, { requests: 10, burst: 20 }, [30, 15]],
    [33, { requests: 10, burst: 20 }, [6, 3]],
    [1, { requests: 10, burst: 20 }, [1, 1]],
    [10_000, { requests: 1 }, [100, 100]],
    [99, { requests: 1 }, [1, 1]],
  ] as const)('of %i percent of %o leaves %j', (percent, limit, expected) => {
    expect(scaled(percent, limit)).toEqual([expected]);
  });

  it('leaves no more than the algorithm can hold', () => {
    expect(scaled(10_000, { requests: 900 }, 'SlidingWindowLog')).toEqual([[1000, 1000]]);
    const most = 9_007_199_254;
    expect(scaled(10_000, { windowSeconds: 3600, requests: 2_000_000, burst: 2_500_000 })).toEqual([
      [Math.floor(most / 3600), Math.floor(most / 3600)],
    ]);
    expect(scaled(200, { windowSeconds: 1, requests: most })).toEqual([[most, most]]);
  });

  it('takes the value of the mode, of which nothing stays nothing', () => {
    const limitsIn = (degraded: number): unknown =>
      select({
        policy: aPolicy().withRule({ limits: [aLimit({ requests: 10, burst: 20, degraded })] }),
        overrides: [override({ action: 'Scale', percent: 50 })],
        isDegraded: true,
      }).rules[0]?.limits[0];
    expect(limitsIn(5)).toMatchObject({ capacity: 2, refill: 2, normalCapacity: 10, normalRefill: 5 });
    expect(limitsIn(1)).toMatchObject({ capacity: 1, refill: 1 });
    expect(limitsIn(0)).toMatchObject({ capacity: 0, refill: 0, normalCapacity: 10 });
  });
});

describe('Replace', () => {
  it('brings its own numbers, those of the mode among them', () => {
    const replaced = override({ action: 'Replace', limits: [aLimit({ requests: 50, burst: 60, degraded: 9 })] });
    const numbers = { windowSeconds: 60, normalCapacity: 60, normalRefill: 50 };
    const limits = (isDegraded: boolean): unknown => select({ overrides: [replaced], isDegraded }).rules[0]?.limits;
    expect(limits(false)).toMatchObject([{ ...numbers, capacity: 60, refill: 50, mode: 'NORMAL' }]);
    expect(limits(true)).toMatchObject([{ ...numbers, capacity: 9, refill: 9, mode: 'DEGRADED' }]);
    expect(select({ overrides: [REPLACE], isDegraded: true }).rules[0]?.limits).toMatchObject([{ capacity: 50 }]);
  });

  const fieldsBy = (overrides: readonly OverrideDocument[], request = REQUEST): Map<number, string> =>
    new Map(
      select({ overrides, request }).rules.flatMap(({ rule, limits }) =>
        rule === 'a' ? limits.map(({ windowSeconds, field, subject }) => [windowSeconds, `${subject} ${field}`]) : [],
      ),
    );

  it('counts on where the window is the same, and begins a counter where it is not', () => {
    const own = fieldsBy([]);
    const two = override({ action: 'Replace', limits: [aLimit({ requests: 1 }), aLimit({ windowSeconds: 5 })] });
    expect(fieldsBy([two]).get(60)).toBe(own.get(60));
    expect(fieldsBy([two]).get(5)).not.toBe(own.get(60));
    expect(fieldsBy([two])).toEqual(fieldsBy([two]));
  });
});

describe('negotiated limits', () => {
  const agreed = (limits: readonly Limit[], rule = 'a', policy = 'payments/limits'): NegotiatedLimits => ({
    policy,
    rule,
    limits: limits.map(({ windowSeconds, requests, burst, degraded }) => ({
      windowSeconds,
      requests,
      capacity: burst ?? requests,
      degraded: degraded ?? requests,
    })),
  });
  const having = (...negotiated: readonly NegotiatedLimits[]): RequestContext => ({ ...REQUEST, negotiated });
  const five = agreed([aLimit({ requests: 500, degraded: 30 })]);

  it('take the place of those of their rule, in their policy only', () => {
    expect(whatIsLeft({ request: having(five) })).toEqual({ a: '500', b: '20' });
    expect(whatIsLeft({ request: having(agreed([aLimit()], 'a', 'shop/limits')) })).toEqual({ a: '20', b: '20' });
    expect(whatIsLeft({ request: having(five), isDegraded: true })).toEqual({ a: '30', b: '2' });
  });

  it('count on where the window is the same', () => {
    const counterOf = (request: RequestContext): unknown => {
      const [limit] = select({ request }).rules[0]?.limits ?? [];
      return [limit?.subject, limit?.field];
    };
    expect(counterOf(having(five))).toEqual(counterOf(REQUEST));
    expect(counterOf(having(agreed([aLimit({ windowSeconds: 61 })])))).not.toEqual(counterOf(REQUEST));
  });

  it('are scaled by Scale, and give way to Replace, Exempt and Block', () => {
    const request = having(five);
    expect(whatIsLeft({ request, overrides: [SCALE] })).toMatchObject({ a: '1000' });
    expect(whatIsLeft({ request, overrides: [REPLACE] })).toMatchObject({ a: '50' });
    expect(whatIsLeft({ request, overrides: [EXEMPT] })).toMatchObject({ a: 'Exempt' });
    expect(whatIsLeft({ request, overrides: [BLOCK] })).toMatchObject({ a: 'Block' });
  });

  it('hold in every tier', () => {
    const policy = aPolicy()
      .withTier('free', { default: true })
      .withTier('pro', { limits: [aLimit({ requests: 100 })] })
      .withRule({ name: 'a', limitsFrom: 'Tier' });
    for (const tier of ['free', 'pro', undefined]) {
      expect(whatIsLeft({ policy, request: { ...having(five), tier } })).toEqual({ a: '500' });
    }
  });
});

describe('an override of an IPv6 client', () => {
  /** The texts of subjects that meet the client 2001:db8:1:2:3:4:5:6 in a domain that counts by so many bits. */
  const meets = (clientIP: string, ipv6PrefixLength: number, client = '2001:db8:1:2:3:4:5:6'): boolean => {
    const domain = aDomainDocument({ identity: { ipv6PrefixLength } });
    const blocked = override({ subject: { clientIP } });
    const address = parseIP(client);
    const request = { address, clientIP: address && clientText(address, ipv6PrefixLength) };
    const policy = aPolicy().withRule({ countBy: ['clientIP'] });
    const documents = [policy.document(), domain, blocked];
    return selectAmong(documents, request, NOW).blockedBy !== undefined;
  };

  it.each([
    ['2001:db8:1:2::1', 64, true],
    ['2001:DB8:0001:0002:ffff::', 64, true],
    ['2001:db8:1:2::/64', 64, true],
    ['2001:db8:1:3::1', 64, false],
    ['2001:db8:1:ff00::', 48, true],
    ['2001:db8:2::1', 48, false],
    ['2001:db8:1:2:3:4:5:6', 128, true],
    ['2001:0db8:1:2:3:4:0.5.0.6', 128, true],
    ['2001:db8:1:2:3:4:5:7', 128, false],
  ])('%s is whose network of %i bits it is: %s', (clientIP, bits, expected) => {
    expect(meets(clientIP, bits)).toBe(expected);
  });

  it('that is mapped IPv4 is the IPv4 client', () => {
    expect(meets('::ffff:203.0.113.9', 64, '203.0.113.9')).toBe(true);
    expect(meets('203.0.113.9', 64, '::ffff:cb00:7109')).toBe(true);
    expect(meets('203.0.113.10', 64, '203.0.113.9')).toBe(false);
  });
});

describe('health objects that select policies', () => {
  it('degrade those whose labels they select, the worst of several at a time', () => {
    const edge = { scope: { policySelector: { matchLabels: { layer: 'edge' } } } };
    const documents = [
      aPolicy().named('edge').labelled({ layer: 'edge' }).document(),
      aPolicy().named('core').labelled({ layer: 'core' }).document(),
      aPolicy().named('plain').document(),
      aHealthDocument({ ...edge, expiresAt: '2026-06-01T13:00:00Z' }),
      aHealthDocument({ mode: 'NORMAL' }),
      aHealthDocument({ ...edge, expiresAt: '2026-06-01T14:00:00Z' }),
    ];
    const limits = selectAmong(documents, REQUEST, NOW).rules.flatMap((rule) => rule.limits);
    expect(limits.map(({ policy, mode, modeUntilMicros }) => [policy, mode, modeUntilMicros])).toEqual([
      ['payments/core', 'NORMAL', undefined],
      ['payments/edge', 'DEGRADED', NOW + 7_200_000_000],
      ['payments/plain', 'NORMAL', undefined],
    ]);
  });
});
