import { enumCases, LABELS, listCases, type Field, type SpecCase, tableOf, textCases } from './table.ts';

const table = tableOf('RateLimitPolicy');
const { good, bad } = table;

const MATCH = 'spec.rules[0].match';
const PATH = `${MATCH}.paths[0]`;
const HEADER = `${MATCH}.headers[0]`;
const LIMITS = [{ windowSeconds: 60, requests: 10 }];

const withMatch = (match: unknown): unknown => ({
  rules: [{ name: 'r', match, countBy: ['consumer'], algorithm: 'TokenBucket', limits: LIMITS }],
});
const withPath = (fields: object): unknown => withMatch({ paths: [{ type: 'Exact', value: '/a', ...fields }] });
const withHeader = (fields: object): unknown => withMatch({ headers: [{ name: 'x-a', type: 'Present', ...fields }] });
const list = (name: string): Field => ({
  name: `match.${name}`,
  path: `${MATCH}.${name}`,
  place: (items) => withMatch({ [name]: items }),
});

const shape: readonly SpecCase[] = [
  good('a match without matchers', withMatch({})),
  good('match null, which is as good as absent', withMatch(null)),
  good(
    'matchers null, which are as good as absent',
    withMatch({
      paths: null,
      methods: null,
      hosts: null,
      headers: null,
      sourceCIDRs: null,
      attributes: null,
      tiers: null,
      tenants: null,
      consumers: null,
    }),
  ),
  bad('a list for match', withMatch([]), MATCH),
  bad('text for match', withMatch('/a'), MATCH),
];

const TYPES = { Exact: '/a', Prefix: '/a', Template: '/{id}' };

const paths: readonly SpecCase[] = [
  ...listCases(table, list('paths'), { min: 1, max: 16, item: (index) => ({ type: 'Exact', value: `/${index}` }) }),
  ...Object.entries(TYPES).map(([type, value]) => good(`a path of type ${type}`, withPath({ type, value }))),
  ...['exact', 'Regex', '', 1].map((type) =>
    bad(`a path of type ${JSON.stringify(type)}`, withPath({ type }), `${PATH}.type`),
  ),
  ...textCases(
    table,
    { name: 'path', path: `${PATH}.value`, place: (value) => withPath({ value }) },
    {
      good: ['/', '/a', '/a/', '/a/b.c/~d', "/!$&'()*+,;=:@-_", '/%C3%A9', '/{a}', `/${'a'.repeat(255)}`],
      bad: [
        '',
        'a',
        'a/b',
        '//',
        '//a',
        '/a//b',
        '/a?b=c',
        '/a#b',
        '/a b',
        '/é',
        '/𝒶',
        '/a\\b',
        '/a\n',
        '/a"',
        5,
        `/${'a'.repeat(256)}`,
      ],
    },
  ),
  bad('a path without a type', withMatch({ paths: [{ value: '/a' }] }), `${PATH}.type`, 'Required'),
  bad('a path without a value', withMatch({ paths: [{ type: 'Exact' }] }), `${PATH}.value`, 'Required'),
  bad('text for a path', withMatch({ paths: ['/a'] }), PATH),
  good(
    'one path as Exact and as Prefix',
    withMatch({
      paths: [
        { type: 'Exact', value: '/a' },
        { type: 'Prefix', value: '/a' },
      ],
    }),
  ),
  bad(
    'one path of one type twice',
    withMatch({
      paths: [
        { type: 'Exact', value: '/a' },
        { type: 'Exact', value: '/a' },
      ],
    }),
    `${MATCH}.paths[1].value`,
    'Duplicate',
  ),
];

const METHODS = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS', 'CONNECT', 'TRACE'];

