// selectRules agrees with a model that was written apart from it, over random policies, overrides, incidents and requests.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { compilePolicy, numbersOf } from '../../policy/compile.ts';
import type { Document } from '../../policy/documents.ts';
import { clientText, parseIP } from '../../policy/ip.ts';
import type { ValidPolicy } from '../../policy/resource.ts';
import type { Limit } from '../../policy/schema/limit.ts';
import type { Match } from '../../policy/schema/match.ts';
import type { RateLimitOverrideSpec } from '../../policy/schema/rate-limit-override.ts';
import type { RateLimitPolicySpec, Rule } from '../../policy/schema/rate-limit-policy.ts';
import type { SystemHealthSpec } from '../../policy/schema/system-health.ts';
import type { RequestContext, Selection } from '../../policy/selection.ts';
import { aDomainDocument, aHealthDocument, anOverrideDocument, metadataOf, selectAmong } from './builders.ts';
import { type Bits, evaluate, type ModelRequest, type Outcome, type World } from './select-model.ts';

const NOW_MILLIS = Date.parse('2026-06-01T12:00:00Z');

const groups = (...hex: readonly string[]): Bits =>
  hex.map((group) => Number.parseInt(group, 16).toString(2).padStart(16, '0')).join('');
const v4 = (...bytes: readonly number[]): Bits =>
  `${'0'.repeat(80)}${'1'.repeat(16)}${bytes.map((byte) => byte.toString(2).padStart(8, '0')).join('')}`;

/** Texts with the bits that they mean, written by hand. */
const ADDRESSES: Readonly<Record<string, Bits>> = {
  '203.0.113.9': v4(203, 0, 113, 9),
  '::ffff:203.0.113.9': v4(203, 0, 113, 9),
  '203.0.113.10': v4(203, 0, 113, 10),
  '10.1.2.3': v4(10, 1, 2, 3),
  '2001:db8:1:2::5': groups('2001', 'db8', '1', '2', '0', '0', '0', '5'),
  '2001:db8:1:2:3::5': groups('2001', 'db8', '1', '2', '3', '0', '0', '5'),
  '2001:db8:1:ff00::5': groups('2001', 'db8', '1', 'ff00', '0', '0', '0', '5'),
  '2001:db8:2::1': groups('2001', 'db8', '2', '0', '0', '0', '0', '1'),
};
const NETWORKS: Readonly<Record<string, Bits>> = {
  '203.0.113.0/24': v4(203, 0, 113, 0).slice(0, 120),
  '203.0.113.8/31': v4(203, 0, 113, 8).slice(0, 127),
  '10.0.0.0/8': v4(10, 0, 0, 0).slice(0, 104),
  '0.0.0.0/0': v4(0, 0, 0, 0).slice(0, 96),
  '2001:db8:1::/48': groups('2001', 'db8', '1', '0', '0', '0', '0', '0').slice(0, 48),
  '2001:db8:1:fe00::/55': groups('2001', 'db8', '1', 'fe00', '0', '0', '0', '0').slice(0, 55),
};
const BITS = { ...ADDRESSES, ...NETWORKS };

const some = <T>(items: readonly T[]): fc.Arbitrary<T[]> =>
  fc.uniqueArray(fc.constantFrom(...items), { minLength: 1, maxLength: 3 });
/** Mostly nothing: a rule with a condition on everything never applies. */
const seldom = <T>(arbitrary: fc.Arbitrary<T>): fc.Arbitrary<T | undefined> =>
  fc.oneof({ weight: 4, arbitrary: fc.constant(undefined) }, { weight: 1, arbitrary });
const often = <T>(arbitrary: fc.Arbitrary<T>): fc.Arbitrary<T | undefined> =>
  fc.option(arbitrary, { nil: undefined, freq: 8 });

const CONSUMERS = ['key:acme', 'caller:acme', 'key:other'];
const TENANTS = ['t1', 't2'];
const TIERS = ['free', 'pro', 'gold'];
const PATHS = ['/', '/v1', '/v1/users', '/v1/users/7', '/v1beta'];
const COSTS = ['0', '2', '5', '40', 'x', '1.5', ''];

const condition = (names: readonly string[], values: readonly string[]) =>
  fc.oneof(
    fc.record({
      name: fc.constantFrom(...names),
      type: fc.constant('Exact' as const),
      value: fc.constantFrom(...values),
    }),
    fc.record({ name: fc.constantFrom(...names), type: fc.constantFrom('Present' as const, 'Absent' as const) }),
  );

const pathMatcher = fc.constantFrom(
  { type: 'Exact' as const, value: '/v1' },
  { type: 'Prefix' as const, value: '/' },
  { type: 'Prefix' as const, value: '/v1' },
  { type: 'Prefix' as const, value: '/v1/' },
  { type: 'Template' as const, value: '/v1/{what}' },
);

