import { DOMAINS, enumCases, LABELS, listCases, type SpecCase, tableOf, textCases } from './table.ts';

const table = tableOf('SystemHealth');
const { good, bad } = table;

const degraded = (fields: object = {}): unknown => ({ mode: 'DEGRADED', reason: 'overload', ...fields });
const withScope = (scope: unknown): unknown => degraded({ scope });

const modes: readonly SpecCase[] = [
  ...enumCases(table, { name: 'mode', path: 'spec.mode', place: (mode) => ({ mode, reason: 'overload' }) }, [
    'NORMAL',
    'DEGRADED',
  ]),
  bad('no mode', { reason: 'overload' }, 'spec.mode', 'Required'),
  bad('the mode null', { mode: null }, 'spec.mode', 'Required'),
  bad('an empty spec', {}, 'spec.mode', 'Required'),
  bad('no spec', undefined, 'spec', 'Required'),
  bad('the spec null', null, 'spec'),
];

const reasons: readonly SpecCase[] = [
  good('NORMAL without a reason', { mode: 'NORMAL' }),
  good('NORMAL with a reason', { mode: 'NORMAL', reason: 'over' }),
  good('NORMAL with the reason null', { mode: 'NORMAL', reason: null }),
  bad('DEGRADED without a reason', { mode: 'DEGRADED' }, 'spec.reason', 'ReasonMissing'),
  bad('DEGRADED with the reason null', { mode: 'DEGRADED', reason: null }, 'spec.reason', 'ReasonMissing'),
  ...textCases(
    table,
    { name: 'reason', path: 'spec.reason', place: (reason) => degraded({ reason }) },
    {
      // Characters outside the basic plane are two units of UTF-16, four bytes, and one character.
      good: ['x', ' ', 'line\nbreak', 'é'.repeat(256), '𝒶', '𝒶'.repeat(256), `${'a'.repeat(255)}🔥`],
      bad: ['', 'x'.repeat(257), 'é'.repeat(257), '𝒶'.repeat(257), `${'a'.repeat(256)}🔥`, 5, true, ['x'], {}],
    },
  ),
];

const DATES = {
  good: ['2026-01-01', '2028-02-29', '2000-02-29', '2026-02-28', '2026-12-31', '0000-02-29', '9999-12-31'],
  bad: ['2026-02-29', '2026-02-30', '1900-02-29', '2026-04-31', '2026-00-01', '2026-13-01', '2026-01-00', '2026-01-32'],
};
const TIMES = {
  good: ['00:00:00Z', '23:59:59Z', '10:00:00.5Z', '10:00:00.123456789Z', '10:00:00.000000000+00:00'],
  bad: [
    '24:00:00Z',
    '23:60:00Z',
    '23:59:60Z',
    '10:00Z',
    '1:00:00Z',
    '10:00:00',
    '10:00:00z',
    '10:00:00 Z',
    '10:00:00.Z',
    '10:00:00,5Z',
    '10:00:00.1234567890Z',
    '10:00:00UTC',
    '10:00:00Z\n',
  ],
};
const ZONES = {
  good: ['+00:00', '-00:00', '+14:00', '+23:59', '-23:59', '+05:45'],
  bad: ['+24:00', '-24:00', '+05:60', '+5:45', '+0545', '+05', 'ZZ'],
};

const expiries: readonly SpecCase[] = [
  // The API server takes a list for any text that has a format, unless a rule looks at it.
  bad('a list for expiresAt', degraded({ expiresAt: ['2026-01-01T00:00:00Z'] }), 'spec.expiresAt'),
  bad('an empty list for expiresAt', degraded({ expiresAt: [] }), 'spec.expiresAt'),
  bad('an object for expiresAt', degraded({ expiresAt: {} }), 'spec.expiresAt'),
  good('expiresAt null', degraded({ expiresAt: null })),
  ...textCases(
    table,
    { name: 'expiresAt', path: 'spec.expiresAt', place: (expiresAt) => degraded({ expiresAt }) },
    {
      good: [
        ...DATES.good.map((date) => `${date}T10:00:00Z`),
        ...TIMES.good.map((time) => `2026-01-01T${time}`),
        ...ZONES.good.map((zone) => `2026-01-01T10:00:00${zone}`),
      ],
      bad: [
        ...DATES.bad.map((date) => `${date}T10:00:00Z`),
        ...TIMES.bad.map((time) => `2026-01-01T${time}`),
        ...ZONES.bad.map((zone) => `2026-01-01T10:00:00${zone}`),
        '',
        'tomorrow',
        '2026-01-01',
        '2026-01-01t10:00:00Z',
        '2026-01-01 10:00:00Z',
        '26-01-01T10:00:00Z',
        '20260101T100000Z',
        '+002026-01-01T10:00:00Z',
        '2026-W01-1T10:00:00Z',
        1_767_225_600,
        true,
      ],
    },
  ),
];

