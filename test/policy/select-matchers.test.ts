// Which requests a rule applies to, by each kind of matcher, and which requests a policy leaves alone.
import { describe, expect, it } from 'vitest';
import { parseIP } from '../../policy/ip.ts';
import type { Match } from '../../policy/schema/match.ts';
import { isExemptForEveryone } from '../../policy/select.ts';
import type { RequestContext, Selection } from '../../policy/selection.ts';
import { aPolicy, indexOf, type PolicyBuilder, selectAmong } from './builders.ts';

const NOW = Date.parse('2026-06-01T12:00:00Z') * 1000;

/** Carries something for every matcher. */
const REQUEST: RequestContext = {
  path: '/v1/users',
  method: 'GET',
  host: 'api.example.com',
  headers: new Map([['x-plan', 'gold']]),
  address: parseIP('203.0.113.9'),
  clientIP: '203.0.113.9',
  attributes: new Map([['region', 'eu']]),
  consumer: 'key:acme',
  tenant: 'tenant-1',
  tier: 'pro',
};

const select = (policies: readonly PolicyBuilder[], request: RequestContext = REQUEST): Selection =>
  selectAmong(
    policies.map((policy) => policy.document()),
    request,
    NOW,
  );

/** What becomes of a rule with this match: it applies, it does not, or this input is missing. */
function outcome(match: Match, request: RequestContext, policy = aPolicy()): string {
  const { rules, missing } = select([policy.withRule({ countBy: ['global'], match })], request);
  return missing[0] === undefined ? (rules.length === 1 ? 'applies' : 'does not') : `lacks ${missing[0].input}`;
}

type Row = readonly [match: Match, request: RequestContext, expected: string];

const at = (ip: string): RequestContext => ({ address: parseIP(ip) });
const saying = (...pairs: [string, string][]): RequestContext => ({ attributes: new Map(pairs) });

const methods: readonly Row[] = [
  [{ methods: ['GET'] }, { method: 'GET' }, 'applies'],
  [{ methods: ['GET'] }, { method: 'HEAD' }, 'applies'],
  [{ methods: ['HEAD'] }, { method: 'GET' }, 'does not'],
  [{ methods: ['POST'] }, { method: 'HEAD' }, 'does not'],
];

const hosts: readonly Row[] = [
  [{ hosts: ['example.com'] }, { host: 'example.com' }, 'applies'],
  [{ hosts: ['example.com'] }, { host: 'api.example.com' }, 'does not'],
  [{ hosts: ['*.example.com'] }, { host: 'api.example.com' }, 'applies'],
  [{ hosts: ['*.example.com'] }, { host: 'v1.api.example.com' }, 'applies'],
  [{ hosts: ['*.example.com'] }, { host: 'example.com' }, 'does not'],
  [{ hosts: ['*.example.com'] }, { host: 'notexample.com' }, 'does not'],
  [{ hosts: ['*.example.com'] }, { host: 'api.example.com.evil.test' }, 'does not'],
  [{ hosts: ['*.example.com', 'example.com'] }, { host: 'example.com' }, 'applies'],
  [{ hosts: ['example.com'] }, { host: '' }, 'does not'],
];

const networks: readonly Row[] = [
  [{ sourceCIDRs: ['203.0.113.0/24'] }, at('203.0.113.255'), 'applies'],
  [{ sourceCIDRs: ['203.0.113.0/24'] }, at('203.0.114.0'), 'does not'],
  [{ sourceCIDRs: ['203.0.113.0/24'] }, at('::ffff:203.0.113.9'), 'applies'],
  [{ sourceCIDRs: ['::ffff:203.0.113.0/120'] }, at('203.0.113.9'), 'applies'],
  [{ sourceCIDRs: ['10.0.0.0/8', '2001:db8::/32'] }, at('2001:db8:1::1'), 'applies'],
  [{ sourceCIDRs: ['2001:db8::/65'] }, at('2001:db8::8000:0:0:1'), 'does not'],
  [{ sourceCIDRs: ['0.0.0.0/0'] }, at('2001:db8::1'), 'does not'],
];

const eu = { name: 'region', type: 'Exact', value: 'eu' } as const;
const hasZone = { name: 'zone', type: 'Present' } as const;
const noZone = { name: 'zone', type: 'Absent' } as const;

