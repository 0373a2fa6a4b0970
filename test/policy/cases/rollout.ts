// What a rule costs, for whom it is enforced, whether it is shown, and who is exempt from a policy.
import { enumCases, type Field, integerCases, LABELS, listCases, type SpecCase, tableOf, textCases } from './table.ts';

const table = tableOf('RateLimitPolicy');
const { good, bad } = table;

const RULE = 'spec.rules[0]';
const rule = (fields: object = {}): object => ({
  name: 'r',
  countBy: ['consumer'],
  algorithm: 'TokenBucket',
  limits: [{ windowSeconds: 60, requests: 10 }],
  ...fields,
});
const withRule = (fields: object): unknown => ({ rules: [rule(fields)] });
const withCost = (cost: unknown): unknown => withRule({ cost });
const costField = (name: string): Field => ({
  name: `cost.${name}`,
  path: `${RULE}.cost.${name}`,
  place: (value) => withCost({ [name]: value }),
});
const MOST = 1_000_000;

const costs: readonly SpecCase[] = [
  good('an empty cost', withCost({})),
  good('the cost null', withCost(null)),
  good('all of the cost', withCost({ default: 2, header: 'x-request-cost', max: 100 })),
  good('all of the cost null', withCost({ default: null, header: null, max: null })),
  bad('a number for the cost', withCost(5), `${RULE}.cost`),
  bad('a list for the cost', withCost([]), `${RULE}.cost`),
  ...integerCases(table, costField('default'), { min: 1, max: MOST }),
  ...integerCases(table, costField('max'), { min: 1, max: MOST }),
  ...textCases(table, costField('header'), {
    good: ['x', 'x-request-cost', '0', '-', 'h'.repeat(64)],
    bad: ['', 'X-Cost', 'a_b', 'a b', 'a:', 'h'.repeat(65), 'é', 5, true, ['x']],
  }),
  good('a max that is the default', withCost({ default: 7, max: 7 })),
  bad('a max below the default', withCost({ default: 8, max: 7 }), `${RULE}.cost.max`, 'CostMaxBelowDefault'),
  good('a max of 1 where the default is left out', withCost({ max: 1 })),
  good('a max of 1 where the default is null', withCost({ default: null, max: 1 })),
];

const enforcement: readonly SpecCase[] = [
  ...integerCases(
    table,
    { name: 'enforcePercent', path: `${RULE}.enforcePercent`, place: (value) => withRule({ enforcePercent: value }) },
    { min: 0, max: 100 },
  ),
  good('enforcePercent null', withRule({ enforcePercent: null })),
  good('enforcePercent null in Shadow', withRule({ enforcePercent: null, mode: 'Shadow' })),
  good('enforcePercent in Enforce', withRule({ enforcePercent: 10, mode: 'Enforce' })),
  good('enforcePercent in a policy in Shadow', { mode: 'Shadow', rules: [rule({ enforcePercent: 10 })] }),
  ...[0, 10, 100].map((enforcePercent) =>
    bad(
      `enforcePercent ${enforcePercent} in Shadow`,
      withRule({ enforcePercent, mode: 'Shadow' }),
      `${RULE}.enforcePercent`,
      'EnforcePercentInShadow',
    ),
  ),
  ...enumCases(table, { name: 'headers', path: `${RULE}.headers`, place: (headers) => withRule({ headers }) }, [
    'Show',
    'Hide',
  ]),
];

const EXEMPTION = 'spec.exemptions[0]';
const exempting = (...exemptions: readonly unknown[]): unknown => ({ exemptions, rules: [rule()] });
const PROBES = { paths: [{ type: 'Prefix', value: '/healthz' }] };

const exemptions: readonly SpecCase[] = [
  ...listCases(
    table,
    { name: 'exemptions', path: 'spec.exemptions', place: (list) => ({ exemptions: list, rules: [rule()] }) },
    { min: 1, max: 16, item: (index) => ({ name: `e${index}`, match: PROBES }) },
  ),
  good('exemptions null', { exemptions: null, rules: [rule()] }),
  good('an exemption of everything', exempting({ name: 'all', match: {} })),
  good('an exemption of consumers', exempting({ name: 'staff', match: { consumers: ['key:staff'] } })),
  ...textCases(
    table,
    { name: 'exemption name', path: `${EXEMPTION}.name`, place: (name) => exempting({ name, match: PROBES }) },
    LABELS,
  ),
  bad('an exemption without a name', exempting({ match: PROBES }), `${EXEMPTION}.name`, 'Required'),
  bad('an exemption without a match', exempting({ name: 'e' }), `${EXEMPTION}.match`, 'Required'),
  bad('an exemption with the match null', exempting({ name: 'e', match: null }), `${EXEMPTION}.match`, 'Required'),
  bad('text for an exemption', exempting('probes'), EXEMPTION),
  bad('an exemption of no paths', exempting({ name: 'e', match: { paths: [] } }), `${EXEMPTION}.match.paths`),
  bad(
    'an exemption by a header without a value',
    exempting({ name: 'e', match: { headers: [{ name: 'x', type: 'Exact' }] } }),
    `${EXEMPTION}.match.headers[0].value`,
    'ValueMismatch',
  ),
  bad(
    'two exemptions with one name',
    exempting({ name: 'a', match: PROBES }, { name: 'b', match: {} }, { name: 'a', match: {} }),
    'spec.exemptions[2].name',
    'Duplicate',
  ),
];

export const rolloutCases: readonly SpecCase[] = [...costs, ...enforcement, ...exemptions];
