import { enumCases, integerCases, LABELS, listCases, type SpecCase, tableOf, textCases } from './table.ts';

const table = tableOf('RateLimitOverride');
const { good, bad } = table;

const BLOCK = {
  policyRef: { name: 'limits' },
  subject: { consumer: 'key:acme' },
  action: 'Block',
  expiresAt: '2026-12-01T00:00:00Z',
};
const LIMITS = [{ windowSeconds: 60, requests: 10 }];
const block = (fields: object = {}): unknown => ({ ...BLOCK, ...fields });
const about = (subject: unknown): unknown => block({ subject });
const lasting = (startsAt: string, expiresAt: string): unknown => block({ startsAt, expiresAt });

const actions: readonly SpecCase[] = [
  good('Block', block()),
  good('Exempt', block({ action: 'Exempt' })),
  good('Replace', block({ action: 'Replace', limits: LIMITS })),
  good('Scale', block({ action: 'Scale', percent: 150 })),
  bad('Replace without limits', block({ action: 'Replace' }), 'spec.limits', 'LimitsMismatch'),
  bad('Block with limits', block({ limits: LIMITS }), 'spec.limits', 'LimitsMismatch'),
  bad('Scale without a percentage', block({ action: 'Scale' }), 'spec.percent', 'PercentMismatch'),
  bad('Exempt with a percentage', block({ action: 'Exempt', percent: 50 }), 'spec.percent', 'PercentMismatch'),
  bad('no action', { ...BLOCK, action: undefined }, 'spec.action', 'Required'),
  ...enumCases(table, { name: 'action', path: 'spec.action', place: (action) => block({ action }) }, [
    'Exempt',
    'Block',
  ]),
  ...integerCases(
    table,
    { name: 'percent', path: 'spec.percent', place: (percent) => block({ action: 'Scale', percent }) },
    { min: 1, max: 10_000 },
  ),
  bad('Replace with no limit', block({ action: 'Replace', limits: [] }), 'spec.limits'),
  bad(
    'Replace with a burst below requests',
    block({ action: 'Replace', limits: [{ windowSeconds: 60, requests: 10, burst: 9 }] }),
    'spec.limits[0].burst',
    'BurstBelowRequests',
  ),
];

const subjects: readonly SpecCase[] = [
  good('a tenant', about({ tenant: 'acme' })),
  good('an IPv4 address', about({ clientIP: '203.0.113.9' })),
  good('an IPv6 address', about({ clientIP: '2001:db8::1' })),
  good('an IPv6 network', about({ clientIP: '2001:db8:1:2::/64' })),
  bad('no subject', { ...BLOCK, subject: undefined }, 'spec.subject', 'Required'),
  bad('an empty subject', about({}), 'spec.subject', 'NotOneSubject'),
  bad('two subjects', about({ tenant: 'a', clientIP: '203.0.113.9' }), 'spec.subject', 'NotOneSubject'),
  ...textCases(
    table,
    { name: 'consumer', path: 'spec.subject.consumer', place: (consumer) => about({ consumer }) },
    {
      good: ['key:a', 'caller:user:123', 'header:x', 'ip:203.0.113.9', `key:${'a'.repeat(256)}`],
      bad: ['', 'acme', 'key:', 'KEY:a', 'other:a', 'key:a b', 'key:é', `key:${'a'.repeat(257)}`, 5, true],
    },
  ),
  ...textCases(
    table,
    { name: 'clientIP', path: 'spec.subject.clientIP', place: (clientIP) => about({ clientIP }) },
    { good: ['203.0.113.9'], bad: ['', 'localhost', '203.0.113.9/', '[2001:db8::1]', 5, true] },
  ),
];

const times: readonly SpecCase[] = [
  good('a start before the end', lasting('2026-11-30T00:00:00Z', '2026-12-01T00:00:00Z')),
  good('a nanosecond before the end', lasting('2026-12-01T00:00:00.000000001Z', '2026-12-01T00:00:00.000000002Z')),
  good('in different zones', lasting('2026-12-01T01:30:00+02:00', '2026-12-01T00:00:00Z')),
  bad('no end', { ...BLOCK, expiresAt: undefined }, 'spec.expiresAt', 'Required'),
  bad(
    'an end at the start',
    lasting('2026-12-01T00:00:00Z', '2026-12-01T00:00:00Z'),
    'spec.expiresAt',
    'ExpiresBeforeStart',
  ),
  bad(
    'an end before the start',
    lasting('2026-12-01T00:00:00.2Z', '2026-12-01T00:00:00.15Z'),
    'spec.expiresAt',
    'ExpiresBeforeStart',
  ),
  bad(
    'an end before the start in another zone',
    lasting('2026-12-01T00:00:00Z', '2026-12-01T01:00:00+02:00'),
    'spec.expiresAt',
    'ExpiresBeforeStart',
  ),
  bad('a start that is no time', block({ startsAt: 'now' }), 'spec.startsAt'),
];

export const overrideCases: readonly SpecCase[] = [
  good('everything', block({ rules: ['a'], reason: 'abuse', ticket: 'INC-1', startsAt: '2026-11-01T00:00:00Z' })),
  bad('no spec', undefined, 'spec', 'Required'),
  bad('no policyRef', { ...BLOCK, policyRef: undefined }, 'spec.policyRef', 'Required'),
  bad('a policyRef without a name', block({ policyRef: {} }), 'spec.policyRef.name', 'Required'),
  bad('a policyRef to a name that no object has', block({ policyRef: { name: 'A b' } }), 'spec.policyRef.name'),
  ...actions,
  ...subjects,
  ...times,
  ...listCases(
    table,
    { name: 'rules', path: 'spec.rules', place: (rules) => block({ rules }) },
    { min: 1, max: 64, item: (index) => `rule-${index}` },
  ),
  ...textCases(table, { name: 'rule', path: 'spec.rules[0]', place: (rule) => block({ rules: [rule] }) }, LABELS),
  bad('one rule twice', block({ rules: ['a', 'a'] }), 'spec.rules[1]', 'Duplicate'),
  bad('an empty reason', block({ reason: '' }), 'spec.reason'),
  bad('a reason of 257 characters', block({ reason: 'x'.repeat(257) }), 'spec.reason'),
  bad('a ticket of 129 characters', block({ ticket: 'x'.repeat(129) }), 'spec.ticket'),
];
