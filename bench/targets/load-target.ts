import { setTimeout as pause } from 'node:timers/promises';
import { callers, shuffled, STRANGER, type Caller } from '../callers.ts';
import type { Redis } from 'ioredis';
import type { Figures } from '../figures.ts';
import { scrape } from '../prometheus.ts';
import type { Rig } from '../rig.ts';
import { type Load, type LoadResult, SUBJECT_PLACEHOLDER, Unmeasurable } from '../senders/load.ts';
import { send } from '../senders/send.ts';
import type { Server, ServerName } from '../servers.ts';
import { countKeys, cpuSecondsOf } from '../stores.ts';
import type { Ask } from './requests.ts';
import type { Target } from './target.ts';

export type LoadSpec = {
  readonly name: string;
  readonly about: string;
  /** The processes that answer, all at once. */
  readonly servers: readonly ServerName[];
  /** Who does a part of the work for them: its processor time counts, too. */
  readonly behind?: readonly ServerName[];
  readonly protocol?: Load['protocol'];
  readonly ask: Ask;
  /** 'own': our sender even where wrk could. */
  readonly sender?: Load['sender'];
  /** Callers that are not in the list, by number. */
  readonly subjects?: number;
  /** What every answer contains, once for each decision. */
  readonly fragments: readonly string[];
  readonly decisionsPerRequest?: number;
  /** To each server; default: CONNECTIONS over all of them. */
  readonly connections?: number;
  /** Keys in Redis that the first request of a new caller makes: each rule counts in one of its own. */
  readonly keysOfFirstRequest?: number;
  /** One request of each caller before anything is measured: where a limit admits one, that is used up then. */
  readonly isPrimed?: boolean;
  /** Labels of the series of the limiter's metrics that counts these answers, and the only one that may grow. */
  readonly countedAs?: Readonly<Record<string, string>>;
  /** Of a turn; default: TURN_SECONDS. */
  readonly seconds?: number;
  /** Sent a second, whether or not answers come; asked for after the preparation. Absent: as much as is answered. */
  readonly ratePerSecond?: () => number;
};

export const CONNECTIONS = 50;

/** Length of one turn: short, so that what else the machine does meets all targets alike. */
export const TURN_SECONDS = 1;

/**
 * As much as is answered for so long: V8 compiles what it sees often, in several steps. User time for each request falls to
 * a third over the first 60,000, and stays there.
 */
const WARM_UP_SECONDS = 8;

/** Between two looks at whether the last requests of a turn are through. */
const SETTLE_MILLIS = 100;
const MIB = 1024 * 1024;

type Series = ReadonlyMap<string, number>;
type Counts = { readonly redisCpuSeconds: number; readonly series: readonly Series[] };

/** Servers under load of requests. */
export function loadTarget(spec: LoadSpec): Target {
  return {
    name: spec.name,
    about: spec.about,
    prepare: async (rig) => {
      for (const server of [...spec.servers, ...(spec.behind ?? [])]) await rig.server(server);
      await prove(rig, spec);
      if (spec.isPrimed === true) await prime(rig, spec);
    },
    warmUp: (rig) => measure(rig, saturatedBy(spec)),
    measure: (rig) => measure(rig, spec),
  };
}

function saturatedBy({ ratePerSecond: _ratePerSecond, ...spec }: LoadSpec): LoadSpec {
  return { ...spec, seconds: WARM_UP_SECONDS };
}

async function measure(rig: Rig, spec: LoadSpec): Promise<Figures> {
  const servers = await Promise.all(spec.servers.map((name) => rig.server(name)));
  try {
    const all = [...servers, ...(await Promise.all((spec.behind ?? []).map((name) => rig.server(name))))];
    const before = await countsOf(all);
    const results = await Promise.all(servers.map((server) => send(loadOf(spec, server), rig.signal)));
    const after = await countsAtRest(all, rig.signal);
    const responses = sum(results, (result) => result.responses);
    if (spec.countedAs !== undefined) compareCounts(spec, responses, grown(before, after));
    return figuresOf(results, { before, after, decisions: responses * (spec.decisionsPerRequest ?? 1) });
  } catch (error) {
    rig.signal.throwIfAborted();
    const what = error instanceof Error ? error.message : String(error);
    const output = servers.map((server) => server.process.output()).join('\n');
    throw new Unmeasurable(`${spec.name}: ${what}\n${output}`.trim(), { cause: error });
  }
}

export function loadOf(spec: LoadSpec, { port, grpcPort }: Server): Load {
  const protocol = spec.protocol ?? 'http';
  const subjects = spec.subjects ?? 0;
  const asking = subjects === 0 ? callers() : callers().map(numbered);
  return {
    protocol,
    port: protocol === 'http' ? port : (grpcPort ?? port),
    requests: shuffled(asking).map(spec.ask),
    subjects,
    sender: spec.sender ?? 'fastest',
    fragments: spec.fragments,
    count: spec.decisionsPerRequest ?? 1,
    connections: spec.connections ?? Math.ceil(CONNECTIONS / spec.servers.length),
    seconds: spec.seconds ?? TURN_SECONDS,
    ...(spec.ratePerSecond === undefined ? {} : { ratePerSecond: spec.ratePerSecond() }),
  };
}

const numbered = (caller: Caller): Caller => ({ ...caller, consumer: `customer-${SUBJECT_PLACEHOLDER}` });

