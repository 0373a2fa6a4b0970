import type { LoadResult } from './load.ts';
import type { TargetName } from './targets.ts';

/** One turn of one target: what the sender saw, and the processor time that it took on the other side. */
export type Turn = LoadResult & { readonly serverCpuSeconds: number; readonly redisCpuSeconds: number };

/** What one target showed in one round. */
export type Measurement = {
  readonly perSecond: number;
  readonly p50Millis: number;
  readonly p99Millis: number;
  /** Processor time for each request, of the server and of Redis. */
  readonly serverMicros: number;
  readonly redisMicros: number;
  /** Processor time of the sender, in cores: near 1 means that it was the limit, and that the ratio is too near to 1. */
  readonly senderCores: number;
};

/** All targets in turns, so that what else the machine does meets all of them alike. */
export type Round = Readonly<Record<TargetName, Measurement>>;

export type Ratio = {
  readonly median: number;
  readonly min: number;
  readonly max: number;
  readonly target: number | null;
  readonly better: 'higher' | 'lower';
};

type RatioSpec = Pick<Ratio, 'target' | 'better'> & {
  readonly of: TargetName;
  readonly over: TargetName;
  readonly figure: (measurement: Measurement) => number;
};

const throughput = (measurement: Measurement): number => measurement.perSecond;
const p99 = (measurement: Measurement): number => measurement.p99Millis;
const processorTime = (measurement: Measurement): number => measurement.serverMicros + measurement.redisMicros;

const RATIOS = {
  one_rule_vs_evalsha: { of: 'one-rule', over: 'evalsha', figure: throughput, target: 1.3, better: 'higher' },
  three_rules_vs_evalsha: { of: 'three-rules', over: 'evalsha', figure: throughput, target: 1.15, better: 'higher' },
  denied_vs_evalsha: { of: 'denied', over: 'evalsha', figure: throughput, target: null, better: 'higher' },
  evalsha_vs_bare: { of: 'evalsha', over: 'bare', figure: throughput, target: null, better: 'higher' },
  one_rule_p99_vs_evalsha: { of: 'one-rule', over: 'evalsha', figure: p99, target: 3, better: 'lower' },
  one_rule_cpu_vs_evalsha: { of: 'one-rule', over: 'evalsha', figure: processorTime, target: null, better: 'lower' },
  three_rules_cpu_vs_evalsha: {
    of: 'three-rules',
    over: 'evalsha',
    figure: processorTime,
    target: null,
    better: 'lower',
  },
} as const satisfies Readonly<Record<string, RatioSpec>>;

/** All turns of a target in a round as one. */
export function measurementOf(turns: readonly Turn[]): Measurement {
  const sum = (figure: (turn: Turn) => number): number => turns.reduce((total, turn) => total + figure(turn), 0);
  const waits = Float64Array.from(turns.flatMap((turn) => turn.waits)).toSorted();
  const quantile = (part: number): number => waits[Math.ceil(waits.length * part) - 1] ?? Number.NaN;
  const responses = sum((turn) => turn.responses);
  return {
    perSecond: waits.length / sum((turn) => turn.seconds),
    p50Millis: quantile(0.5),
    p99Millis: quantile(0.99),
    serverMicros: (sum((turn) => turn.serverCpuSeconds) * 1_000_000) / responses,
    redisMicros: (sum((turn) => turn.redisCpuSeconds) * 1_000_000) / responses,
    senderCores: sum((turn) => turn.senderCpuSeconds) / sum((turn) => turn.elapsedSeconds),
  };
}

/** Each ratio is taken inside a round; then the median, smallest and largest of the rounds. */
export function ratiosOf(rounds: readonly Round[]): Record<string, Ratio> {
  return Object.fromEntries(
    Object.entries(RATIOS).map(([name, { of, over, figure, target, better }]) => {
      const ratios = rounds.map((round) => figure(round[of]) / figure(round[over]));
      const [min, max] = [Math.min(...ratios), Math.max(...ratios)];
      return [name, { median: rounded(median(ratios)), min: rounded(min), max: rounded(max), target, better }];
    }),
  );
}

/** Undefined if nothing is asked of it. */
export function isMet({ median: value, target, better }: Ratio): boolean | undefined {
  if (target === null) return undefined;
  return better === 'higher' ? value >= target : value <= target;
}

/** The median of each figure over the rounds. */
export function medianOf(rounds: readonly Round[], target: TargetName): Measurement {
  const of = (figure: (measurement: Measurement) => number): number =>
    median(rounds.map((round) => figure(round[target])));
  return {
    perSecond: of(throughput),
    p50Millis: of((measurement) => measurement.p50Millis),
    p99Millis: of(p99),
    serverMicros: of((measurement) => measurement.serverMicros),
    redisMicros: of((measurement) => measurement.redisMicros),
    senderCores: of((measurement) => measurement.senderCores),
  };
}

function median(values: readonly number[]): number {
  const sorted = values.toSorted((one, other) => one - other);
  const [low, high] = [sorted[(sorted.length - 1) >> 1], sorted[sorted.length >> 1]];
  return low === undefined || high === undefined ? Number.NaN : (low + high) / 2;
}

/** More digits would claim more than such a measurement knows. */
const rounded = (value: number): number => Math.round(value * 1000) / 1000;
