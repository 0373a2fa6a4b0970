// The decision script as fast as Redis can be asked for it: redis-benchmark, pipelined.
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import type { Figures } from '../figures.ts';
import type { Rig } from '../rig.ts';
import { Unmeasurable } from '../senders/load.ts';
import { argumentsOf, oneRule, scriptText } from './scripts.ts';
import type { Target } from './target.ts';

const run = promisify(execFile);

const PIPELINED = 100;
const CONNECTIONS = 50;
const REQUESTS = 40_000;
const SUBJECTS = 240;
/** What redis-benchmark replaces by a number. */
const RANDOM = '__rand_int__';

export const PIPELINE: Target = {
  name: 'pipeline',
  about: 'redis-benchmark: EVALSHA of decide.lua with one rule each, 100 in a pipeline',
  measure,
};

async function measure(rig: Rig): Promise<Figures> {
  const sha = String(await rig.redis.script('LOAD', scriptText));
  const { keys, args } = argumentsOf(oneRule(0));
  const subjects = keys.map((key) => key.slice(0, -RANDOM.length) + RANDOM);
  const options = ['-p', rig.redisPort, '-c', CONNECTIONS, '-P', PIPELINED, '-n', REQUESTS, '-r', SUBJECTS, '--csv'];
  const command = ['EVALSHA', sha, subjects.length, ...subjects, ...args];
  const before = await rig.redisCpuSeconds();
  const { stdout } = await run('redis-benchmark', [...options, ...command].map(String), { signal: rig.signal });
  const used = (await rig.redisCpuSeconds()) - before;
  // The name of the test is the command, which has no quotes; its figures follow.
  const perSecond = Number(/","([\d.]+)"/.exec(stdout)?.[1]);
  if (!(perSecond > 0)) throw new Unmeasurable(`redis-benchmark said: ${stdout.slice(-500)}`);
  return { perSecond, redisMicros: (used * 1e6) / REQUESTS };
}