const match: fc.Arbitrary<Match> = fc.record({
  paths: seldom(fc.array(pathMatcher, { minLength: 1, maxLength: 2 })),
  methods: seldom(some(['GET', 'HEAD', 'POST'] as const)),
  hosts: seldom(some(['example.com', '*.example.com', 'a.example.com', '*.test'])),
  headers: seldom(fc.array(condition(['x-plan', 'x-cost'], ['gold', '2']), { minLength: 1, maxLength: 2 })),
  sourceCIDRs: seldom(some(Object.keys(NETWORKS))),
  attributes: seldom(fc.array(condition(['region', 'zone'], ['eu', '']), { minLength: 1, maxLength: 2 })),
  tiers: seldom(some(TIERS)),
  tenants: seldom(some(TENANTS)),
  consumers: seldom(some(CONSUMERS)),
});

const limit: fc.Arbitrary<Limit> = fc
  .record({
    windowSeconds: fc.constantFrom(1, 60, 3600),
    requests: fc.constantFrom(1, 3, 10, 900),
    more: often(fc.constantFrom(0, 5, 90)),
    less: often(fc.constantFrom(0, 1, 3)),
  })
  .map(({ windowSeconds, requests, more, less }) => ({
    windowSeconds,
    requests,
    burst: more === undefined ? undefined : requests + more,
    degraded: less === undefined ? undefined : Math.min(less, requests),
  }));
const limits = fc.uniqueArray(limit, { minLength: 1, maxLength: 2, selector: ({ windowSeconds }) => windowSeconds });

const AXES = ['consumer', 'tenant', 'clientIP', 'route', 'method', 'header:x-plan', 'attribute:region'];

const waitingFor = fc.record({
  rule: fc.constantFrom('r0', 'r1', 'r2'),
  outcome: fc.constantFrom('Admitted' as const, 'Denied' as const, 'NotMatched' as const),
});

const rule: fc.Arbitrary<Omit<Rule, 'name'>> = fc.record({
  match: seldom(match),
  mode: seldom(fc.constant('Shadow' as const)),
  enforcePercent: seldom(fc.constantFrom(0, 100)),
  countBy: fc.oneof(some(AXES), fc.constant<string[]>(['global'])),
  algorithm: fc.constantFrom('TokenBucket' as const, 'SlidingWindow' as const, 'SlidingWindowLog' as const),
  cost: seldom(
    fc.record({
      default: often(fc.constantFrom(1, 3)),
      header: often(fc.constant('x-cost')),
      max: often(fc.constantFrom(3, 30)),
    }),
  ),
  limits: fc.option(limits, { nil: undefined, freq: 3 }),
  after: seldom(fc.array(waitingFor, { minLength: 1, maxLength: 3 })),
});

const policy: fc.Arbitrary<RateLimitPolicySpec> = fc
  .record({
    mode: seldom(fc.constant('Shadow' as const)),
    tierLimits: fc.array(limits, { minLength: 1, maxLength: 2 }),
    exemptions: seldom(fc.array(match, { minLength: 1, maxLength: 2 })),
    rules: fc.array(rule, { minLength: 1, maxLength: 4 }),
    penalty: seldom(some(['consumer', 'tenant', 'clientIP'])),
  })
  .map(({ mode, tierLimits, exemptions, rules, penalty }) => ({
    mode,
    tiers: tierLimits.map((list, index) => ({ name: TIERS[index] ?? '', default: index === 0, limits: list })),
    exemptions: exemptions?.map((one, index) => ({ name: `e${index}`, match: one })),
    // A rule waits for those before it only: so there is no cycle.
    rules: rules.map((one, index) => {
      const after = one.after?.filter((before) => Number(before.rule.slice(1)) < index);
      const source = one.limits === undefined ? { limitsFrom: 'Tier' as const } : {};
      return { ...one, ...source, name: `r${index}`, after: after?.length === 0 ? undefined : after };
    }),
    penalty: penalty && { countBy: penalty, warn: { violations: 1, forSeconds: 60 } },
  }));

const time = fc
  .constantFrom('11:00:00Z', '12:00:00Z', '12:00:00.001Z', '13:00:00Z')
  .map((text) => `2026-06-01T${text}`);

