import { DOMAINS, enumCases, LABELS, listCases, type SpecCase, tableOf, textCases } from './table.ts';

const table = tableOf('RateLimitPolicy');
const { good, bad } = table;

const LIMITS = [{ windowSeconds: 60, requests: 10 }];
const OWN = { name: 'own', countBy: ['consumer'], algorithm: 'TokenBucket', limits: LIMITS };
const BY_TIER = { name: 'by-tier', countBy: ['consumer'], algorithm: 'SlidingWindow', limitsFrom: 'Tier' };

const tier = (name: string, fields: object = {}): object => ({ name, limits: LIMITS, ...fields });
const withTiers = (...tiers: readonly unknown[]): unknown => ({ tiers, rules: [OWN] });
const byTier = (...tiers: readonly unknown[]): unknown => ({ tiers, rules: [BY_TIER] });

const domains: readonly SpecCase[] = [
  good('a policy without a domain', { rules: [OWN] }),
  good('the domain null', { domain: null, rules: [OWN] }),
  ...textCases(table, { name: 'domain', path: 'spec.domain', place: (domain) => ({ domain, rules: [OWN] }) }, DOMAINS),
];

const modes: readonly SpecCase[] = [
  ...enumCases(table, { name: 'mode', path: 'spec.mode', place: (mode) => ({ mode, rules: [OWN] }) }, [
    'Enforce',
    'Shadow',
  ]),
  good('the mode null', { mode: null, rules: [OWN] }),
];

const shapes: readonly SpecCase[] = [
  bad('no spec', undefined, 'spec', 'Required'),
  bad('a list for the spec', [], 'spec'),
  bad('text for the spec', 'spec', 'spec'),
  bad('a number for the spec', 5, 'spec'),
];

const tiers: readonly SpecCase[] = [
  ...listCases(
    table,
    { name: 'tiers', path: 'spec.tiers', place: (list) => ({ tiers: list, rules: [OWN] }) },
    { min: 1, max: 16, item: (index) => tier(`t${index}`) },
  ),
  good('tiers null', { tiers: null, rules: [OWN] }),
  ...textCases(
    table,
    { name: 'tier name', path: 'spec.tiers[0].name', place: (name) => withTiers({ name, limits: LIMITS }) },
    LABELS,
  ),
  bad('two tiers with one name', withTiers(tier('a'), tier('b'), tier('a')), 'spec.tiers[2].name', 'Duplicate'),
  bad('a tier without a name', withTiers({ limits: LIMITS }), 'spec.tiers[0].name', 'Required'),
  bad('a tier without limits', withTiers({ name: 'a' }), 'spec.tiers[0].limits', 'Required'),
  bad('a tier with an empty list of limits', withTiers(tier('a', { limits: [] })), 'spec.tiers[0].limits'),
  bad('text for the default of a tier', withTiers(tier('a', { default: 'true' })), 'spec.tiers[0].default'),
  bad('a number for the default of a tier', withTiers(tier('a', { default: 1 })), 'spec.tiers[0].default'),
  bad('text for a tier', withTiers('free'), 'spec.tiers[0]'),
  bad(
    'a degraded value above requests in a tier',
    withTiers(tier('a'), tier('b', { limits: [{ windowSeconds: 60, requests: 10, degraded: 11 }] })),
    'spec.tiers[1].limits[0].degraded',
    'DegradedAboveRequests',
  ),
  bad(
    'one window twice in a tier',
    withTiers(tier('a', { limits: [...LIMITS, ...LIMITS] })),
    'spec.tiers[0].limits[1].windowSeconds',
    'Duplicate',
  ),
];

const YES = { default: true };

const defaults: readonly SpecCase[] = [
  good('tiers that nobody uses, without a default', withTiers(tier('a'), tier('b'))),
  good('one default among tiers', byTier(tier('a'), tier('b', YES), tier('c', { default: false }))),
  bad('two default tiers', byTier(tier('a', YES), tier('b', YES)), 'spec.tiers', 'SeveralDefaultTiers'),
  bad(
    'two default tiers that nobody uses',
    withTiers(tier('a', YES), tier('b', YES)),
    'spec.tiers',
    'SeveralDefaultTiers',
  ),
  bad('limitsFrom without tiers', { rules: [BY_TIER] }, 'spec.tiers', 'NoDefaultTier'),
  bad('limitsFrom without a default tier', byTier(tier('a'), tier('b')), 'spec.tiers', 'NoDefaultTier'),
  bad('limitsFrom where no tier says true', byTier(tier('a', { default: false })), 'spec.tiers', 'NoDefaultTier'),
  bad('limitsFrom where the default is null', byTier(tier('a', { default: null })), 'spec.tiers', 'NoDefaultTier'),
];

