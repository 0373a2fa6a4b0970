import { enumCases, listCases, type Field, type SpecCase, tableOf, textCases } from './table.ts';

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
  good('matchers null, which are as good as absent', withMatch({ paths: null, methods: null, headers: null })),
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

export const matchCases: readonly SpecCase[] = [...shape, ...paths, ...methods, ...headers];