function figuresOf(
  results: readonly LoadResult[],
  { before, after, decisions }: { readonly before: Counts; readonly after: Counts; readonly decisions: number },
): Figures {
  const seconds = Math.max(...results.map((result) => result.seconds));
  const more = (pattern: RegExp): number => total(after, pattern) - total(before, pattern);
  const isOfNode = total(after, /^nodejs_heap_size_used_bytes$/) > 0;
  return {
    perSecond: decisions / seconds,
    p50Millis: Math.max(...results.map((result) => result.p50Millis)),
    p99Millis: Math.max(...results.map((result) => result.p99Millis)),
    maxMillis: Math.max(...results.map((result) => result.maxMillis)),
    serverMicros: (more(/^process_cpu_seconds_total$/) * 1e6) / decisions,
    redisMicros: ((after.redisCpuSeconds - before.redisCpuSeconds) * 1e6) / decisions,
    senderCores: sum(results, (result) => result.senderCpuSeconds) / seconds,
    // The comparison servers do not say.
    ...(isOfNode && {
      gcPercent: (more(/^nodejs_gc_duration_seconds_sum/) * 100) / seconds,
      residentMiB: total(after, /^process_resident_memory_bytes$/) / MIB,
      heapMiB: total(after, /^nodejs_heap_size_used_bytes$/) / MIB,
    }),
  };
}

function total({ series }: Counts, pattern: RegExp): number {
  const values = series.flatMap((one) => [...one].flatMap(([name, value]) => (pattern.test(name) ? [value] : [])));
  return sum(values, (value) => value);
}

/** Once nothing is counted any more: what is still under way would be counted in another turn. */
async function countsAtRest(servers: readonly Server[], signal: AbortSignal): Promise<Counts> {
  const decisions = (counts: Counts): number => total(counts, /^sluice_decisions_total/);
  for (let before = await countsOf(servers); ;) {
    await pause(SETTLE_MILLIS, undefined, { signal });
    const after = await countsOf(servers);
    if (total(after, /^sluice_decisions_in_flight$/) === 0 && decisions(after) === decisions(before)) return after;
    before = after;
  }
}

async function countsOf(servers: readonly Server[]): Promise<Counts> {
  const series = await Promise.all(servers.map(({ metricsUrl }) => scrape(metricsUrl)));
  return { redisCpuSeconds: await cpuSecondsOf(nodesOf(servers)), series };
}

/** Of the Redis servers that they use, each once. */
const nodesOf = (servers: readonly Server[]): Redis[] => [
  ...new Set(servers.flatMap(({ store }) => store?.nodes ?? [])),
];

/** What the limiters say of their requests, as far as it grew. */
function grown(before: Counts, after: Counts): Map<string, number> {
  const growth = new Map<string, number>();
  after.series.forEach((one, index) => {
    for (const [series, value] of one) {
      if (!/^sluice_(decisions|rule_input_missing|store_errors)_total/.test(series)) continue;
      const more = value - (before.series[index]?.get(series) ?? 0);
      if (more !== 0) growth.set(series, (growth.get(series) ?? 0) + more);
    }
  });
  return growth;
}

/** Samples could miss a wrong answer; the limiter's own count has all of them. */
function compareCounts(spec: LoadSpec, responses: number, growth: ReadonlyMap<string, number>): void {
  const labels = Object.entries(spec.countedAs ?? {}).map(([label, value]) => `${label}="${value}"`);
  const series = `sluice_decisions_total{${labels.join(',')}}`;
  const decisions = spec.decisionsPerRequest ?? 1;
  const counted = (growth.get(series) ?? 0) / decisions;
  // At the end of a turn each connection has one request under way, whose answer nobody reads.
  const isPlausible = counted >= responses && counted <= responses + CONNECTIONS + spec.servers.length;
  if (isPlausible && growth.size === 1) return;
  const said = [...growth].map(([name, more]) => `${name} ${more}`).join('\n');
  throw new Unmeasurable(`${responses} answers should be counted as ${series} and nothing else, but:\n${said}`);
}

/** Shows that a target does the work that it is measured for: each rule counts. Throws Unmeasurable. */
async function prove(rig: Rig, spec: LoadSpec): Promise<void> {
  if (spec.keysOfFirstRequest === undefined) return;
  const nodes = nodesOf(await Promise.all(spec.servers.map((name) => rig.server(name))));
  const before = await countKeys(nodes);
  await once(rig, spec, [STRANGER]);
  const made = (await countKeys(nodes)) - before;
  if (made !== spec.keysOfFirstRequest)
    throw new Unmeasurable(`${spec.name} made ${made} keys in Redis, not ${spec.keysOfFirstRequest}`);
}

async function prime(rig: Rig, spec: LoadSpec): Promise<void> {
  await once(rig, spec, callers());
}

/** One request of each caller, sent by fetch. */
async function once(rig: Rig, spec: LoadSpec, asking: readonly Caller[]): Promise<void> {
  const [name] = spec.servers;
  if (name === undefined) return;
  const { port } = await rig.server(name);
  for (const caller of asking) {
    const [head = '', body = ''] = spec.ask(caller).split('\r\n\r\n');
    const [method = '', path = ''] = head.split(' ', 2);
    const lines = head
      .split('\r\n')
      .slice(1)
      .map((line) => line.split(': ', 2) as [string, string]);
    const headers = lines.filter(([header]) => header !== 'host' && header !== 'content-length');
    const init = { method, headers, signal: rig.signal, ...(body === '' ? {} : { body }) };
    const response = await fetch(`http://127.0.0.1:${port}${path}`, init);
    const answer = await response.text();
    if (response.status !== 200) throw new Unmeasurable(`${spec.name}: ${response.status} ${answer}`);
  }
}

const sum = <T>(items: readonly T[], of: (item: T) => number): number =>
  items.reduce((before, item) => before + of(item), 0);
