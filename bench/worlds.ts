import type { RateLimitDomainSpec } from '../policy/schema/rate-limit-domain.ts';
import type { RateLimitPolicySpec } from '../policy/schema/rate-limit-policy.ts';

/** Namespace of all policies here; the domain of the policy "a" is "bench.a" unless it says another. */
export const NAMESPACE = 'bench';

export type NamedSpecs = Readonly<Record<string, Omit<RateLimitPolicySpec, 'domain'> & { readonly domain?: string }>>;

/** What is in force in one installation; the limiters of the worlds share one Redis, and nothing else. */
export type WorldName = 'few' | 'domains' | 'one-domain' | 'million' | 'partitions';

export const MANY_POLICIES = 10_000;

type Rule = RateLimitPolicySpec['rules'][number];

/** Far above what any machine asks for: 100,000 a second for each subject. */
export const PLENTY = [{ windowSeconds: 60, requests: 6_000_000 }];
/** As much, but what one request took comes back in an hour: the keys of all who asked are there at once. */
const LASTING = [{ windowSeconds: 3_600, requests: 1, burst: 2_500_000 }];
/** One in a day: used up before anything is measured. */
const NOTHING_LEFT = [{ windowSeconds: 86_400, requests: 1 }];

const perConsumer: Omit<Rule, 'limits'> = { name: 'per-consumer', countBy: ['consumer'], algorithm: 'TokenBucket' };

const THREE_RULES: RateLimitPolicySpec['rules'] = [
  { ...perConsumer, limits: PLENTY },
  { name: 'per-tenant', countBy: ['tenant'], algorithm: 'SlidingWindow', limits: PLENTY },
  {
    name: 'per-address-and-route',
    match: { methods: ['GET'], paths: [{ type: 'Prefix', value: '/v1' }] },
    countBy: ['clientIP', 'route'],
    algorithm: 'SlidingWindow',
    limits: PLENTY,
  },
];

const FOUR_WINDOWS = [1, 10, 60, 300].map((windowSeconds) => ({ windowSeconds, requests: windowSeconds * 100_000 }));

const SIXTEEN_LIMITS: RateLimitPolicySpec['rules'] = (['consumer', 'tenant', 'clientIP', 'method'] as const).map(
  (axis, index) => ({
    name: `per-${axis.toLowerCase()}`,
    countBy: [axis],
    algorithm: index % 2 === 0 ? 'TokenBucket' : 'SlidingWindow',
    limits: FOUR_WINDOWS,
  }),
);

/** With all of its states. */
export const PENALTY = {
  countBy: ['consumer'],
  tolerancePercent: 100,
  violationWindowSeconds: 600,
  minSecondsPerStep: 10,
  warn: { violations: 3, forSeconds: 600 },
  throttle: { violations: 10, forSeconds: 900, limitPercent: 50 },
  tempBlock: { violations: 25, forSeconds: 300 },
  block: { tempBlocks: 3, withinSeconds: 86_400, forSeconds: 86_400 },
} as const satisfies NonNullable<RateLimitPolicySpec['penalty']>;

const FEW: NamedSpecs = {
  'one-rule': { rules: [{ ...perConsumer, limits: PLENTY }] },
  'three-rules': { rules: THREE_RULES },
  full: {
    rules: THREE_RULES,
    penalty: PENALTY,
  },
  'sixteen-limits': { rules: SIXTEEN_LIMITS },
  denied: { rules: [{ ...perConsumer, limits: NOTHING_LEFT }] },
  route: { rules: [onRoute(MANY_POLICIES / 2)] },
  lasting: { rules: [{ ...perConsumer, limits: LASTING }] },
};

/** The policies of a world; made when they are needed, as some are many. */
export function specsOf(world: WorldName): NamedSpecs {
  switch (world) {
    case 'few':
      return FEW;
    case 'domains':
      return many(MANY_POLICIES, () => ({ rules: [{ ...perConsumer, limits: PLENTY }] }));
    case 'one-domain':
      return many(MANY_POLICIES, (index) => ({ domain: `${NAMESPACE}.crowded`, rules: [onRoute(index)] }));
    case 'million':
      return many(100, () => ({ rules: [{ ...perConsumer, limits: LASTING }] }));
    case 'partitions':
      return {
        'one-partition': { rules: [{ ...perConsumer, limits: PLENTY }] },
        partitioned: { rules: [{ ...perConsumer, limits: PLENTY }] },
      };
    default:
      return world satisfies never;
  }
}

/** What is one for a whole domain, by its name. */
export function domainsOf(world: WorldName): Readonly<Record<string, RateLimitDomainSpec>> {
  return world === 'partitions' ? { [`${NAMESPACE}.partitioned`]: { partitionBy: 'consumer' } } : {};
}

export const nameOfPolicy = (index: number): string => `policy-${index}`;

function many(count: number, specOf: (index: number) => NamedSpecs[string]): NamedSpecs {
  return Object.fromEntries(Array.from({ length: count }, (_, index) => [nameOfPolicy(index), specOf(index)]));
}

function onRoute(index: number): Rule {
  return { ...perConsumer, match: { paths: [{ type: 'Prefix', value: `/v1/service-${index}` }] }, limits: PLENTY };
}
