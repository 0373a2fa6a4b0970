import type { ResourceKind } from '../../../policy/schema/kinds.ts';

/** What a schema cannot say: the API server accepts these, `validate` refuses them. Namespace: payments. */
export type SemanticCase = Row & { readonly kind: ResourceKind };

type Row = {
  readonly name: string;
  readonly spec: unknown;
  readonly path: string;
  readonly reason: string;
  /** What the message has to say. */
  readonly says: string;
};

const LIMITS = [{ windowSeconds: 60, requests: 10 }];
const rule = (fields: object = {}): object => ({
  name: 'r',
  countBy: ['consumer'],
  algorithm: 'TokenBucket',
  limits: LIMITS,
  ...fields,
});
const manyLimits = (count: number): unknown[] =>
  Array.from({ length: count }, (_, index) => ({ windowSeconds: index + 1, requests: 5 }));

const unreachable = [
  ['/a/../b', 'write "/b"'],
  ['/a/./b', 'write "/a/b"'],
  ['/..', 'write "/"'],
  ['/%61', 'write "/a"'],
  ['/a%2fb', 'write "/a%2Fb"'],
  ['/%2E%2e/b', 'write "/b"'],
  ['/a%', 'it is not a valid path'],
  ['/a%0', 'it is not a valid path'],
  ['/%zz', 'it is not a valid path'],
  ['/%00', 'it is not a valid path'],
].flatMap(([value = '', says = '']) =>
  ['Exact', 'Prefix'].map((type): Row => ({
    name: `${type} ${value}, which no normalised path is`,
    spec: {
      rules: [
        rule({
          match: {
            paths: [
              { type: 'Exact', value: '/ok' },
              { type, value },
            ],
          },
        }),
      ],
    },
    path: 'spec.rules[0].match.paths[1].value',
    reason: 'PathNotNormal',
    says,
  })),
);

const templates = [
  ['/users', 'has no placeholder'],
  ['/', 'has no placeholder'],
  ['/users/{}', 'not "{}"'],
  ['/users/{id', 'not "{id"'],
  ['/users/id}', 'not "id}"'],
  ['/users/a{id}', 'not "a{id}"'],
  ['/users/{id}{name}', 'not "{id}{name}"'],
  ['/users/{i.d}', 'not "{i.d}"'],
  ['/users/../{id}', 'dot segments'],
  ['/users/./{id}', 'dot segments'],
  ['/%41/{id}', 'escapes are not allowed'],
].map(([value = '', says = '']): Row => ({
  name: `the template ${value}`,
  spec: { rules: [rule({ match: { paths: [{ type: 'Template', value }] } })] },
  path: 'spec.rules[0].match.paths[0].value',
  reason: 'BadTemplate',
  says,
}));

const three = (...specs: readonly object[]): unknown => ({
  rules: specs.map((spec, index) => rule({ name: `r${index}`, ...spec })),
});

const tooMany = [
  {
    name: '17 limits in rules that match every request',
    spec: three({ limits: manyLimits(8) }, { limits: manyLimits(8) }, {}),
  },
  {
    name: '17 limits where the largest tier makes them too many',
    spec: {
      tiers: [
        { name: 'small', default: true, limits: LIMITS },
        { name: 'large', limits: manyLimits(8) },
      ],
      rules: [
        rule({ name: 'a', limits: manyLimits(8) }),
        rule(),
        rule({ name: 'b', limits: undefined, limitsFrom: 'Tier' }),
      ],
    },
  },
  {
    name: '17 limits on a path that a prefix, a template and an exact path share',
    spec: three(
      { limits: manyLimits(8), match: { paths: [{ type: 'Prefix', value: '/users' }] } },
      { limits: manyLimits(8), match: { paths: [{ type: 'Template', value: '/users/{id}' }] } },
      { match: { paths: [{ type: 'Exact', value: '/users/me' }] } },
    ),
  },
  {
    name: '17 limits on HEAD, which GET covers',
    spec: three(
      { limits: manyLimits(8), match: { methods: ['GET'] } },
      { limits: manyLimits(8), match: { methods: ['HEAD'] } },
      {},
    ),
  },
].map(({ name, spec }): Row => ({
  name,
  spec,
  path: 'spec.rules',
  reason: 'TooManyLimits',
  says: '17 limits; at most 16',
}));

const BY_ROUTE = { countBy: ['consumer', 'route'] };
const PATHS = { paths: [{ type: 'Prefix', value: '/' }] };

const routeless = [
  { name: 'a rule by route that matches everything', fields: {} },
  { name: 'a rule by route alone', fields: { countBy: ['route'] } },
  { name: 'a rule by route that matches by method', fields: { match: { methods: ['GET'] } } },
  { name: 'a rule by route with an empty match', fields: { match: {} } },
  { name: 'a rule by route whose paths are null', fields: { match: { paths: null } } },
].map(({ name, fields }): Row => ({
  name,
  spec: three({ ...BY_ROUTE, match: PATHS }, { ...BY_ROUTE, ...fields }),
  path: 'spec.rules[1].countBy',
  reason: 'RouteWithoutPaths',
  says: 'the rule never applies',
}));