const scopes: readonly SpecCase[] = [
  good('an empty scope', withScope({})),
  good('the scope null', withScope(null)),
  good('domains and tiers null', withScope({ domains: null, tiers: null })),
  bad('text for the scope', withScope('all'), 'spec.scope'),
  bad('a list for the scope', withScope([]), 'spec.scope'),
  ...listCases(
    table,
    { name: 'scope.domains', path: 'spec.scope.domains', place: (domains) => withScope({ domains }) },
    { min: 1, max: 64, item: (index) => `d${index}` },
  ),
  ...listCases(
    table,
    { name: 'scope.tiers', path: 'spec.scope.tiers', place: (tiers) => withScope({ tiers }) },
    { min: 1, max: 16, item: (index) => `t${index}` },
  ),
  ...textCases(
    table,
    { name: 'domain', path: 'spec.scope.domains[0]', place: (domain) => withScope({ domains: [domain] }) },
    DOMAINS,
  ),
  ...textCases(
    table,
    { name: 'tier', path: 'spec.scope.tiers[0]', place: (tier) => withScope({ tiers: [tier] }) },
    LABELS,
  ),
  bad('one domain twice', withScope({ domains: ['a', 'b', 'a'] }), 'spec.scope.domains[2]', 'Duplicate'),
  bad('one tier twice', withScope({ tiers: ['a', 'a'] }), 'spec.scope.tiers[1]', 'Duplicate'),
];

const SELECTOR = 'spec.scope.policySelector';
const EXPRESSION = `${SELECTOR}.matchExpressions[0]`;
const selecting = (policySelector: unknown): unknown => withScope({ policySelector });
const withLabels = (matchLabels: unknown): unknown => selecting({ matchLabels });
const withExpression = (fields: object): unknown =>
  selecting({ matchExpressions: [{ key: 'team', operator: 'Exists', ...fields }] });
const labels = (count: number): unknown =>
  Object.fromEntries(Array.from({ length: count }, (_, index) => [`l${index}`, 'v']));

const VALUES = {
  good: ['', 'a', '0', 'A_b.c-d', 'a'.repeat(63)],
  bad: ['a'.repeat(64), '-a', 'a-', 'a b', 'é', 'a/b', 'a\n', 5, true, ['a']],
};
const KEYS = {
  good: ['a', 'A_b.c-d', 'sluice.dev/team', 'a'.repeat(63)],
  bad: ['', '-a', 'a-', 'a b', '/a', 'a/', 'a/b/c', 'A/b', 'é', 'a\n', 5],
};

const selectors: readonly SpecCase[] = [
  good('an empty selector', selecting({})),
  good('the selector null', selecting(null)),
  good('all of the selector null', selecting({ matchLabels: null, matchExpressions: null })),
  bad('text for the selector', selecting('all'), SELECTOR),
  good('no labels', withLabels({})),
  good('16 labels, the most', withLabels(labels(16))),
  bad('17 labels', withLabels(labels(17)), `${SELECTOR}.matchLabels`),
  bad('a list of labels', withLabels(['a']), `${SELECTOR}.matchLabels`),
  ...textCases(
    table,
    { name: 'label', path: `${SELECTOR}.matchLabels.team`, place: (team) => withLabels({ team }) },
    VALUES,
  ),
  ...listCases(
    table,
    {
      name: 'matchExpressions',
      path: `${SELECTOR}.matchExpressions`,
      place: (matchExpressions) => selecting({ matchExpressions }),
    },
    { min: 0, max: 16, item: () => ({ key: 'team', operator: 'Exists' }) },
  ),
  ...enumCases(
    table,
    { name: 'operator', path: `${EXPRESSION}.operator`, place: (operator) => withExpression({ operator }) },
    ['Exists', 'DoesNotExist'],
  ),
  ...textCases(table, { name: 'label key', path: `${EXPRESSION}.key`, place: (key) => withExpression({ key }) }, KEYS),
  ...['In', 'NotIn'].flatMap((operator) => [
    good(`${operator} with values`, withExpression({ operator, values: ['a', 'b'] })),
    bad(`${operator} without values`, withExpression({ operator }), `${EXPRESSION}.values`, 'SelectorValuesMismatch'),
    bad(`${operator} of no values`, withExpression({ operator, values: [] }), `${EXPRESSION}.values`),
  ]),
  ...['Exists', 'DoesNotExist'].map((operator) =>
    bad(
      `${operator} with values`,
      withExpression({ operator, values: ['a'] }),
      `${EXPRESSION}.values`,
      'SelectorValuesMismatch',
    ),
  ),
  bad(
    'one value twice',
    withExpression({ operator: 'In', values: ['a', 'a'] }),
    `${EXPRESSION}.values[1]`,
    'Duplicate',
  ),
  bad('an expression without a key', withExpression({ key: undefined }), `${EXPRESSION}.key`, 'Required'),
  bad(
    'an expression without an operator',
    withExpression({ operator: undefined }),
    `${EXPRESSION}.operator`,
    'Required',
  ),
];

export const healthCases: readonly SpecCase[] = [...modes, ...reasons, ...expiries, ...scopes, ...selectors];