const manyLimits = (count: number): unknown[] =>
  Array.from({ length: count }, (_, index) => ({ windowSeconds: index + 1, requests: 5, burst: 9, degraded: 1 }));

const OUTCOMES = ['Admitted', 'Denied', 'NotMatched'];
const RULES = 64;
const nameOf = (rule: number): string => `r${rule}`.padEnd(63, 'x');
const axesOf = (rule: number): string[] =>
  Array.from({ length: 4 }, (_, axis) => `attribute:${rule}-${axis}`.padEnd(74, 'a'));

/** Waits for as many rules before it as there are, in as many ways as there may be. */
const conditionsOf = (rule: number): object[] =>
  Array.from({ length: Math.min(8, rule * OUTCOMES.length) }, (_, index) => ({
    rule: nameOf(rule - 1 - Math.floor(index / OUTCOMES.length)),
    outcome: OUTCOMES[index % OUTCOMES.length],
  }));

const list = (count: number, item: (index: number) => unknown): unknown[] =>
  Array.from({ length: count }, (_unused, index) => item(index));

const largestMatch = (rule: number): object => ({
  paths: list(16, (path) => ({ type: 'Exact', value: `/${rule}/${path}`.padEnd(256, 'p') })),
  methods: ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS', 'CONNECT', 'TRACE'],
  hosts: list(16, (host) => `*.h${host}`.padEnd(253, 'h')),
  headers: list(8, (header) => ({ name: `x-${header}`.padEnd(64, 'h'), type: 'Exact', value: 'v'.repeat(256) })),
  sourceCIDRs: list(32, (network) => `2001:0db8:0000:0000:0000:0000:0000:${network.toString(16).padStart(4, '0')}/128`),
  attributes: list(8, (attribute) => ({
    name: `a${attribute}`.padEnd(64, 'a'),
    type: 'Exact',
    value: 'v'.repeat(256),
  })),
  tiers: list(16, (name) => `t${name}`.padEnd(63, 't')),
  tenants: list(32, (tenant) => `t${tenant}`.padEnd(128, 't')),
  consumers: list(32, (consumer) => `header:c${consumer}`.padEnd(263, 'c')),
});

const largestRule = (rule: number): object => ({
  name: nameOf(rule),
  mode: 'Enforce',
  match: largestMatch(rule),
  enforcePercent: 100,
  cost: { default: 1_000_000, header: 'h'.repeat(64), max: 1_000_000 },
  headers: 'Hide',
  ...(rule === 0 ? {} : { after: conditionsOf(rule) }),
  countBy: axesOf(rule),
  algorithm: 'SlidingWindowLog',
  failurePolicy: 'LocalFallback',
  ...(rule < RULES - 1 ? { limits: manyLimits(8) } : { limitsFrom: 'Tier' }),
});

/** As much of everything as there may be: within what the API server spends on checking one object. */
const largest: readonly SpecCase[] = [
  good('the largest policy there is', {
    mode: 'Enforce',
    domain: `payments.${'a'.repeat(63)}`,
    tiers: Array.from({ length: 16 }, (_, index) =>
      tier(`t${index}`.padEnd(63, 't'), { default: index === 15, limits: manyLimits(8) }),
    ),
    exemptions: list(16, (index) => ({ name: `e${index}`.padEnd(63, 'e'), match: largestMatch(RULES + index) })),
    rules: Array.from({ length: RULES }, (_, rule) => largestRule(rule)),
    penalty: {
      mode: 'Enforce',
      countBy: axesOf(0),
      tolerancePercent: 1000,
      violationWindowSeconds: 31_536_000,
      minSecondsPerStep: 86_400,
      warn: { violations: 999_998, forSeconds: 31_536_000 },
      throttle: { violations: 999_999, forSeconds: 31_536_000, limitPercent: 100 },
      tempBlock: { violations: 1_000_000, forSeconds: 31_536_000 },
      block: { tempBlocks: 1000, withinSeconds: 31_536_000, forSeconds: 31_536_000 },
    },
  }),
];

export const policyCases: readonly SpecCase[] = [...domains, ...modes, ...shapes, ...tiers, ...defaults, ...largest];