const routelessPenalty: Row = {
  name: 'a penalty by route',
  spec: {
    rules: [rule({ ...BY_ROUTE, match: PATHS })],
    penalty: { countBy: ['consumer', 'route'], warn: { violations: 1, forSeconds: 1 } },
  },
  path: 'spec.penalty.countBy',
  reason: 'RouteWithoutPaths',
  says: 'nobody would ever be punished',
};

/** What each rule waits for, by the names r0, r1, ... */
const waiting = (...waits: readonly (readonly string[])[]): unknown =>
  three(...waits.map((names) => (names.length === 0 ? {} : { after: names.map((name) => after(name)) })));
const after = (name: string): object => ({ rule: name, outcome: 'Denied' });

const unknown = [
  {
    name: 'a rule that waits for one that does not exist',
    waits: [[], ['r0', 'gone']],
    at: 'rules[1].after[1]',
    gone: 'gone',
  },
  { name: 'a name that only begins like that of a rule', waits: [['r']], at: 'rules[0].after[0]', gone: 'r' },
  { name: 'a name that begins with that of a rule', waits: [['r00']], at: 'rules[0].after[0]', gone: 'r00' },
].map(({ name, waits, at, gone }): Row => ({
  name,
  spec: waiting(...waits),
  path: `spec.${at}.rule`,
  reason: 'UnknownRule',
  says: `there is no rule "${gone}" in this policy`,
}));

const cycles = [
  { name: 'a rule that waits for itself', waits: [['r0']], says: 'r0 -> r0' },
  { name: 'two rules that wait for each other', waits: [['r1'], ['r0']], says: 'r0 -> r1 -> r0' },
  { name: 'three rules that wait for each other', waits: [['r1'], ['r2'], ['r0']], says: 'r0 -> r1 -> r2 -> r0' },
  { name: 'a cycle behind rules without', waits: [[], ['r0', 'r2'], ['r3'], ['r0', 'r2']], says: ': r2 -> r3 -> r2' },
].map(({ name, waits, says }): Row => ({
  name,
  spec: waiting(...waits),
  path: 'spec.rules',
  reason: 'RuleCycle',
  says,
}));

const exempting = (match: object): unknown => ({
  exemptions: [
    { name: 'ok', match: {} },
    { name: 'odd', match },
  ],
  rules: [rule()],
});

const exemptions: readonly Row[] = [
  {
    name: 'an exemption of a path that no normalised path is',
    spec: exempting({ paths: [{ type: 'Exact', value: '/a/../b' }] }),
    path: 'spec.exemptions[1].match.paths[0].value',
    reason: 'PathNotNormal',
    says: 'write "/b"',
  },
  {
    name: 'an exemption by a template without a placeholder',
    spec: exempting({ paths: [{ type: 'Template', value: '/a' }] }),
    path: 'spec.exemptions[1].match.paths[0].value',
    reason: 'BadTemplate',
    says: 'has no placeholder',
  },
  {
    name: 'an exemption of a network that is none',
    spec: exempting({ sourceCIDRs: ['10.0.0.0/8', '10.0.0.0/33'] }),
    path: 'spec.exemptions[1].match.sourceCIDRs[1]',
    reason: 'InvalidNetwork',
    says: '"10.0.0.0/33"',
  },
];

const networks = [
  '10.0.0.0/33',
  '10.0.0/8',
  '10.0.0.256/8',
  '10.0.0.0/08',
  '2001:db8::/129',
  '2001:::/32',
  '1.2/8',
].map((network): Row => ({
  name: `the network ${network}`,
  spec: { rules: [rule({ match: { sourceCIDRs: ['203.0.113.0/24', network] } })] },
  path: 'spec.rules[0].match.sourceCIDRs[1]',
  reason: 'InvalidNetwork',
  says: `"${network}" is not a network: write it like 203.0.113.0/24`,
}));

const ofPolicies: readonly Row[] = [
  ...unreachable,
  ...templates,
  ...tooMany,
  ...routeless,
  routelessPenalty,
  ...unknown,
  ...cycles,
  ...exemptions,
  ...networks,
];

const addresses = [
  '203.0.113.256',
  '203.0.113',
  '2001:db8:::1',
  '1:2:3',
  '2001:db8::1/129',
  '203.0.113.0/33',
  '203.0.113.0/24',
  '::ffff:203.0.113.0/120',
].map((clientIP): Row => ({
  name: `an override for the client ${clientIP}`,
  spec: { policyRef: { name: 'p' }, subject: { clientIP }, action: 'Block', expiresAt: '2026-12-01T00:00:00Z' },
  path: 'spec.subject.clientIP',
  reason: 'InvalidAddress',
  says: `"${clientIP}" is not an address`,
}));

export const semanticCases: readonly SemanticCase[] = [
  ...ofPolicies.map((row): SemanticCase => ({ ...row, kind: 'RateLimitPolicy' })),
  ...addresses.map((row): SemanticCase => ({ ...row, kind: 'RateLimitOverride' })),
];
