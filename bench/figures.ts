/** What one turn of a target showed; what does not apply is absent. */
export type Figures = Readonly<Partial<Record<FigureName, number>>>;

export const FIGURES = {
  /** Decisions, or what the comparison server answers instead. */
  perSecond: { title: 'per second', digits: 0 },
  p50Millis: { title: 'p50 ms', digits: 1 },
  p99Millis: { title: 'p99 ms', digits: 1 },
  maxMillis: { title: 'max ms', digits: 1 },
  /** Processor time for each decision, of the servers and of Redis. */
  serverMicros: { title: 'server us', digits: 0 },
  redisMicros: { title: 'Redis us', digits: 1 },
  /** Processor time of the sender, in cores: near 1 means that it was the limit, and that the ratio is too near to 1. */
  senderCores: { title: 'sender cores', digits: 2 },
  /** Of the time of the turn. */
  gcPercent: { title: 'GC %', digits: 1 },
  residentMiB: { title: 'RSS MiB', digits: 0 },
  heapMiB: { title: 'heap MiB', digits: 0 },
  /** Inside the script, for each decision, by Redis' own clock. */
  scriptMicros: { title: 'script us', digits: 1 },
  /** Of a whole call, which may decide several requests. */
  callP50Micros: { title: 'call p50 us', digits: 0 },
  callP99Micros: { title: 'call p99 us', digits: 0 },
  callMaxMicros: { title: 'call max us', digits: 0 },
  /** In Redis' SLOWLOG: of more than 10 ms. */
  slowCalls: { title: 'SLOWLOG', digits: 1 },
} as const satisfies Readonly<Record<string, { readonly title: string; readonly digits: number }>>;

export type FigureName = keyof typeof FIGURES;

export const figureNames = Object.keys(FIGURES) as readonly FigureName[];

/** Figures by target: of one round, or of all. */
export type FiguresByTarget = Readonly<Record<string, Figures>>;

/** Each figure is the mean of the turns that have it. */
export const meanOf = (turns: readonly Figures[]): Figures => combine(turns, mean);

/** Each figure is the median of the rounds. */
export const medianOf = (rounds: readonly Figures[]): Figures => combine(rounds, median);

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((one, other) => one - other);
  const [low, high] = [sorted[(sorted.length - 1) >> 1], sorted[sorted.length >> 1]];
  return low === undefined || high === undefined ? Number.NaN : (low + high) / 2;
}

const mean = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;

function combine(all: readonly Figures[], how: (values: readonly number[]) => number): Figures {
  const combined: Partial<Record<FigureName, number>> = {};
  for (const name of figureNames) {
    const values = all.flatMap((figures) => figures[name] ?? []);
    if (values.length > 0) combined[name] = how(values);
  }
  return combined;
}
