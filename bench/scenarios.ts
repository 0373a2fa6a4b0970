// Every question that is asked, the targets that answer it, and what the answer should be.
import type { Figures } from './figures.ts';
import { LOAD_TARGETS } from './targets/servers.ts';
import { MILLION } from './targets/million.ts';
import { PIPELINES } from './targets/pipeline.ts';
import { PERCENTS, RATE_TARGETS } from './targets/rates.ts';
import { SCRIPT_TARGETS } from './targets/scripts.ts';
import { SWAP_TARGETS } from './targets/swap.ts';
import type { Target } from './targets/target.ts';

export type RatioSpec = {
  readonly of: string;
  /** Absent: the figure itself, not a ratio. */
  readonly over?: string;
  readonly figure: (figures: Figures) => number;
  readonly target: number | null;
  readonly better: 'higher' | 'lower';
};

export type Scenario = {
  readonly name: string;
  readonly about: string;
  /** Targets that are measured beside those of the ratios. */
  readonly besides?: readonly string[];
  readonly ratios: Readonly<Record<string, RatioSpec>>;
};

const throughput = ({ perSecond = Number.NaN }: Figures): number => perSecond;
const p99 = ({ p99Millis = Number.NaN }: Figures): number => p99Millis;
const slowest = ({ maxMillis = Number.NaN }: Figures): number => maxMillis;
const residentMemory = ({ residentMiB = Number.NaN }: Figures): number => residentMiB;
const redisTime = ({ redisMicros = Number.NaN }: Figures): number => redisMicros;
const processorTime = ({ serverMicros = Number.NaN, redisMicros = Number.NaN }: Figures): number =>
  serverMicros + redisMicros;
const perProcessorSecond = (figures: Figures): number => 1e6 / processorTime(figures);

const higher = (of: string, over: string, target: number | null): RatioSpec => ({
  of,
  over,
  figure: throughput,
  target,
  better: 'higher',
});

const lower = (of: string, over: string | undefined, more: Pick<RatioSpec, 'figure' | 'target'>): RatioSpec => ({
  of,
  ...(over !== undefined && { over }),
  ...more,
  better: 'lower',
});

const cpu = (of: string, over: string, target: number | null = null): RatioSpec =>
  lower(of, over, { figure: processorTime, target });
const redisCpu = (of: string, over: string): RatioSpec => lower(of, over, { figure: redisTime, target: null });

