import { readFile, writeFile } from 'node:fs/promises';
import { arch, availableParallelism, cpus, platform } from 'node:os';
import { isMet, medianOf, type Ratio, type Round } from './ratios.ts';
import type { BenchSettings } from './settings.ts';
import { table } from './table.ts';
import { TARGETS } from './targets.ts';

/** What bench/results/latest.json holds. */
export type Results = {
  readonly ratios: Readonly<Record<string, Ratio>>;
  readonly machine: Machine;
  readonly rounds: number;
  /** For each target in each round. */
  readonly seconds: number;
  readonly date: string;
};

/** Enough to judge the figures, and nothing that names the machine. */
type Machine = {
  readonly cpus: number;
  readonly cpu: string;
  readonly platform: string;
  readonly node: string;
  readonly redis: string;
};

const BEGIN = '<!-- bench: written by `npm run bench` -->';
const END = '<!-- bench: end -->';

export function describeMachine(redisInfo: string): Machine {
  return {
    cpus: availableParallelism(),
    cpu: cpus()[0]?.model ?? 'unknown',
    platform: `${platform()} ${arch()}`,
    node: process.versions.node,
    redis: /^redis_version:(\S+)/m.exec(redisInfo)?.[1] ?? 'unknown',
  };
}

export function ratioTable(ratios: Results['ratios']): string {
  const number = (value: number): string => value.toFixed(2);
  const rows = Object.entries(ratios).map(([name, ratio]) => [
    name,
    number(ratio.median),
    number(ratio.min),
    number(ratio.max),
    ratio.target === null ? '' : `${ratio.better === 'higher' ? '>=' : '<='} ${ratio.target}`,
    verdictOn(ratio),
  ]);
  return table(['ratio', 'median', 'min', 'max', 'target', ''], rows);
}

function verdictOn(ratio: Ratio): string {
  switch (isMet(ratio)) {
    case true:
      return 'met';
    case false:
      return 'missed';
    case undefined:
      return `${ratio.better} is better`;
  }
}

/** Absolute figures: true of this machine in these minutes only. */
export function figureTable(rounds: readonly Round[]): string {
  const rows = TARGETS.map(({ name }) => {
    const median = medianOf(rounds, name);
    return [
      name,
      Math.round(median.perSecond).toString(),
      median.p50Millis.toFixed(1),
      median.p99Millis.toFixed(1),
      median.serverMicros.toFixed(0),
      median.redisMicros.toFixed(0),
      median.senderCores.toFixed(2),
    ];
  });
  return table(['target', 'per second', 'p50 ms', 'p99 ms', 'server us', 'Redis us', 'sender cores'], rows);
}

export async function writeResults(file: string, results: Results): Promise<void> {
  await writeFile(file, `${JSON.stringify(results, undefined, 2)}\n`);
}

/** Puts the tables between the two markers of the page. Throws if the markers are not there. */
export async function writeIntoPage(file: string, results: Results, rounds: readonly Round[]): Promise<void> {
  const page = await readFile(file, 'utf8');
  const [begin, end] = [page.indexOf(BEGIN), page.indexOf(END)];
  if (begin === -1 || end < begin) throw new Error(`${file} must contain the lines ${BEGIN} and ${END}`);
  const { machine, date } = results;
  const text = [
    BEGIN,
    `${date.slice(0, 10)}, ${machine.cpus} x ${machine.cpu} (${machine.platform}), Node ${machine.node}, Redis ${machine.redis}, ${lengthOf(results)}:`,
    ratioTable(results.ratios),
    'Absolute figures of the same run, for orientation (medians):',
    figureTable(rounds),
    '',
  ];
  await writeFile(file, page.slice(0, begin) + text.join('\n\n') + page.slice(end));
}

export function lengthOf({ rounds, seconds }: BenchSettings): string {
  return `${rounds} ${rounds === 1 ? 'round' : 'rounds'} of ${seconds} s for each target`;
}
