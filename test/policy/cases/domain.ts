import { enumCases, integerCases, listCases, type SpecCase, tableOf, textCases } from './table.ts';

const table = tableOf('RateLimitDomain');
const { good, bad } = table;

const withSource = (source: unknown): unknown => ({ identity: { sources: [source] } });
const SOURCE = 'spec.identity.sources[0]';

const identity: readonly SpecCase[] = [
  good('an empty identity', { identity: {} }),
  good('every source', {
    identity: {
      sources: [
        { type: 'ApiKey', name: 'authorization' },
        { type: 'ApiKey' },
        { type: 'Header', name: 'x-user' },
        { type: 'Caller' },
        { type: 'ClientIP' },
      ],
      onMissing: 'Deny',
      onInvalidKey: 'Anonymous',
      ipv6PrefixLength: 56,
    },
  }),
  bad('no sources at all', { identity: { sources: [] } }, 'spec.identity.sources'),
  bad(
    'nine sources',
    { identity: { sources: Array.from({ length: 9 }, () => ({ type: 'Caller' })) } },
    'spec.identity.sources',
  ),
  bad('a source without a type', withSource({ name: 'x' }), `${SOURCE}.type`, 'Required'),
  bad('a Header without a name', withSource({ type: 'Header' }), `${SOURCE}.name`, 'SourceNameMissing'),
  bad('a Caller with a name', withSource({ type: 'Caller', name: 'x' }), `${SOURCE}.name`, 'SourceNameNotAllowed'),
  bad('a ClientIP with a name', withSource({ type: 'ClientIP', name: 'x' }), `${SOURCE}.name`, 'SourceNameNotAllowed'),
  ...textCases(
    table,
    { name: 'source name', path: `${SOURCE}.name`, place: (name) => withSource({ type: 'Header', name }) },
    { good: ['x', 'x-user-1', 'a'.repeat(64)], bad: ['', 'X-User', 'x user', 'x_user', 'a'.repeat(65), 5, true] },
  ),
  ...enumCases(
    table,
    { name: 'onMissing', path: 'spec.identity.onMissing', place: (onMissing) => ({ identity: { onMissing } }) },
    ['ClientIP', 'Deny', 'SkipRule'],
  ),
  ...enumCases(
    table,
    {
      name: 'onInvalidKey',
      path: 'spec.identity.onInvalidKey',
      place: (onInvalidKey) => ({ identity: { onInvalidKey } }),
    },
    ['Deny', 'Anonymous'],
  ),
  ...integerCases(
    table,
    {
      name: 'ipv6PrefixLength',
      path: 'spec.identity.ipv6PrefixLength',
      place: (ipv6PrefixLength) => ({ identity: { ipv6PrefixLength } }),
    },
    { min: 32, max: 128 },
  ),
];

const block = (field: string) => ({
  name: field,
  path: `spec.ipBlock.${field}`,
  place: (value: unknown): unknown => ({ ipBlock: { [field]: value } }),
});

const ipBlock: readonly SpecCase[] = [
  good('an empty ipBlock', { ipBlock: {} }),
  ...integerCases(table, block('invalidKeys'), { min: 1, max: 1_000_000 }),
  ...integerCases(table, block('withinSeconds'), { min: 1, max: 86_400 }),
  ...integerCases(table, block('forSeconds'), { min: 1, max: 86_400 }),
  ...enumCases(table, block('mode'), ['Enforce', 'Shadow']),
];

export const domainCases: readonly SpecCase[] = [
  good('an empty domain', {}),
  good('all fields null', { identity: null, ipBlock: null, partitionBy: null, grants: null }),
  bad('no spec', undefined, 'spec', 'Required'),
  bad('a list for the spec', [], 'spec'),
  ...identity,
  ...ipBlock,
  ...enumCases(table, { name: 'partitionBy', path: 'spec.partitionBy', place: (partitionBy) => ({ partitionBy }) }, [
    'consumer',
    'tenant',
    'clientIP',
  ]),
  ...listCases(
    table,
    { name: 'grants', path: 'spec.grants', place: (grants) => ({ grants }) },
    { min: 1, max: 64, item: (index) => ({ namespace: `team-${index}` }) },
  ),
  bad(
    'one namespace twice',
    { grants: [{ namespace: 'a' }, { namespace: 'a' }] },
    'spec.grants[1].namespace',
    'Duplicate',
  ),
  bad('a grant without a namespace', { grants: [{}] }, 'spec.grants[0].namespace', 'Required'),
];