const override: fc.Arbitrary<RateLimitOverrideSpec> = fc
  .record({
    policyRef: fc.record({ name: fc.constantFrom('p0', 'p1', 'p2') }),
    subject: fc.oneof(
      fc.record({ consumer: fc.constantFrom(...CONSUMERS) }),
      fc.record({ tenant: fc.constantFrom(...TENANTS) }),
      fc.record({ clientIP: fc.constantFrom(...Object.keys(ADDRESSES)) }),
    ),
    rules: often(some(['r0', 'r1', 'r2'])),
    action: fc.constantFrom('Replace' as const, 'Scale' as const, 'Exempt' as const, 'Block' as const),
    limits,
    percent: fc.constantFrom(1, 50, 150, 10_000),
    startsAt: often(time),
    expiresAt: time,
  })
  .map((spec) => ({
    ...spec,
    limits: spec.action === 'Replace' ? spec.limits : undefined,
    percent: spec.action === 'Scale' ? spec.percent : undefined,
  }));

const health: fc.Arbitrary<SystemHealthSpec> = fc.record({
  mode: fc.constantFrom('DEGRADED' as const, 'DEGRADED' as const, 'NORMAL' as const),
  reason: fc.constant('test'),
  expiresAt: often(time),
  scope: often(
    fc.record({
      domains: seldom(some(['payments', 'shop'])),
      tiers: seldom(some(TIERS)),
      policySelector: seldom(fc.record({ matchLabels: fc.constantFrom({ layer: 'edge' }, { layer: 'core' }) })),
    }),
  ),
});

const request: fc.Arbitrary<ModelRequest & { readonly ip: string | undefined }> = fc
  .record({
    path: often(fc.constantFrom(...PATHS)),
    method: often(fc.constantFrom('GET', 'HEAD', 'POST')),
    host: often(fc.constantFrom('example.com', 'a.example.com', 'b.a.example.com', 'xexample.com')),
    headers: often(
      fc.record(
        { 'x-plan': fc.constantFrom('gold', 'silver'), 'x-cost': fc.constantFrom(...COSTS) },
        { requiredKeys: [] },
      ),
    ),
    attributes: often(fc.record({ region: fc.constantFrom('eu', ''), zone: fc.constant('eu') }, { requiredKeys: [] })),
    ip: often(fc.constantFrom(...Object.keys(ADDRESSES))),
    consumer: often(fc.constantFrom(...CONSUMERS)),
    tenant: often(fc.constantFrom(...TENANTS)),
    tier: often(fc.constantFrom(...TIERS)),
    cost: seldom(fc.constantFrom(1, 4, 50)),
    isTrusted: fc.boolean(),
    negotiated: seldom(
      fc
        .record({ policy: fc.constantFrom('payments/p0', 'payments/p1'), rule: fc.constantFrom('r0', 'r1'), limits })
        .map((one) => [one]),
    ),
  })
  .map((facts) => ({ ...facts, address: facts.ip === undefined ? undefined : ADDRESSES[facts.ip] }));

const LABELS: readonly Readonly<Record<string, string>>[] = [{ layer: 'edge' }, { layer: 'core' }, {}];

const world: fc.Arbitrary<World> = fc
  .record({
    policies: fc.array(policy, { minLength: 1, maxLength: 3 }),
    overrides: fc.array(override, { minLength: 1, maxLength: 6 }),
    healths: fc.array(health, { maxLength: 2 }),
    ipv6PrefixLength: fc.constantFrom(32, 48, 56, 64, 128),
  })
  .map(({ policies, overrides, ...rest }) => ({
    ...rest,
    policies: Object.fromEntries(policies.map((spec, index) => [`p${index}`, { spec, labels: LABELS[index] ?? {} }])),
    overrides: Object.fromEntries(overrides.map((spec, index) => [`o${index}`, spec])),
    nowMillis: NOW_MILLIS,
    bitsOf: (text) => BITS[text] ?? '',
  }));

function documentsOf({ policies, overrides, healths, ipv6PrefixLength }: World): Document[] {
  return [
    aDomainDocument({ identity: { ipv6PrefixLength } }),
    ...Object.entries(policies).map(([name, { spec, labels }]) => {
      const metadata = { ...metadataOf('payments', name), labels };
      return compilePolicy({ kind: 'RateLimitPolicy', metadata, spec } satisfies ValidPolicy);
    }),
    ...Object.entries(overrides).map(([name, spec]) => anOverrideDocument({ ...spec, startsAt: spec.startsAt }, name)),
    ...healths.map((spec) => aHealthDocument(spec)),
  ];
}

function contextOf({ ip, ...asked }: ModelRequest & { readonly ip: string | undefined }, bits: number): RequestContext {
  const { isTrusted, headers, attributes, negotiated, ...facts } = asked;
  const address = ip === undefined ? undefined : parseIP(ip);
  return {
    ...facts,
    address,
    clientIP: address && clientText(address, bits),
    headers: headers && new Map(Object.entries(headers)),
    attributes: attributes && new Map(Object.entries(attributes)),
    hasTrustedHeaders: isTrusted,
    negotiated: negotiated?.map((one) => ({ ...one, limits: one.limits.map(numbersOf) })),
  };
}

