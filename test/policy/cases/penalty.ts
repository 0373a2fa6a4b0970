import { enumCases, integerCases, listCases, type Field, type SpecCase, tableOf, textCases } from './table.ts';

const table = tableOf('RateLimitPolicy');
const { good, bad } = table;

const PENALTY = 'spec.penalty';
const YEAR = 31_536_000;
const MOST_VIOLATIONS = 1_000_000;

const WARN = { violations: 5, forSeconds: 60 };
const THROTTLE = { violations: 10, forSeconds: 60, limitPercent: 50 };
const TEMP_BLOCK = { violations: 20, forSeconds: 60 };
const BLOCK = { tempBlocks: 3, withinSeconds: 3600, forSeconds: 86_400 };
type State = 'warn' | 'throttle' | 'tempBlock' | 'block';
const STATES: Readonly<Record<State, object>> = { warn: WARN, throttle: THROTTLE, tempBlock: TEMP_BLOCK, block: BLOCK };

const policyWith = (penalty: unknown): unknown => ({
  rules: [
    {
      name: 'r',
      countBy: ['consumer'],
      algorithm: 'TokenBucket',
      limits: [{ windowSeconds: 60, requests: 10 }],
    },
  ],
  penalty,
});
const withPenalty = (fields: object): unknown => policyWith({ countBy: ['consumer'], ...fields });
const field = (name: string): Field => ({
  name: `penalty ${name}`,
  path: `${PENALTY}.${name}`,
  place: (value) => withPenalty({ warn: WARN, [name]: value }),
});
/** A field of one state, beside nothing that it has to fit; block needs tempBlock. */
const stateField = (state: State, name: string): Field => ({
  name: `${state} ${name}`,
  path: `${PENALTY}.${state}.${name}`,
  place: (value) =>
    withPenalty({
      ...(state === 'block' ? { tempBlock: TEMP_BLOCK } : {}),
      [state]: { ...STATES[state], [name]: value },
    }),
});

const top: readonly SpecCase[] = [
  good('a penalty with all that there is', withPenalty(STATES)),
  good('a penalty null', policyWith(null)),
  bad('text for a penalty', policyWith('harsh'), PENALTY),
  bad('a list for a penalty', policyWith([]), PENALTY),
  ...enumCases(table, field('mode'), ['Enforce', 'Shadow']),
  ...integerCases(table, field('tolerancePercent'), { min: 0, max: 1000 }),
  ...integerCases(table, field('violationWindowSeconds'), { min: 1, max: YEAR }),
  ...integerCases(table, field('minSecondsPerStep'), { min: 0, max: 86_400 }),
  bad('a penalty without countBy', policyWith({ warn: WARN }), `${PENALTY}.countBy`, 'Required'),
  good(
    'a penalty with all that has a default null',
    withPenalty({
      warn: WARN,
      mode: null,
      tolerancePercent: null,
      violationWindowSeconds: null,
      minSecondsPerStep: null,
      throttle: null,
      tempBlock: null,
      block: null,
    }),
  ),
];

const AXES = ['consumer', 'tenant', 'clientIP', 'method', 'header:a'];

const axes: readonly SpecCase[] = [
  ...listCases(table, field('countBy'), { min: 1, max: 4, item: (index) => AXES[index] }),
  ...textCases(
    table,
    {
      name: 'penalty axis',
      path: `${PENALTY}.countBy[0]`,
      place: (axis) => withPenalty({ warn: WARN, countBy: [axis] }),
    },
    {
      good: [...AXES, 'descriptor:Plan_1.a-b', `attribute:${'a'.repeat(64)}`],
      bad: ['', 'Consumer', 'header:', `attribute:${'a'.repeat(65)}`, 5],
    },
  ),
  bad(
    'one penalty axis twice',
    withPenalty({ warn: WARN, countBy: ['tenant', 'tenant'] }),
    `${PENALTY}.countBy[1]`,
    'Duplicate',
  ),
  ...[['global'], ['consumer', 'global'], ['global', 'consumer']].map((countBy) =>
    bad(
      `a penalty for ${countBy.join(' and ')}`,
      withPenalty({ warn: WARN, countBy }),
      `${PENALTY}.countBy`,
      'GlobalPenalty',
    ),
  ),
];