export const SCENARIOS: readonly Scenario[] = [
  {
    name: 'one-rule',
    about: 'a token bucket by consumer',
    besides: ['bare'],
    ratios: {
      one_rule_vs_evalsha: higher('one-rule', 'evalsha', 1.3),
      one_rule_cpu_vs_evalsha: cpu('one-rule', 'evalsha'),
      one_rule_p99_vs_evalsha: lower('one-rule', 'evalsha', { figure: p99, target: null }),
      evalsha_vs_bare: higher('evalsha', 'bare', null),
    },
  },
  {
    name: 'three-rules',
    about: 'three rules, two algorithms',
    ratios: {
      three_rules_vs_evalsha: higher('three-rules', 'evalsha', 1.15),
      three_rules_cpu_vs_evalsha: cpu('three-rules', 'evalsha'),
    },
  },
  {
    name: 'full',
    about: 'an API key, three rules and a penalty',
    ratios: { full_vs_evalsha: higher('full', 'evalsha', 1), full_cpu_vs_evalsha: cpu('full', 'evalsha') },
  },
  {
    name: 'denied',
    about: 'denials that the limiter remembers',
    ratios: { denied_vs_bare: higher('denied', 'bare', 0.8), denied_cpu_vs_bare: cpu('denied', 'bare') },
  },
  {
    name: 'batch',
    about: '100 checks in a request',
    ratios: { batch_vs_pipeline: higher('batch', 'pipeline', 0.8), batch_cpu_vs_one_rule: cpu('batch', 'one-rule') },
  },
  {
    name: 'grpc',
    about: 'Envoy RLS over gRPC',
    ratios: {
      grpc_vs_http: higher('grpc', 'one-rule-own', 0.7),
      grpc_cpu_vs_http: cpu('grpc', 'one-rule-own'),
    },
  },
  {
    name: 'sixteen-limits',
    about: 'as many limits as a request may meet',
    ratios: {
      sixteen_limits_vs_evalsha: higher('sixteen-limits', 'evalsha', null),
      sixteen_limits_cpu_vs_evalsha: cpu('sixteen-limits', 'evalsha'),
    },
  },
  {
    name: 'authz',
    about: 'ext_authz over HTTP',
    ratios: { authz_vs_evalsha: higher('authz', 'evalsha', null) },
  },
  {
    name: 'policies',
    about: 'from 1 policy to 10,000: each in its domain, and all in one',
    ratios: {
      domains_10k_cpu_vs_1: cpu('domains-10k', 'one-rule', 1.1),
      policies_10k_cpu_vs_1: cpu('policies-10k', 'route', 1.1),
      domains_10k_vs_1: higher('domains-10k', 'one-rule', null),
      policies_10k_vs_1: higher('policies-10k', 'route', null),
    },
  },
  {
    name: 'subjects',
    about: 'from 10 subjects to 1,000,000',
    ratios: {
      subjects_1m_cpu_vs_10: cpu('subjects-1m', 'subjects-10', 1.1),
      subjects_1m_vs_10: higher('subjects-1m', 'subjects-10', null),
    },
  },
  {
    name: 'middleware',
    about: 'an Express application that asks a limiter',
    besides: ['express-bare'],
    ratios: {
      middleware_vs_evalsha: higher('middleware', 'express-evalsha', null),
      middleware_vs_bare: higher('middleware', 'express-bare', null),
      middleware_cpu_vs_evalsha: cpu('middleware', 'express-evalsha'),
    },
  },
  {
    name: 'cluster',
    about: 'a Redis Cluster of three, 1,000 partitions',
    ratios: {
      cluster_1000_vs_evalsha: higher('cluster-1000', 'evalsha-cluster', null),
      cluster_1000_cpu_vs_evalsha: cpu('cluster-1000', 'evalsha-cluster'),
      cluster_1000_cpu_vs_1: cpu('cluster-1000', 'cluster-1'),
    },
  },
  {
    name: 'limiters',
    about: 'several limiters on one Redis: decisions for each second of processor time',
    ratios: {
      two_limiters_per_cpu_vs_one: {
        of: 'two-limiters',
        over: 'one-rule',
        figure: perProcessorSecond,
        target: 0.9,
        better: 'higher',
      },
      four_limiters_per_cpu_vs_one: {
        of: 'four-limiters',
        over: 'one-rule',
        figure: perProcessorSecond,
        target: null,
        better: 'higher',
      },
    },
  },
  {
    name: 'far-redis',
    about: 'Redis 1 ms and 5 ms away',
    ratios: {
      one_rule_vs_evalsha_1ms: higher('one-rule-1ms', 'evalsha-1ms', null),
      one_rule_vs_evalsha_5ms: higher('one-rule-5ms', 'evalsha-5ms', null),
      one_rule_p99_vs_evalsha_5ms: lower('one-rule-5ms', 'evalsha-5ms', { figure: p99, target: null }),
    },
  },
  {
    name: 'latency',
    about: 'at 30, 50, 70 and 90 % of saturation, whether or not answers come',
    ratios: {
      ...Object.fromEntries(
        PERCENTS.map((percent) => [
          `p99_vs_evalsha_at_${percent}_percent`,
          lower(`one-rule@${percent}%`, `evalsha@${percent}%`, { figure: p99, target: percent === 70 ? 3 : null }),
        ]),
      ),
      p99_millis_at_70_percent: lower('one-rule@70%', undefined, { figure: p99, target: 20 }),
    },
  },
  {
    name: 'swap',
    about: 'the slowest answer, in ms, while a configuration of 10,000 policies is replaced',
    ratios: {
      swap_none_slowest_millis: lower('swap-none', undefined, { figure: slowest, target: null }),
      swap_one_slowest_millis: lower('swap-one', undefined, { figure: slowest, target: 20 }),
      swap_all_slowest_millis: lower('swap-all', undefined, { figure: slowest, target: 20 }),
    },
  },
  {
    name: 'lua',
    about: "the script by itself: processor time of Redis' main thread",
    ratios: {
      script_pipelined_vs_floor: higher('pipeline', 'pipeline-floor', null),
      script_one_redis_cpu_vs_floor: redisCpu('script-one', 'script-floor'),
      script_three_redis_cpu_vs_floor: redisCpu('script-three', 'script-floor'),
      script_penalty_redis_cpu_vs_floor: redisCpu('script-penalty', 'script-floor'),
      script_denied_redis_cpu_vs_floor: redisCpu('script-denied', 'script-floor'),
    },
  },
  {
    name: 'memory',
    about: 'resident memory, in MiB, after 1,000,000 subjects, with 100 policies',
    ratios: { million_subjects_rss_mib: lower('subjects-1m', undefined, { figure: residentMemory, target: 128 }) },
  },
];

/** Needs a program that is not ours: asked for where there is one. */
export const RIVALS: Scenario = {
  name: 'rivals',
  about: 'envoyproxy/ratelimit, over gRPC',
  ratios: {
    grpc_vs_envoy_ratelimit: higher('grpc', 'envoy-ratelimit', 1),
    grpc_vs_envoy_ratelimit_tuned: higher('grpc', 'envoy-ratelimit-tuned', 1),
    grpc_cpu_vs_envoy_ratelimit: cpu('grpc', 'envoy-ratelimit'),
    grpc_cpu_vs_envoy_ratelimit_tuned: cpu('grpc', 'envoy-ratelimit-tuned'),
  },
};

const TARGETS: readonly Target[] = [
  ...LOAD_TARGETS,
  MILLION,
  ...PIPELINES,
  ...RATE_TARGETS,
  ...SWAP_TARGETS,
  ...SCRIPT_TARGETS,
];

/** The targets of these scenarios, each once. */
export function targetsOf(scenarios: readonly Scenario[]): Target[] {
  const wanted = new Set(
    scenarios.flatMap(({ ratios, besides = [] }) => [
      ...besides,
      ...Object.values(ratios).flatMap(({ of, over }) => (over === undefined ? [of] : [of, over])),
    ]),
  );
  const found = TARGETS.filter(({ name }) => wanted.has(name));
  if (found.length !== wanted.size) throw new Error(`some of these are no targets: ${[...wanted].join(', ')}`);
  return found;
}
