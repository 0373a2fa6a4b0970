// Measures the way from the API server to the pods: `npm run bench:control-plane`. POLICIES (10000), EDITS (100),
// FLIPS (50) and IDLE_SECONDS (60) shorten or lengthen it; with the defaults it takes some ten minutes, most of them
// for the first status of every policy, which the operator writes at the rate that it may ask the API server by
// default. Nothing here asserts a time. Exit code 0 when it was measured, 1 when something did not start or a status
// was written in the idle time, 130 when it was interrupted.
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { ControlPlaneRig } from './control-plane-rig.ts';
import { describeMachine } from './report.ts';
import { positive } from './settings.ts';
import { table } from './table.ts';

/** Between two changes of mode: what the one before has brought about (statuses, Events) is over, as in an incident. */
const BETWEEN_FLIPS_MILLIS = 1_000;
const RESULTS = join(import.meta.dirname, 'results', 'control-plane.json');

const interrupted = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => interrupted.abort());

try {
  await run(interrupted.signal);
} catch (error) {
  if (!interrupted.signal.aborted) console.error(error);
  process.exitCode = interrupted.signal.aborted ? 130 : 1;
}

type Figures = Readonly<Record<string, number>>;

async function run(signal: AbortSignal): Promise<void> {
  const { env } = process;
  const settings = {
    policies: positive('POLICIES', env['POLICIES'], 10_000, 50_000),
    edits: positive('EDITS', env['EDITS'], 100, 10_000),
    flips: positive('FLIPS', env['FLIPS'], 50, 10_000),
    idleSeconds: positive('IDLE_SECONDS', env['IDLE_SECONDS'], 60, 3_600),
  };
  await using rig = await ControlPlaneRig.start(signal);
  const say = (what: string): void => console.log(`${what} ...`);
  say(`creating ${settings.policies} policies`);
  await rig.createPolicies(settings.policies);
  say('starting the operator and two limiters, until every policy is enforced');
  const start = await measureStart(rig, settings.policies);
  say(`${settings.edits} edits`);
  const edits = await series(settings.edits, (index) => timeEdit(rig, index % settings.policies, 6 + index));
  say(`${settings.flips} changes of SystemHealth`);
  const flips = await series(settings.flips, (index) => timeFlip(rig, index % 2 === 0 ? 'DEGRADED' : 'NORMAL'));
  say(`${settings.idleSeconds} s in which nothing changes`);
  const idle = await measureIdle(rig, settings.idleSeconds, signal);
  const figures: Figures = {
    ...start,
    edit_to_enforced_p50_ms: percentile(edits, 50),
    edit_to_enforced_p99_ms: percentile(edits, 99),
    health_flip_everywhere_p50_ms: percentile(flips, 50),
    health_flip_everywhere_p99_ms: percentile(flips, 99),
    ...idle,
  };
  const machine = describeMachine(await rig.redis.info('server'));
  const results = { figures, machine, ...settings, limiters: 2, date: new Date().toISOString() };
  const rows = Object.entries(figures).map(([name, value]) => [name, String(value)]);
  console.log(`\n${table(['figure', 'value'], rows)}\n`);
  await writeFile(RESULTS, `${JSON.stringify(results, undefined, 2)}\n`);
  if (figures['idle_writes_of_policies'] !== 0) throw new Error('statuses were written although nothing changed');
}

/** From the start of the operator's process, which begins with an empty Redis. */
async function measureStart(rig: ControlPlaneRig, policies: number): Promise<Figures> {
  const startedAtMillis = performance.now();
  const seconds = (): number => rounded((performance.now() - startedAtMillis) / 1000);
  rig.startOperator();
  await rig.untilPublished(policies);
  const published = seconds();
  await rig.startLimiters();
  await rig.untilAllEnforced(policies);
  return { start_to_all_published_s: published, start_to_all_enforced_s: seconds() };
}

/** From before it is sent until the status says that it is enforced, by both limiters. */
async function timeEdit(rig: ControlPlaneRig, index: number, requests: number): Promise<number> {
  const startedAtMillis = performance.now();
  const generation = await rig.editPolicy(index, requests);
  await rig.untilEnforced(index, generation);
  return performance.now() - startedAtMillis;
}

/** From before it is sent until both limiters decide by the mode. */
async function timeFlip(rig: ControlPlaneRig, mode: 'NORMAL' | 'DEGRADED'): Promise<number> {
  await pause(BETWEEN_FLIPS_MILLIS);
  const startedAtMillis = performance.now();
  await rig.setHealth(mode);
  await rig.untilModeEverywhere(mode);
  return performance.now() - startedAtMillis;
}

async function measureIdle(rig: ControlPlaneRig, seconds: number, signal: AbortSignal): Promise<Figures> {
  // What the last change has brought about is over.
  await pause(5_000, undefined, { signal });
  const before = await rig.operatorMetrics();
  const events = rig.events;
  await pause(seconds * 1000, undefined, { signal });
  await rig.collectGarbage();
  const after = await rig.operatorMetrics();
  const heap = after.get('nodejs_heap_size_used_bytes') ?? Number.NaN;
  const resident = after.get('process_resident_memory_bytes') ?? Number.NaN;
  return {
    idle_writes_of_policies: rig.events - events,
    idle_patches_of_the_operator: patches(after) - patches(before),
    operator_heap_used_mib: rounded(heap / 2 ** 20),
    operator_resident_mib: rounded(resident / 2 ** 20),
  };
}

/** Of statuses of all kinds, and of the counts of Events that happened again. */
function patches(metrics: ReadonlyMap<string, number>): number {
  return [...metrics]
    .filter(([name]) => name.startsWith('rest_client_requests_total{') && name.includes('method="PATCH"'))
    .reduce((sum, [, value]) => sum + value, 0);
}

async function series(count: number, measure: (index: number) => Promise<number>): Promise<readonly number[]> {
  const millis: number[] = [];
  for (let index = 0; index < count; index += 1) millis.push(await measure(index));
  return millis.toSorted((one, other) => one - other);
}

/** The smallest value that so many percent do not exceed. */
function percentile(sorted: readonly number[], percent: number): number {
  return rounded(sorted[Math.ceil((sorted.length * percent) / 100) - 1] ?? Number.NaN);
}

function rounded(value: number): number {
  return Number(value.toFixed(value < 10 ? 2 : 0));
}