const bounds: readonly SpecCase[] = [
  ...(['warn', 'throttle', 'tempBlock'] as const).flatMap((state) => [
    ...integerCases(table, stateField(state, 'violations'), { min: 1, max: MOST_VIOLATIONS }),
    ...integerCases(table, stateField(state, 'forSeconds'), { min: 1, max: YEAR }),
  ]),
  ...integerCases(table, stateField('throttle', 'limitPercent'), { min: 1, max: 100 }),
  ...integerCases(table, stateField('block', 'tempBlocks'), { min: 1, max: 1000 }),
  ...integerCases(table, stateField('block', 'withinSeconds'), { min: 1, max: YEAR }),
  ...integerCases(table, stateField('block', 'forSeconds'), { min: 0, max: YEAR }),
  ...(Object.keys(STATES) as State[]).flatMap((state) => [
    bad(`a list for ${state}`, withPenalty({ warn: WARN, tempBlock: TEMP_BLOCK, [state]: [] }), `${PENALTY}.${state}`),
    ...Object.keys(STATES[state]).map((name) =>
      bad(
        `${state} without ${name}`,
        stateField(state, name).place(undefined),
        `${PENALTY}.${state}.${name}`,
        'Required',
      ),
    ),
  ]),
];

const presence: readonly SpecCase[] = [
  good('a penalty that only warns', withPenalty({ warn: WARN })),
  good('a penalty that only throttles', withPenalty({ throttle: THROTTLE })),
  good('a penalty that only blocks for a time', withPenalty({ tempBlock: TEMP_BLOCK })),
  bad('a penalty without any state', withPenalty({}), PENALTY, 'NoPenaltyState'),
  bad('a penalty whose only state is null', withPenalty({ warn: null }), PENALTY, 'NoPenaltyState'),
  bad(
    'a penalty of block alone, which is no state to begin with',
    withPenalty({ block: BLOCK }),
    PENALTY,
    'NoPenaltyState',
  ),
  good('block beside tempBlock', withPenalty({ tempBlock: TEMP_BLOCK, block: BLOCK })),
  bad('block alone', withPenalty({ block: BLOCK }), `${PENALTY}.block`, 'BlockWithoutTempBlock'),
  bad(
    'block beside all but tempBlock',
    withPenalty({ warn: WARN, throttle: THROTTLE, block: BLOCK }),
    `${PENALTY}.block`,
    'BlockWithoutTempBlock',
  ),
  bad(
    'block beside tempBlock null',
    withPenalty({ warn: WARN, tempBlock: null, block: BLOCK }),
    `${PENALTY}.block`,
    'BlockWithoutTempBlock',
  ),
];

const PAIRS = [
  ['warn', 'throttle'],
  ['throttle', 'tempBlock'],
  ['warn', 'tempBlock'],
] as const;

const thresholds: readonly SpecCase[] = PAIRS.flatMap(([lower, upper]) => {
  const withThresholds = (one: number, other: number): unknown =>
    withPenalty({
      [lower]: { ...STATES[lower], violations: one },
      [upper]: { ...STATES[upper], violations: other },
    });
  const path = `${PENALTY}.${upper}.violations`;
  return [
    good(`${upper} one violation above ${lower}`, withThresholds(7, 8)),
    good(`${upper} far above ${lower}`, withThresholds(1, MOST_VIOLATIONS)),
    bad(`${upper} at as many violations as ${lower}`, withThresholds(7, 7), path, 'ThresholdsDoNotRise'),
    bad(`${upper} one violation below ${lower}`, withThresholds(8, 7), path, 'ThresholdsDoNotRise'),
  ];
});

const allThresholds: readonly SpecCase[] = [
  good('three thresholds that rise by one', rising(1, 2, 3)),
  bad('throttle above tempBlock', rising(1, 3, 2), `${PENALTY}.tempBlock.violations`, 'ThresholdsDoNotRise'),
  bad('throttle below warn', rising(2, 1, 3), `${PENALTY}.throttle.violations`, 'ThresholdsDoNotRise'),
];

function rising(warn: number, throttle: number, tempBlock: number): unknown {
  return withPenalty({
    warn: { ...WARN, violations: warn },
    throttle: { ...THROTTLE, violations: throttle },
    tempBlock: { ...TEMP_BLOCK, violations: tempBlock },
  });
}

export const penaltyCases: readonly SpecCase[] = [
  ...top,
  ...axes,
  ...bounds,
  ...presence,
  ...thresholds,
  ...allThresholds,
];