const methods: readonly SpecCase[] = [
  good('all methods at once', withMatch({ methods: METHODS })),
  bad('no methods', withMatch({ methods: [] }), `${MATCH}.methods`),
  bad('text for methods', withMatch({ methods: 'GET' }), `${MATCH}.methods`),
  bad('null among methods', withMatch({ methods: [null] }), `${MATCH}.methods[0]`),
  bad('one method twice', withMatch({ methods: ['GET', 'POST', 'GET'] }), `${MATCH}.methods[2]`, 'Duplicate'),
  bad('more methods than there are', withMatch({ methods: [...METHODS, 'GET'] }), `${MATCH}.methods`),
  ...enumCases(
    table,
    { name: 'method', path: `${MATCH}.methods[0]`, place: (method) => withMatch({ methods: [method] }) },
    METHODS,
  ),
];

const headerNames = {
  good: ['x', 'x-api-version', '0', '-', 'h'.repeat(64)],
  bad: ['', 'X-Upper', 'a_b', 'a b', 'a:', 'h'.repeat(65), 'é', 5],
};
const headerValues = {
  good: ['', ' ', 'v1', '~ !"#', 'v'.repeat(256)],
  bad: ['v'.repeat(257), 'é', '𝒶', 'a\tb', 'a\n', '\u007f', 5, true],
};

const headers: readonly SpecCase[] = [
  ...listCases(table, list('headers'), { min: 1, max: 8, item: (index) => ({ name: `x-${index}`, type: 'Present' }) }),
  ...textCases(
    table,
    { name: 'header name', path: `${HEADER}.name`, place: (name) => withHeader({ name }) },
    headerNames,
  ),
  ...textCases(
    table,
    { name: 'header value', path: `${HEADER}.value`, place: (value) => withHeader({ type: 'Exact', value }) },
    headerValues,
  ),
  good('a header that is Absent, without a value', withHeader({ type: 'Absent' })),
  good('a header that is Present, with the value null', withHeader({ value: null })),
  bad('a header that is Exact, without a value', withHeader({ type: 'Exact' }), `${HEADER}.value`, 'ValueMismatch'),
  bad('a header that is Present, with a value', withHeader({ value: 'v' }), `${HEADER}.value`, 'ValueMismatch'),
  bad(
    'a header that is Absent, with a value',
    withHeader({ type: 'Absent', value: 'v' }),
    `${HEADER}.value`,
    'ValueMismatch',
  ),
  bad('a header of an unknown type', withHeader({ type: 'Regex' }), `${HEADER}.type`),
  bad('a header without a name', withHeader({ name: undefined }), `${HEADER}.name`, 'Required'),
  bad('a header without a type', withHeader({ type: undefined }), `${HEADER}.type`, 'Required'),
  bad(
    'two conditions on one header',
    withMatch({
      headers: [
        { name: 'x', type: 'Present' },
        { name: 'x', type: 'Exact', value: 'v' },
      ],
    }),
    `${MATCH}.headers[1].name`,
    'Duplicate',
  ),
];

/** The rows of a list of texts, each of which is one item of it. */
function setOf(
  name: string,
  max: number,
  item: (index: number) => string,
  values: Parameters<typeof textCases>[2],
): readonly SpecCase[] {
  const first = item(0);
  return [
    ...listCases(table, list(name), { min: 1, max, item }),
    bad(
      `one of match.${name} twice`,
      withMatch({ [name]: [first, item(1), first] }),
      `${MATCH}.${name}[2]`,
      'Duplicate',
    ),
    ...textCases(
      table,
      { name: `one of match.${name}`, path: `${MATCH}.${name}[0]`, place: (value) => withMatch({ [name]: [value] }) },
      values,
    ),
  ];
}

const LONGEST_HOST = `${'a'.repeat(63)}.${'b'.repeat(63)}.${'c'.repeat(63)}.${'d'.repeat(61)}`;

const hosts = setOf('hosts', 16, (index) => `api-${index}.example.com`, {
  good: ['a', '0', 'example.com', '*.example.com', '*.com', '203.0.113.9', 'a--b.c', LONGEST_HOST],
  bad: [
    '',
    '*',
    '*.',
    '.example.com',
    'example.com.',
    'a..b',
    'a.*.b',
    '**.a',
    '*a.b',
    '*.*.a',
    'Example.com',
    '-a',
    'a-',
    'a_b',
    'example.com:443',
    '[2001:db8::1]',
    'é.com',
    `${LONGEST_HOST}d`,
    'a\n',
    5,
    true,
  ],
});