const attributes: readonly Row[] = [
  [{ attributes: [eu] }, saying(['region', 'eu']), 'applies'],
  [{ attributes: [eu] }, saying(['region', 'EU']), 'does not'],
  [{ attributes: [eu] }, saying(['Region', 'eu']), 'does not'],
  [{ attributes: [eu, hasZone] }, saying(['region', 'eu']), 'does not'],
  [{ attributes: [eu, hasZone] }, saying(['region', 'eu'], ['zone', '']), 'applies'],
  [{ attributes: [noZone] }, saying(), 'applies'],
  [{ attributes: [noZone] }, saying(['zone', '']), 'does not'],
];

const identities: readonly Row[] = [
  [{ tenants: ['a', 'b'] }, { tenant: 'b' }, 'applies'],
  [{ tenants: ['a', 'b'] }, { tenant: 'A' }, 'does not'],
  [{ consumers: ['key:acme'] }, { consumer: 'key:acme' }, 'applies'],
  [{ consumers: ['key:acme'] }, { consumer: 'caller:acme' }, 'does not'],
  [{ tiers: ['pro'] }, { tier: 'pro' }, 'applies'],
  [{ tiers: ['free'] }, { tier: 'pro' }, 'does not'],
];

describe('a rule', () => {
  it.each([...methods, ...hosts, ...networks, ...attributes, ...identities])(
    'that matches %o, for a request with %o: %s',
    (match, request, expected) => {
      expect(outcome(match, request)).toBe(expected);
    },
  );

  it.each([
    ['method', 'method', { methods: ['GET'] }],
    ['host', 'host', { hosts: ['api.example.com'] }],
    ['headers', 'headers', { headers: [{ name: 'x-plan', type: 'Present' }] }],
    ['ip', 'address', { sourceCIDRs: ['203.0.113.0/24'] }],
    ['attributes', 'attributes', { attributes: [eu] }],
    ['tier', 'tier', { tiers: ['pro'] }],
    ['tenant', 'tenant', { tenants: ['tenant-1'] }],
    ['consumer', 'consumer', { consumers: ['key:acme'] }],
    ['path', 'path', { paths: [{ type: 'Prefix', value: '/v1' }] }],
  ] as [string, keyof RequestContext, Match][])(
    'that matches by %s reports that it is missing',
    (input, field, match) => {
      expect(outcome(match, REQUEST)).toBe('applies');
      expect(outcome(match, { ...REQUEST, [field]: undefined })).toBe(`lacks ${input}`);
    },
  );

  it('that another matcher excludes lacks nothing', () => {
    expect(outcome({ hosts: ['example.com'], tenants: ['a'] }, { tenant: 'b' })).toBe('does not');
    expect(outcome({ hosts: ['example.com'], tenants: ['a'] }, { tenant: 'a' })).toBe('lacks host');
  });

  it('of many kinds of matchers applies where all of them do', () => {
    const all: Match = {
      methods: ['GET'],
      hosts: ['*.example.com'],
      headers: [{ name: 'x-plan', type: 'Exact', value: 'gold' }],
      sourceCIDRs: ['203.0.113.0/24'],
      attributes: [eu],
      tiers: ['pro'],
      tenants: ['tenant-1'],
      consumers: ['key:acme'],
      paths: [{ type: 'Prefix', value: '/v1' }],
    };
    const changes: RequestContext[] = [
      { method: 'PUT' },
      { host: 'example.com' },
      { headers: new Map() },
      { address: parseIP('203.0.112.9') },
      { attributes: new Map() },
      { tier: 'free' },
      { tenant: 'tenant-2' },
      { consumer: 'ip:203.0.113.9' },
      { path: '/v2' },
    ];
    expect(outcome(all, REQUEST)).toBe('applies');
    for (const change of changes) expect(outcome(all, { ...REQUEST, ...change })).toBe('does not');
  });

  it('by tier means the default tier of its policy where the request has none that the policy knows', () => {
    const tiered = aPolicy().withTier('free', { default: true }).withTier('pro');
    expect(outcome({ tiers: ['free'] }, {}, tiered)).toBe('applies');
    expect(outcome({ tiers: ['free'] }, { tier: 'gold' }, tiered)).toBe('applies');
    expect(outcome({ tiers: ['gold'] }, { tier: 'gold' }, tiered)).toBe('does not');
    expect(outcome({ tiers: ['pro'] }, { tier: 'pro' }, tiered)).toBe('applies');
    expect(outcome({ tiers: ['free'] }, {}, aPolicy().withTier('free'))).toBe('lacks tier');
  });
});

