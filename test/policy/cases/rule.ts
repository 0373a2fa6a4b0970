import { enumCases, LABELS, listCases, type Field, type SpecCase, tableOf, textCases } from './table.ts';

const table = tableOf('RateLimitPolicy');
const { good, bad } = table;

const RULE = 'spec.rules[0]';
const LIMITS = [{ windowSeconds: 60, requests: 10 }];

const withRules = (...rules: readonly unknown[]): unknown => ({ rules });
const ruleWith = (fields: object): object => ({
  name: 'r',
  countBy: ['consumer'],
  algorithm: 'TokenBucket',
  limits: LIMITS,
  ...fields,
});
const withRule = (fields: object): unknown => withRules(ruleWith(fields));
const without = (name: string): unknown => withRule({ [name]: undefined });
const field = (name: string): Field => ({
  name: `rule ${name}`,
  path: `${RULE}.${name}`,
  place: (value) => withRule({ [name]: value }),
});
const tiers = [{ name: 'free', default: true, limits: LIMITS }];

const names: readonly SpecCase[] = [
  ...textCases(table, field('name'), LABELS),
  bad('a rule without a name', without('name'), `${RULE}.name`, 'Required'),
  bad('a rule without countBy', without('countBy'), `${RULE}.countBy`, 'Required'),
  bad('a rule without an algorithm', without('algorithm'), `${RULE}.algorithm`, 'Required'),
  bad('two rules with one name', withRules(ruleWith({}), ruleWith({})), 'spec.rules[1].name', 'Duplicate'),
  good('two rules that differ in their names only', withRules(ruleWith({}), ruleWith({ name: 's' }))),
  ...enumCases(table, field('algorithm'), ['TokenBucket', 'SlidingWindow', 'SlidingWindowLog']),
  ...enumCases(table, field('mode'), ['Enforce', 'Shadow']),
  ...enumCases(table, field('failurePolicy'), ['Open', 'Closed', 'LocalFallback']),
  good('mode, failurePolicy and after null', withRule({ mode: null, failurePolicy: null, after: null })),
];

/** Rules that no request meets together: so many would be refused for other reasons. */
const apart = (index: number): object =>
  ruleWith({ name: `r${index}`, match: { paths: [{ type: 'Exact', value: `/${index}` }] } });

const counts: readonly SpecCase[] = [
  ...listCases(
    table,
    { name: 'rules', path: 'spec.rules', place: (rules) => ({ rules }) },
    { min: 1, max: 64, item: apart },
  ),
  bad('text for a rule', withRules('r'), RULE),
  bad('rules null', { rules: null }, 'spec.rules', 'Required'),
  bad('a policy without rules', {}, 'spec.rules', 'Required'),
];

const AXES = ['consumer', 'tenant', 'clientIP', 'route', 'method'];

/** Whatever axis there is: a rule without paths has no route. */
const countingBy = (countBy: unknown): unknown =>
  withRule({ countBy, match: { paths: [{ type: 'Prefix', value: '/' }] } });

const axes: readonly SpecCase[] = [
  ...listCases(table, { ...field('countBy'), place: countingBy }, { min: 1, max: 4, item: (index) => AXES[index] }),
  ...textCases(
    table,
    { name: 'axis', path: `${RULE}.countBy[0]`, place: (axis) => countingBy([axis]) },
    {
      good: [
        ...AXES,
        'global',
        'header:x-api-version',
        `header:${'h'.repeat(64)}`,
        'descriptor:Plan_1.a-b',
        `descriptor:${'d'.repeat(64)}`,
        'attribute:region',
        `attribute:${'a'.repeat(64)}`,
      ],
      bad: [
        '',
        'Consumer',
        'clientip',
        'consumer ',
        'ip',
        'path',
        'domain',
        'consumer,tenant',
        'header:',
        'header',
        'header:X-Upper',
        'header:a_b',
        'Header:a',
        'header:a:b',
        `header:${'h'.repeat(65)}`,
        `descriptor:${'d'.repeat(65)}`,
        `attribute:${'a'.repeat(65)}`,
        'descriptor:',
        'descriptor:a b',
        'attribute:',
        'attribute:é',
        5,
        true,
        ['consumer'],
      ],
    },
  ),
  good('axes of one kind with different keys', withRule({ countBy: ['header:a', 'header:b', 'attribute:a'] })),
  bad('one axis twice', withRule({ countBy: ['tenant', 'consumer', 'tenant'] }), `${RULE}.countBy[2]`, 'Duplicate'),
  bad(
    'global after another axis',
    withRule({ countBy: ['consumer', 'global'] }),
    `${RULE}.countBy`,
    'GlobalWithOtherAxes',
  ),
  bad(
    'global before another axis',
    withRule({ countBy: ['global', 'route'] }),
    `${RULE}.countBy`,
    'GlobalWithOtherAxes',
  ),
];

const fromTier = { limits: undefined, limitsFrom: 'Tier' };

const sources: readonly SpecCase[] = [
  ...enumCases(
    table,
    {
      name: 'limitsFrom',
      path: `${RULE}.limitsFrom`,
      place: (limitsFrom) => ({ tiers, ...Object(withRule({ limits: undefined, limitsFrom })) }),
    },
    ['Tier'],
  ),
  bad('neither limits nor limitsFrom', without('limits'), RULE, 'LimitsAndLimitsFrom'),
  bad('limits null and no limitsFrom', withRule({ limits: null }), RULE, 'LimitsAndLimitsFrom'),
  bad('both limits and limitsFrom', { tiers, rules: [ruleWith({ limitsFrom: 'Tier' })] }, RULE, 'LimitsAndLimitsFrom'),
  good('limits beside limitsFrom null', { tiers, rules: [ruleWith({ limitsFrom: null })] }),
  good('limits of its own in one rule, those of the tier in another', {
    tiers,
    rules: [ruleWith({}), ruleWith({ name: 's', ...fromTier })],
  }),
];

const deep: readonly SpecCase[] = [
  bad(
    'a burst below requests in the second limit of the third rule',
    withRules(
      ruleWith({ name: 'a' }),
      ruleWith({ name: 'b' }),
      ruleWith({ name: 'c', limits: [...LIMITS, { windowSeconds: 1, requests: 5, burst: 4 }] }),
    ),
    'spec.rules[2].limits[1].burst',
    'BurstBelowRequests',
  ),
  bad(
    'a header without a value in the second matcher of the second rule',
    withRules(
      ruleWith({ name: 'a' }),
      ruleWith({
        name: 'b',
        match: {
          headers: [
            { name: 'x', type: 'Present' },
            { name: 'y', type: 'Exact' },
          ],
        },
      }),
    ),
    'spec.rules[1].match.headers[1].value',
    'ValueMismatch',
  ),
];

export const ruleCases: readonly SpecCase[] = [...names, ...counts, ...axes, ...sources, ...deep];
