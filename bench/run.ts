// Measures the limiter against what one would write without it, in one run on one machine: `npm run bench`.
// SECONDS and ROUNDS shorten or lengthen it. Ratios are the result; nothing here asserts a time. Exit code 0 when it
// was measured, 1 when answers were wrong or something did not start, 130 when it was interrupted.
import { join } from 'node:path';
import { RedisServerMissingError } from '../cli/dev/find-redis.ts';
import { TURN_SECONDS, Unmeasurable } from './load.ts';
import { measurementOf, ratiosOf, type Round, type Turn } from './ratios.ts';
import {
  describeMachine,
  figureTable,
  lengthOf,
  ratioTable,
  type Results,
  writeIntoPage,
  writeResults,
} from './report.ts';
import { Rig } from './rig.ts';
import { type BenchSettings, isQuotable, settingsFrom } from './settings.ts';
import { type TargetName, TARGETS } from './targets.ts';

const RESULTS = join(import.meta.dirname, 'results', 'latest.json');
const PAGE = join(import.meta.dirname, '..', 'docs', 'performance.md');

const interrupted = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => interrupted.abort());

try {
  await run(settingsFrom(process.env), interrupted.signal);
} catch (error) {
  if (interrupted.signal.aborted) process.exitCode = 130;
  else {
    const isExpected = [Unmeasurable, RedisServerMissingError, RangeError].some((kind) => error instanceof kind);
    console.error(isExpected && error instanceof Error ? `bench: ${error.message}` : error);
    process.exitCode = 1;
  }
}

async function run(settings: BenchSettings, signal: AbortSignal): Promise<void> {
  await using rig = await Rig.start(signal);
  console.log(`${lengthOf(settings)}, after one that is discarded\n`);
  for (const target of TARGETS) console.log(`  ${target.name.padEnd(12)} ${target.about}`);
  for (const target of TARGETS) await rig.prove(target);
  for (const target of TARGETS) await rig.prime(target);
  const rounds: Round[] = [];
  for (let round = 0; round <= settings.rounds; round += 1) {
    const measured = await runRound(rig, settings.seconds / TURN_SECONDS);
    console.log(`\n${round === 0 ? 'warm-up' : `round ${round} of ${settings.rounds}`}: ${describe(measured)}`);
    if (round > 0) rounds.push(measured);
  }
  const results: Results = {
    ratios: ratiosOf(rounds),
    machine: describeMachine(await rig.redis.info('server')),
    ...settings,
    date: new Date().toISOString(),
  };
  console.log(`\n${ratioTable(results.ratios)}\n\nAbsolute figures, for orientation (medians):\n`);
  console.log(`${figureTable(rounds)}\n`);
  await writeResults(RESULTS, results);
  if (isQuotable(settings)) await writeIntoPage(PAGE, results, rounds);
  else console.log('Too short to be quoted: docs/performance.md keeps the results of the last long run.');
}

/** Every second time the order is reversed, so that a drift of the machine favours nobody. */
async function runRound(rig: Rig, turns: number): Promise<Round> {
  const taken: Record<TargetName, Turn[]> = { bare: [], evalsha: [], 'one-rule': [], 'three-rules': [], denied: [] };
  for (let turn = 0; turn < turns; turn += 1) {
    for (const target of turn % 2 === 0 ? TARGETS : TARGETS.toReversed()) {
      taken[target.name].push(await rig.measure(target));
    }
  }
  return {
    bare: measurementOf(taken.bare),
    evalsha: measurementOf(taken.evalsha),
    'one-rule': measurementOf(taken['one-rule']),
    'three-rules': measurementOf(taken['three-rules']),
    denied: measurementOf(taken.denied),
  };
}

function describe(round: Round): string {
  return TARGETS.map(({ name }) => `${name} ${Math.round(round[name].perSecond)}/s`).join(', ');
}
