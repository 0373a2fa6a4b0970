import { enumCases, LABELS, listCases, type SpecCase, tableOf, textCases } from './table.ts';

const table = tableOf('Consumer');
const { good, bad } = table;

const hash = (index: number): string => `sha256:${index.toString(16).padStart(64, '0')}`;

const secretRef = (fields: object = {}): object => ({ name: 'acme-keys', key: 'current', ...fields });
const withRef = (fields: object): unknown => ({ apiKeySecretRefs: [secretRef(fields)] });
const REF = 'spec.apiKeySecretRefs[0]';

const secrets: readonly SpecCase[] = [
  ...listCases(
    table,
    { name: 'apiKeySecretRefs', path: 'spec.apiKeySecretRefs', place: (apiKeySecretRefs) => ({ apiKeySecretRefs }) },
    { min: 1, max: 16, item: (index) => secretRef({ key: `key-${index}` }) },
  ),
  ...textCases(
    table,
    { name: 'secret name', path: `${REF}.name`, place: (name) => withRef({ name }) },
    { good: ['a', 'a.b-c', 'a'.repeat(253)], bad: ['', 'A', 'a_b', 'a/b', '-a', 'a..b', 'a'.repeat(254), 'a\n', 5] },
  ),
  ...textCases(
    table,
    { name: 'secret key', path: `${REF}.key`, place: (key) => withRef({ key }) },
    { good: ['a', 'A_b.c-d', '.a', 'k'.repeat(253)], bad: ['', 'a b', 'a/b', 'é', 'k'.repeat(254), 'a\n', 5, true] },
  ),
  bad('a secret without a name', withRef({ name: undefined }), `${REF}.name`, 'Required'),
  bad('a secret without a key', withRef({ key: undefined }), `${REF}.key`, 'Required'),
  good('one secret with two keys', { apiKeySecretRefs: [secretRef(), secretRef({ key: 'next' })] }),
  bad(
    'one key of one secret twice',
    { apiKeySecretRefs: [secretRef(), secretRef()] },
    'spec.apiKeySecretRefs[1].key',
    'Duplicate',
  ),
];

const LIMITS = [{ windowSeconds: 60, requests: 500 }];
const agreed = (fields: object = {}): object => ({ policy: 'limits', rule: 'per-consumer', limits: LIMITS, ...fields });
const agreeing = (fields: object): unknown => ({ limits: [agreed(fields)] });
const AGREED = 'spec.limits[0]';

const agreements: readonly SpecCase[] = [
  ...listCases(
    table,
    { name: 'limits', path: 'spec.limits', place: (limits) => ({ limits }) },
    { min: 1, max: 32, item: (index) => agreed({ rule: `r${index}` }) },
  ),
  ...listCases(
    table,
    { name: 'limits of an agreement', path: `${AGREED}.limits`, place: (limits) => agreeing({ limits }) },
    { min: 1, max: 8, item: (index) => ({ windowSeconds: index + 1, requests: 5 }) },
  ),
  ...textCases(table, { name: 'rule', path: `${AGREED}.rule`, place: (rule) => agreeing({ rule }) }, LABELS),
  ...textCases(
    table,
    { name: 'policy', path: `${AGREED}.policy`, place: (policy) => agreeing({ policy }) },
    { good: ['a', 'a.b-c', 'a'.repeat(253)], bad: ['', 'A', 'shop/limits', 'a_b', 'a'.repeat(254), 5] },
  ),
  bad('an agreement without a policy', agreeing({ policy: undefined }), `${AGREED}.policy`, 'Required'),
  bad('an agreement without a rule', agreeing({ rule: undefined }), `${AGREED}.rule`, 'Required'),
  bad('an agreement without limits', agreeing({ limits: undefined }), `${AGREED}.limits`, 'Required'),
  bad('two agreements on one rule', { limits: [agreed(), agreed()] }, 'spec.limits[1].rule', 'Duplicate'),
  good('agreements on one rule of two policies', { limits: [agreed(), agreed({ policy: 'other' })] }),
  bad(
    'an agreement on a burst below requests',
    agreeing({ limits: [{ windowSeconds: 60, requests: 10, burst: 9 }] }),
    `${AGREED}.limits[0].burst`,
    'BurstBelowRequests',
  ),
];

export const consumerCases: readonly SpecCase[] = [
  good('an empty consumer', {}),
  good('all fields null', {
    id: null,
    tier: null,
    tenant: null,
    apiKeyHashes: null,
    apiKeySecretRefs: null,
    limits: null,
    state: null,
  }),
  good('all fields', {
    id: 'acme',
    tier: 'pro',
    tenant: 'acme-group',
    apiKeyHashes: [hash(1), hash(2)],
    apiKeySecretRefs: [secretRef()],
    limits: [agreed()],
    state: 'Disabled',
  }),
  bad('no spec', undefined, 'spec', 'Required'),
  bad('a list for the spec', [], 'spec'),
  ...textCases(
    table,
    { name: 'id', path: 'spec.id', place: (id) => ({ id }) },
    {
      good: ['a', '0', 'Acme', 'user:123', 'a.b_c@d-e', 'a'.repeat(128)],
      bad: ['', 'a'.repeat(129), '.a', '-a', ':a', '@a', 'a b', 'a/b', 'a\n', 'é', '𝒶', 5, true, {}],
    },
  ),
  ...textCases(table, { name: 'tier', path: 'spec.tier', place: (tier) => ({ tier }) }, LABELS),
  ...textCases(
    table,
    { name: 'tenant', path: 'spec.tenant', place: (tenant) => ({ tenant }) },
    {
      good: ['a', '0', 'Acme', 'acme:eu', 'a.b_c@d-e', 'a'.repeat(128)],
      bad: ['', 'a'.repeat(129), '.a', ':a', 'a b', 'a/b', 'a\n', 'é', 5, true],
    },
  ),
  ...enumCases(table, { name: 'state', path: 'spec.state', place: (state) => ({ state }) }, ['Active', 'Disabled']),
  ...listCases(
    table,
    { name: 'apiKeyHashes', path: 'spec.apiKeyHashes', place: (apiKeyHashes) => ({ apiKeyHashes }) },
    { min: 0, max: 16, item: hash },
  ),
  ...textCases(
    table,
    { name: 'hash', path: 'spec.apiKeyHashes[0]', place: (value) => ({ apiKeyHashes: [value] }) },
    {
      good: [hash(0xabcdef)],
      bad: [
        '',
        'a'.repeat(64),
        `sha256:${'a'.repeat(63)}`,
        `sha256:${'a'.repeat(65)}`,
        `sha256:${'A'.repeat(64)}`,
        `SHA256:${'a'.repeat(64)}`,
        `sha256:${'g'.repeat(64)}`,
        ` ${hash(1)}`,
        `${hash(1)}\n`,
        5,
      ],
    },
  ),
  bad('one hash twice', { apiKeyHashes: [hash(1), hash(2), hash(1)] }, 'spec.apiKeyHashes[2]', 'Duplicate'),
  ...secrets,
  ...agreements,
];