// What looks like a network and is none is refused by validate alone, see semantic.ts.
const networks = setOf('sourceCIDRs', 32, (index) => `10.${index}.0.0/16`, {
  good: ['203.0.113.0/24', '0.0.0.0/0', '203.0.113.9/32', '::/0', '2001:DB8::/32', '::ffff:10.0.0.0/104'],
  bad: ['', '10.0.0.0', '10.0.0.0/', '/8', '10.0.0.0/-1', '10.0.0.0/1000', '10.0.0.0/8 ', 'lan/8', '10.0.0.0/8\n', 5],
});

const TENANTS = {
  good: ['a', '0', 'Acme', 'acme:eu', 'a.b_c@d-e', 'a'.repeat(128)],
  bad: ['', 'a'.repeat(129), '.a', '-a', 'a b', 'a/b', 'a\n', 'é', 5, true],
};
const CONSUMERS = {
  good: ['key:a', 'caller:user:123', 'header:x/y', 'ip:203.0.113.9', 'ip:2001:db8:0:0::/64', `key:${'a'.repeat(256)}`],
  bad: ['', 'acme', 'key:', 'KEY:a', 'other:a', 'key:a b', 'key:é', `key:${'a'.repeat(257)}`, 'key:a\n', 5, true],
};

const identities: readonly SpecCase[] = [
  ...setOf('tiers', 16, (index) => `t${index}`, LABELS),
  ...setOf('tenants', 32, (index) => `tenant-${index}`, TENANTS),
  ...setOf('consumers', 32, (index) => `key:${index}`, CONSUMERS),
];

const ATTRIBUTE = `${MATCH}.attributes[0]`;
const withAttribute = (fields: object): unknown =>
  withMatch({ attributes: [{ name: 'region', type: 'Present', ...fields }] });

const attributes: readonly SpecCase[] = [
  ...listCases(table, list('attributes'), {
    min: 1,
    max: 8,
    item: (index) => ({ name: `a${index}`, type: 'Present' }),
  }),
  ...enumCases(table, { name: 'attribute type', path: `${ATTRIBUTE}.type`, place: (type) => withAttribute({ type }) }, [
    'Present',
    'Absent',
  ]),
  ...textCases(
    table,
    { name: 'attribute name', path: `${ATTRIBUTE}.name`, place: (name) => withAttribute({ name }) },
    { good: ['a', 'Region_1.eu-x', 'a'.repeat(64)], bad: ['', 'a b', 'a:', 'a/b', 'a'.repeat(65), 'é', 'a\n', 5] },
  ),
  ...textCases(
    table,
    {
      name: 'attribute value',
      path: `${ATTRIBUTE}.value`,
      place: (value) => withAttribute({ type: 'Exact', value }),
    },
    { good: ['', 'eu', 'é', '𝒶'.repeat(256), 'a\nb'], bad: ['v'.repeat(257), '𝒶'.repeat(257), 5, true, ['eu']] },
  ),
  bad(
    'an attribute that is Exact, without a value',
    withAttribute({ type: 'Exact' }),
    `${ATTRIBUTE}.value`,
    'ValueMismatch',
  ),
  bad(
    'an attribute that is Present, with a value',
    withAttribute({ value: 'v' }),
    `${ATTRIBUTE}.value`,
    'ValueMismatch',
  ),
  bad('an attribute without a name', withAttribute({ name: undefined }), `${ATTRIBUTE}.name`, 'Required'),
  bad(
    'two conditions on one attribute',
    withMatch({
      attributes: [
        { name: 'a', type: 'Present' },
        { name: 'a', type: 'Absent' },
      ],
    }),
    `${MATCH}.attributes[1].name`,
    'Duplicate',
  ),
];

export const matchCases: readonly SpecCase[] = [
  ...shape,
  ...paths,
  ...methods,
  ...headers,
  ...hosts,
  ...networks,
  ...identities,
  ...attributes,
];
