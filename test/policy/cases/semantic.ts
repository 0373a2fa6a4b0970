/** What a schema cannot say: the API server accepts these, `validate` refuses them. Namespace: payments. */
export type SemanticCase = {
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

const foreign = ['shop', 'payment', 'paymentsx', 'payments-eu', 'eu.payments'].map((domain): SemanticCase => ({
  name: `the domain ${domain}, which is of another namespace`,
  spec: { domain, rules: [rule()] },
  path: 'spec.domain',
  reason: 'DomainNotOwned',
  says: `"${domain}" is not a domain of namespace "payments"`,
}));

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
  ['Exact', 'Prefix'].map((type): SemanticCase => ({
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
].map(([value = '', says = '']): SemanticCase => ({
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
].map(({ name, spec }): SemanticCase => ({
  name,
  spec,
  path: 'spec.rules',
  reason: 'TooManyLimits',
  says: '17 limits; at most 16',
}));

export const semanticCases: readonly SemanticCase[] = [...foreign, ...unreachable, ...templates, ...tooMany];
