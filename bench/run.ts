// Measures the limiter against what one would write without it, in one run on one machine: `npm run bench`.
//   -- --only full,denied   some scenarios only; the results of the last whole run are kept
//   -- --page               writes docs/performance.md anew from bench/results/latest.json
// SECONDS and ROUNDS shorten or lengthen it. Ratios are the result; nothing here asserts a time. Exit code 0 when it
// was measured, 1 when answers were wrong or something did not start, 130 when it was interrupted.
import { setMaxListeners } from 'node:events';
import { join } from 'node:path';
import { RedisServerMissingError } from '../cli/dev/find-redis.ts';
import { type Figures, type FiguresByTarget, meanOf, medianOf } from './figures.ts';
import { ratiosOf } from './ratios.ts';
import {
  describeMachine,
  figureTables,
  lengthOf,
  ratioTable,
  readResults,
  type Results,
  writeIntoPage,
  writeResults,
} from './report.ts';
import { Rig } from './rig.ts';
import { type Scenario, targetsOf } from './scenarios.ts';
import { Unmeasurable } from './senders/load.ts';
import { findWrk } from './senders/send.ts';
import { type BenchSettings, type Command, commandFrom, isQuotable } from './settings.ts';
import { TURN_SECONDS } from './targets/load-target.ts';
import type { Target } from './targets/target.ts';

const RESULTS = join(import.meta.dirname, 'results', 'latest.json');
const PAGE = join(import.meta.dirname, '..', 'docs', 'performance.md');

const interrupted = new AbortController();
// Every server and sender that runs listens for our end.
process.setMaxListeners(64);
// What fetch leaves on a signal goes with the garbage collector.
setMaxListeners(0, interrupted.signal);
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => interrupted.abort());

try {
  const command = commandFrom(process.argv.slice(2), process.env);
  if (command.kind === 'page') await writeIntoPage(PAGE, await readResults(RESULTS));
  else await run(command, interrupted.signal);
} catch (error) {
  if (interrupted.signal.aborted) process.exitCode = 130;
  else {
    const isExpected = [Unmeasurable, RedisServerMissingError, RangeError, TypeError].some(
      (kind) => error instanceof kind,
    );
    console.error(isExpected && error instanceof Error ? `bench: ${error.message}` : error);
    process.exitCode = 1;
  }
}

async function run(command: Extract<Command, { kind: 'measure' }>, signal: AbortSignal): Promise<void> {
  const { scenarios, settings } = command;
  const targets = targetsOf(scenarios);
  await using rig = await Rig.start(signal);
  console.log(`${lengthOf(settings)}\n`);
  for (const target of targets) {
    console.log(`  ${target.name.padEnd(16)} ${target.about}`);
    await target.prepare?.(rig);
  }
  const ratios: Results['ratios'][] = [];
  const rounds: FiguresByTarget[] = [];
  // One scenario after the other: a server that waits a minute for its next turn is slow again, as V8 forgets its code.
  for (const scenario of scenarios) {
    const measured = await runScenario(rig, scenario, settings);
    ratios.push(ratiosOf([scenario], measured));
    rounds.push(...measured);
  }
  const figuresOf = (name: string): Figures =>
    medianOf(rounds.flatMap(({ [name]: figures }) => (figures === undefined ? [] : [figures])));
  const results: Results = {
    ratios: Object.assign({}, ...ratios),
    targets: Object.fromEntries(targets.map(({ name }) => [name, figuresOf(name)])),
    machine: { ...describeMachine(await rig.redis.info('server')), sender: findWrk() === undefined ? 'own' : 'wrk' },
    ...settings,
    date: new Date().toISOString(),
  };
  console.log(`\n${ratioTable(results.ratios)}\n\nAbsolute figures, for orientation (medians):\n`);
  console.log(`${figureTables(results.targets)}\n`);
  if (isQuotable(command)) {
    await writeResults(RESULTS, results);
    await writeIntoPage(PAGE, results);
  } else console.log('Not a whole run: bench/results and docs/performance.md keep the results of the last one.');
}

async function runScenario(
  rig: Rig,
  scenario: Scenario,
  { rounds, seconds }: BenchSettings,
): Promise<FiguresByTarget[]> {
  const targets = targetsOf([scenario]);
  const measured: FiguresByTarget[] = [];
  // A single round only asks whether everything works.
  if (rounds > 1) await warmUp(rig, scenario.name, targets);
  for (let round = 1; round <= rounds; round += 1) {
    console.log(`${scenario.name}: round ${round} of ${rounds}`);
    measured.push(await runRound(rig, targets, { turns: seconds / TURN_SECONDS, round }));
  }
  return measured;
}

async function warmUp(rig: Rig, name: string, targets: readonly Target[]): Promise<void> {
  console.log(`${name}: warm-up`);
  for (const target of targets) await (target.warmUp?.(rig) ?? target.measure(rig));
}

/** Every second time the order is reversed, so that a drift of the machine favours nobody. */
async function runRound(
  rig: Rig,
  targets: readonly Target[],
  { turns, round }: { readonly turns: number; readonly round: number },
): Promise<FiguresByTarget> {
  const taken = new Map<string, Figures[]>(targets.map(({ name }) => [name, []]));
  for (let turn = 0; turn < turns; turn += 1) {
    for (const target of (turn + round) % 2 === 0 ? targets : targets.toReversed()) {
      taken.get(target.name)?.push(await target.measure(rig));
    }
  }
  return Object.fromEntries([...taken].map(([name, figures]) => [name, meanOf(figures)]));
}
