import { integerCases, listCases, type Field, type SpecCase, tableOf } from './table.ts';

const table = tableOf('RateLimitPolicy');
const { good, bad } = table;

const LIMITS = 'spec.rules[0].limits';
const LIMIT = `${LIMITS}[0]`;
const MOST = 9_007_199_254;

const withLimits = (limits: unknown): unknown => ({
  rules: [{ name: 'r', countBy: ['consumer'], algorithm: 'TokenBucket', limits }],
});
const withLimit = (limit: object): unknown => withLimits([{ windowSeconds: 60, requests: 10, ...limit }]);

const field = (name: string, others: object = {}): Field => ({
  name,
  path: `${LIMIT}.${name}`,
  place: (value) => withLimit({ ...others, [name]: value }),
});

const bounds: readonly SpecCase[] = [
  ...integerCases(table, field('windowSeconds'), { min: 1, max: 86_400 }),
  ...integerCases(table, field('requests', { windowSeconds: 1 }), { min: 1, max: MOST }),
  ...integerCases(table, field('burst', { windowSeconds: 1, requests: 1 }), { min: 1, max: MOST }),
  ...integerCases(table, field('degraded', { windowSeconds: 1, requests: MOST }), { min: 0, max: MOST }),
];

const relations: readonly SpecCase[] = [
  good('burst equal to requests', withLimit({ burst: 10 })),
  good('burst above requests', withLimit({ burst: 11 })),
  bad('burst one below requests', withLimit({ burst: 9 }), `${LIMIT}.burst`, 'BurstBelowRequests'),
  good('degraded equal to requests', withLimit({ degraded: 10 })),
  good('degraded below requests', withLimit({ degraded: 9 })),
  bad('degraded one above requests', withLimit({ degraded: 11 }), `${LIMIT}.degraded`, 'DegradedAboveRequests'),
  bad(
    'degraded above requests and below burst',
    withLimit({ burst: 20, degraded: 11 }),
    `${LIMIT}.degraded`,
    'DegradedAboveRequests',
  ),
];

// 9,007,199,254 = 2 * 4,503,599,627, so that a product can be the most itself.
const products: readonly SpecCase[] = [
  good('requests times window exactly the most', withLimit({ windowSeconds: 2, requests: 4_503_599_627 })),
  good('burst times window exactly the most', withLimit({ windowSeconds: 2, burst: 4_503_599_627 })),
  good(
    'requests times the longest window just below the most',
    withLimit({ windowSeconds: 86_400, requests: 104_249 }),
  ),
  bad(
    'requests times window one above the most',
    withLimit({ windowSeconds: 5, requests: 1_801_439_851 }),
    LIMIT,
    'LimitTooLarge',
  ),
  bad(
    'burst times window one above the most',
    withLimit({ windowSeconds: 5, burst: 1_801_439_851 }),
    LIMIT,
    'LimitTooLarge',
  ),
  bad(
    'requests times the longest window above the most',
    withLimit({ windowSeconds: 86_400, requests: 104_250 }),
    LIMIT,
    'LimitTooLarge',
  ),
  bad(
    'the largest requests in the longest window',
    withLimit({ windowSeconds: 86_400, requests: MOST, burst: MOST }),
    LIMIT,
    'LimitTooLarge',
  ),
];

const logLimits = (limit: object): object => ({
  algorithm: 'SlidingWindowLog',
  limits: [{ windowSeconds: 1, requests: 5 }, limit],
});
const logOf = (limit: object): unknown => ({ rules: [{ name: 'r', countBy: ['consumer'], ...logLimits(limit) }] });
/** A tier that nobody has, with a rule of this algorithm that takes its limits from there. */
const tieredLog = (limit: object, algorithm = 'SlidingWindowLog'): unknown => ({
  tiers: [
    { name: 'a', default: true, limits: [{ windowSeconds: 1, requests: 5 }] },
    { name: 'b', limits: [{ windowSeconds: 1, requests: 5 }, limit] },
  ],
  rules: [
    { name: 'r', countBy: ['consumer'], algorithm: 'TokenBucket', limitsFrom: 'Tier' },
    { name: 's', countBy: ['consumer'], algorithm, limitsFrom: 'Tier' },
  ],
});

const LOGGED = [
  ['requests', { windowSeconds: 60, requests: 1000 }, { windowSeconds: 60, requests: 1001 }],
  ['burst', { windowSeconds: 60, requests: 10, burst: 1000 }, { windowSeconds: 60, requests: 10, burst: 1001 }],
  [
    'requests and burst',
    { windowSeconds: 60, requests: 1000, burst: 1000 },
    { windowSeconds: 60, requests: 1001, burst: 1001 },
  ],
] as const;

const logs: readonly SpecCase[] = LOGGED.flatMap(([name, most, more]) => [
  good(`a log of ${name} 1000, the most`, logOf(most)),
  bad(`a log of ${name} 1001`, logOf(more), LIMITS, 'LimitTooLargeForLog'),
  good(`a log of ${name} 1000 from a tier`, tieredLog(most)),
  bad(`a log of ${name} 1001 from a tier`, tieredLog(more), 'spec.tiers', 'LimitTooLargeForLog'),
  good(`a bucket of ${name} 1001 from a tier`, tieredLog(more, 'TokenBucket')),
]);

const logsBesideTiers: readonly SpecCase[] = [
  good('a log of its own beside a tier of more', {
    tiers: [{ name: 'a', default: true, limits: [{ windowSeconds: 1, requests: 5000 }] }],
    rules: [{ name: 'r', countBy: ['consumer'], ...logLimits({ windowSeconds: 60, requests: 10 }) }],
  }),
  bad(
    'a log of both that is too large in the rule of its own',
    {
      tiers: [{ name: 'a', default: true, limits: [{ windowSeconds: 1, requests: 5 }] }],
      rules: [
        { name: 'r', countBy: ['consumer'], algorithm: 'SlidingWindowLog', limitsFrom: 'Tier' },
        { name: 's', countBy: ['consumer'], ...logLimits({ windowSeconds: 60, requests: 1001 }) },
      ],
    },
    'spec.rules[1].limits',
    'LimitTooLargeForLog',
  ),
];

const shape: readonly SpecCase[] = [
  good('burst, degraded and nothing else left out', withLimit({ burst: 20, degraded: 0 })),
  good('burst and degraded null, which is as good as absent', withLimit({ burst: null, degraded: null })),
  bad('a limit without requests', withLimits([{ windowSeconds: 60 }]), `${LIMIT}.requests`, 'Required'),
  bad('a limit without windowSeconds', withLimits([{ requests: 10 }]), `${LIMIT}.windowSeconds`, 'Required'),
  bad('requests null', withLimit({ requests: null }), `${LIMIT}.requests`, 'Required'),
  bad('a number for a limit', withLimits([10]), LIMIT),
  bad('a list for a limit', withLimits([[]]), LIMIT),
  ...listCases(
    table,
    { name: 'limits', path: LIMITS, place: withLimits },
    { min: 1, max: 8, item: (index) => ({ windowSeconds: index + 1, requests: 1 }) },
  ),
  bad(
    'two limits with one window',
    withLimits([
      { windowSeconds: 60, requests: 1 },
      { windowSeconds: 61, requests: 2 },
      { windowSeconds: 60, requests: 3 },
    ]),
    `${LIMITS}[2].windowSeconds`,
    'Duplicate',
  ),
];

export const limitCases: readonly SpecCase[] = [
  ...bounds,
  ...relations,
  ...products,
  ...logs,
  ...logsBesideTiers,
  ...shape,
];
