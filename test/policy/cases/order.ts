// after: what a rule waits for.
import { enumCases, LABELS, listCases, type Field, type SpecCase, tableOf } from './table.ts';

const table = tableOf('RateLimitPolicy');
const { good, bad } = table;

const AFTER = 'spec.rules[0].after';
const OUTCOMES = ['Admitted', 'Denied', 'NotMatched'];

const rule = (name: string): object => ({
  name,
  countBy: ['consumer'],
  algorithm: 'TokenBucket',
  limits: [{ windowSeconds: 60, requests: 10 }],
});

/** A rule that waits, and others that it may wait for: first, so that order is not what is tested. */
const waitingFor = (after: unknown): unknown => ({
  rules: [{ ...rule('waits'), after }, rule('a'), rule('b'), rule('c')],
});
const conditionOf = (index: number): object => ({
  rule: ['a', 'b', 'c'][Math.floor(index / OUTCOMES.length)] ?? 'a',
  outcome: OUTCOMES[index % OUTCOMES.length],
});
const list: Field = { name: 'after', path: AFTER, place: waitingFor };

const conditions: readonly SpecCase[] = [
  ...listCases(table, list, { min: 1, max: 8, item: conditionOf }),
  ...enumCases(
    table,
    {
      name: 'outcome',
      path: `${AFTER}[0].outcome`,
      place: (outcome) => waitingFor([{ rule: 'a', outcome }]),
    },
    OUTCOMES,
  ),
  ...LABELS.bad.map((name) =>
    bad(
      `a wait for the rule ${JSON.stringify(name).slice(0, 20)}`,
      waitingFor([{ rule: name, outcome: 'Denied' }]),
      `${AFTER}[0].rule`,
    ),
  ),
  ...LABELS.good.map((name) =>
    good(`a wait for a rule of the name ${name.slice(0, 20)}`, {
      rules: [{ ...rule('waits'), after: [{ rule: name, outcome: 'Denied' }] }, rule(name)],
    }),
  ),
  bad('a condition without a rule', waitingFor([{ outcome: 'Denied' }]), `${AFTER}[0].rule`, 'Required'),
  bad('a condition without an outcome', waitingFor([{ rule: 'a' }]), `${AFTER}[0].outcome`, 'Required'),
  bad('text for a condition', waitingFor(['a']), `${AFTER}[0]`),
  good('two outcomes of one rule', waitingFor([conditionOf(0), conditionOf(1)])),
  good('one outcome of two rules', waitingFor([conditionOf(0), conditionOf(3)])),
  bad(
    'one outcome of one rule twice',
    waitingFor([conditionOf(0), conditionOf(1), conditionOf(0)]),
    `${AFTER}[2].outcome`,
    'Duplicate',
  ),
];

export const orderCases: readonly SpecCase[] = [
  ...conditions,
  good('rules that wait for each other in a diamond', {
    rules: [
      rule('a'),
      { ...rule('b'), after: [{ rule: 'a', outcome: 'Denied' }] },
      { ...rule('c'), after: [{ rule: 'a', outcome: 'Denied' }] },
      { ...rule('d'), after: ['b', 'c'].map((name) => ({ rule: name, outcome: 'NotMatched' })) },
    ],
  }),
];