const shortId = (policyId: string, name: string): string => `${policyId.replace('payments/', '')}/${name}`;

/** A selection in the words of the model; counters and groups as they are, to be compared pair by pair. */
function inWordsOfTheModel(selection: Selection): Omit<Outcome, 'rules'> & { readonly rules: readonly object[] } {
  const { rules, missing, exemptions, overrides, blockedBy } = selection;
  const nameOf = (index: number): string => shortId(rules[index]?.policy ?? '', rules[index]?.rule ?? '');
  return {
    rules: rules.map((one) => ({
      rule: shortId(one.policy, one.rule),
      cost: one.cost,
      isPunished: one.penalty !== undefined && selection.penalties[one.penalty]?.policy === one.policy,
      after: one.after.map((wait) => `${nameOf(wait.rule)} ${wait.outcome === 'NotRun' ? 'NotMatched' : wait.outcome}`),
      limits: one.limits.map((each) => ({
        windowSeconds: each.windowSeconds,
        capacity: each.capacity,
        refill: each.refill,
        normalCapacity: each.normalCapacity,
        normalRefill: each.normalRefill,
        mode: each.mode,
        untilMillis: each.modeUntilMicros === undefined ? undefined : each.modeUntilMicros / 1000,
      })),
    })),
    missing: missing.map((one) => shortId(one.policy, one.rule)),
    exemptions: exemptions.map((one) => shortId(one.policy, one.exemption)),
    overrides: overrides.map((one) => `${shortId(one.policy, one.rule)} ${one.action}`),
    blockedUntilMillis: blockedBy === undefined ? undefined : blockedBy.expiresAtMicros / 1000,
  };
}

/** Two names of one thing, over all that was ever seen: each has one of the other kind. */
class Pairs {
  readonly #one = new Map<string, string>();
  readonly #other = new Map<string, string>();

  note(one: string, other: string): void {
    expect(this.#one.get(one) ?? other).toBe(other);
    expect(this.#other.get(other) ?? one).toBe(one);
    this.#one.set(one, other);
    this.#other.set(other, one);
  }

  get size(): number {
    return this.#one.size;
  }
}

describe('the rules that are selected', () => {
  it('are those of the model, with its numbers', () => {
    const [subjects, fields] = [new Pairs(), new Pairs()];
    const seen = { applied: 0, missing: 0, exempted: 0, overridden: 0, blocked: 0, waiting: 0, degraded: 0, shadow: 0 };
    fc.assert(
      fc.property(world, fc.array(request, { minLength: 1, maxLength: 5 }), (given, requests) => {
        const documents = documentsOf(given);
        for (const asked of requests) {
          const expected = evaluate(given, asked);
          const selection = selectAmong(documents, contextOf(asked, given.ipv6PrefixLength), NOW_MILLIS * 1000);
          const numbers = expected.rules.map(({ group: _group, subject: _subject, ...rest }) => rest);
          expect(inWordsOfTheModel(selection)).toEqual({ ...expected, rules: numbers });
          const inGroups = new Pairs();
          expected.rules.forEach((one, position) => {
            const selected = selection.rules[position];
            expect(selected?.group === 0).toBe(one.group === '');
            inGroups.note(one.group, String(selected?.group));
            const text = JSON.stringify(one.subject);
            // The same network of IPv6 is another client in another domain.
            const isIPv6 = one.subject.some((part) => /^[01]{32,}$/.test(part) && !part.startsWith('0'.repeat(80)));
            for (const each of selected?.limits ?? []) {
              if (!isIPv6) subjects.note(text, each.subject);
              fields.note(JSON.stringify([one.rule, each.windowSeconds, selected?.limits[0]?.algorithm]), each.field);
            }
            seen.waiting += one.after.length > 0 ? 1 : 0;
            seen.shadow += one.group === '' ? 0 : 1;
            seen.degraded += one.limits[0]?.mode === 'DEGRADED' ? 1 : 0;
          });
          seen.applied += expected.rules.length;
          seen.missing += expected.missing.length;
          seen.exempted += expected.exemptions.length;
          seen.overridden += expected.overrides.length;
          seen.blocked += expected.blockedUntilMillis === undefined ? 0 : 1;
        }
      }),
      { numRuns: 1_000 },
    );
    // Everything that may happen did.
    for (const count of Object.values(seen)) expect(count).toBeGreaterThan(10);
    expect(subjects.size).toBeGreaterThan(50);
    expect(fields.size).toBeGreaterThan(50);
  });
});
