import { LABELS, listCases, type SpecCase, tableOf, textCases } from './table.ts';

const table = tableOf('Consumer');
const { good, bad } = table;

const hash = (index: number): string => `sha256:${index.toString(16).padStart(64, '0')}`;

export const consumerCases: readonly SpecCase[] = [
  good('an empty consumer', {}),
  good('all fields null', { id: null, tier: null, apiKeyHashes: null }),
  good('all fields', { id: 'acme', tier: 'pro', apiKeyHashes: [hash(1), hash(2)] }),
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
];
