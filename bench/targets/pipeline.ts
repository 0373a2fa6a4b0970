// Scripts as fast as Redis can be asked for them: redis-benchmark, pipelined.
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { Figures } from '../figures.ts';
import { watchCalls } from '../redis-calls.ts';
import type { Rig } from '../rig.ts';
import { Unmeasurable } from '../senders/load.ts';
import { cpuSecondsOf } from '../stores.ts';
import { argumentsOf, oneRule, scriptText } from './scripts.ts';
import { BATCH_CONNECTIONS } from './servers.ts';
import type { Target } from './target.ts';

const run = promisify(execFile);

const PIPELINED = 100;
const REQUESTS = 40_000;
const SUBJECTS = 240;
/** What redis-benchmark replaces by a number. */
const RANDOM = '__rand_int__';

type Call = { readonly script: string; readonly keys: readonly string[]; readonly args: readonly (string | number)[] };

function decide(): Call {
  const { keys, args } = argumentsOf(oneRule(0));
  return { script: scriptText, keys: keys.map((key) => key.slice(0, -RANDOM.length) + RANDOM), args };
}

const floor = (): Call => ({
  script: readFileSync(join(import.meta.dirname, '../servers/token-bucket.lua'), 'utf8'),
  keys: [`floor:${RANDOM}`],
  args: [6_000_000, 100_000, 1],
});

export const PIPELINES: readonly Target[] = [
  pipeline('pipeline', 'redis-benchmark: EVALSHA of decide.lua with one rule each, 100 in a pipeline', decide),
  pipeline('pipeline-floor', 'redis-benchmark: the script of the comparison server, 100 in a pipeline', floor),
];

function pipeline(name: string, about: string, callOf: () => Call): Target {
  const measure = (rig: Rig): Promise<Figures> => watchCalls(rig.redis, REQUESTS, () => benchmark(rig, callOf()));
  return { name, about, measure };
}

/** As many are under way as in the scenario `batch`: more would only wait, and hold up what else asks this Redis. */
async function benchmark({ redis, signal }: Rig, { script, keys, args }: Call): Promise<Figures> {
  const sha = String(await redis.script('LOAD', script));
  const { port = 0 } = redis.options;
  const options = ['-p', port, '-c', BATCH_CONNECTIONS, '-P', PIPELINED, '-n', REQUESTS, '-r', SUBJECTS, '--csv'];
  const command = ['EVALSHA', sha, keys.length, ...keys, ...args];
  const before = await cpuSecondsOf([redis]);
  const { stdout } = await run('redis-benchmark', [...options, ...command].map(String), { signal });
  const used = (await cpuSecondsOf([redis])) - before;
  // The name of the test is the command, which has no quotes; its figures follow.
  const perSecond = Number(/","([\d.]+)"/.exec(stdout)?.[1]);
  if (!(perSecond > 0)) throw new Unmeasurable(`redis-benchmark said: ${stdout.slice(-500)}`);
  return { perSecond, redisMicros: (used * 1e6) / REQUESTS };
}