describe('an exemption', () => {
  const probes: Match = { paths: [{ type: 'Prefix', value: '/healthz' }] };
  const exempted = aPolicy()
    .named('a')
    .withExemption('probes', probes)
    .withExemption('staff', { tenants: ['staff'] });
  const probe = { ...REQUEST, path: '/healthz/live' };

  it('ends the evaluation of its own policy, and of no other', () => {
    const selection = select([exempted.withPenalty(), aPolicy().named('b').withPenalty()], probe);
    expect(selection.exemptions).toEqual([{ policy: 'payments/a', exemption: 'probes' }]);
    expect(selection.rules.map(({ policy }) => policy)).toEqual(['payments/b']);
    expect(selection.penalties.map(({ policy }) => policy)).toEqual(['payments/b']);
  });

  it('is the first of those that match', () => {
    expect(select([exempted], { ...probe, tenant: 'staff' }).exemptions).toMatchObject([{ exemption: 'probes' }]);
    expect(select([exempted], { ...REQUEST, tenant: 'staff' }).exemptions).toMatchObject([{ exemption: 'staff' }]);
  });

  it('that does not match, or lacks an input, leaves the policy in force and reports nothing', () => {
    for (const request of [REQUEST, { ...probe, path: undefined, tenant: undefined }]) {
      expect(select([exempted], request)).toMatchObject({
        exemptions: [],
        missing: [],
        rules: [{ policy: 'payments/a' }],
      });
    }
  });

  it('by tier means the tier that holds for its policy', () => {
    const policy = aPolicy()
      .withTier('free', { default: true })
      .withExemption('free', { tiers: ['free'] });
    expect(select([policy], { ...REQUEST, tier: undefined }).rules).toEqual([]);
    expect(select([policy.withTier('pro')], REQUEST).rules).toHaveLength(1);
  });

  it('counts nothing as missing in a rule that is not looked at', () => {
    const policy = exempted.withRule({ name: 'r', countBy: ['header:x-absent'] });
    expect(select([policy], probe).missing).toEqual([]);
  });

  describe('that asks nothing about who calls', () => {
    const isExempt = (policies: readonly PolicyBuilder[], request: RequestContext): boolean =>
      isExemptForEveryone(indexOf(policies.map((policy) => policy.document())), request);

    it('is known before identity, if every policy of the domain has one', () => {
      const { path } = probe;
      expect(isExempt([exempted], { path })).toBe(true);
      expect(isExempt([exempted, aPolicy().named('b').withExemption('all', {})], { path })).toBe(true);
      expect(isExempt([exempted, aPolicy().named('b')], { path })).toBe(false);
      expect(isExempt([exempted], { path: '/v1' })).toBe(false);
      expect(isExempt([exempted], {})).toBe(false);
      expect(isExempt([aPolicy()], { path })).toBe(false);
    });

    it.each([
      ['hosts', { hosts: ['*.example.com'] }, true],
      ['networks', { sourceCIDRs: ['203.0.113.0/24'] }, true],
      ['attributes', { attributes: [eu] }, true],
      ['headers', { headers: [{ name: 'x-plan', type: 'Present' }] }, true],
      ['tenants', { tenants: ['tenant-1'] }, false],
      ['consumers', { consumers: ['key:acme'] }, false],
      ['tiers', { tiers: ['pro'] }, false],
      ['a path and tenants', { ...probes, tenants: ['tenant-1'] }, false],
    ] as [string, Match, boolean][])('may ask about %s: %s', (_title, match, expected) => {
      const policy = aPolicy().withExemption('e', match);
      expect(isExempt([policy], { ...probe, host: 'a.example.com' })).toBe(expected);
      expect(select([policy], probe).exemptions).toHaveLength(1);
    });
  });
});
