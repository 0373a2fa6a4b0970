import { readFile, writeFile } from 'node:fs/promises';
import { arch, availableParallelism, cpus, platform } from 'node:os';
import { FIGURES, type Figures, type FiguresByTarget, figureNames } from './figures.ts';
import { isMet, type Ratio } from './ratios.ts';
import type { BenchSettings } from './settings.ts';
import { table } from './table.ts';

/** What bench/results/latest.json holds. */
export type Results = {
  readonly ratios: Readonly<Record<string, Ratio>>;
  /** Medians of the rounds. */
  readonly targets: FiguresByTarget;
  readonly machine: Machine & { readonly sender: 'wrk' | 'own' };
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
export function figureTables(targets: FiguresByTarget): string {
  const isScript = ([, { scriptMicros }]: readonly [string, Figures]): boolean => scriptMicros !== undefined;
  const all = Object.entries(targets);
  const [servers, scripts] = [all.filter((one) => !isScript(one)), all.filter(isScript)];
  return [servers, scripts]
    .filter((group) => group.length > 0)
    .map(figureTable)
    .join('\n\n');
}

/** Only the columns in which there is something. */
function figureTable(targets: readonly (readonly [string, Figures])[]): string {
  const names = figureNames.filter((figure) => targets.some(([, figures]) => figures[figure] !== undefined));
  const rows = targets.map(([name, figures]) => [
    name,
    ...names.map((figure) => figures[figure]?.toFixed(FIGURES[figure].digits) ?? ''),
  ]);
  return table(['target', ...names.map((figure) => FIGURES[figure].title)], rows);
}

/** Throws RangeError if they were written by an older form of this. */
export async function readResults(file: string): Promise<Results> {
  const results = JSON.parse(await readFile(file, 'utf8')) as Partial<Results>;
  if (results.targets === undefined) throw new RangeError(`${file} has no targets: measure anew`);
  return results as Results;
}

export async function writeResults(file: string, results: Results): Promise<void> {
  await writeFile(file, `${JSON.stringify(results, undefined, 2)}\n`);
}

/** Puts the tables between the two markers of the page. Throws if the markers are not there. */
export async function writeIntoPage(file: string, results: Results): Promise<void> {
  const page = await readFile(file, 'utf8');
  const [begin, end] = [page.indexOf(BEGIN), page.indexOf(END)];
  if (begin === -1 || end < begin) throw new Error(`${file} must contain the lines ${BEGIN} and ${END}`);
  const { machine, date } = results;
  const text = [
    BEGIN,
    `${date.slice(0, 10)}, ${machine.cpus} x ${machine.cpu} (${machine.platform}), Node ${machine.node}, Redis ${machine.redis}, sender ${machine.sender}, ${lengthOf(results)}:`,
    ratioTable(results.ratios),
    'Absolute figures of the same run, for orientation (medians):',
    figureTables(results.targets),
    '',
  ];
  await writeFile(file, page.slice(0, begin) + text.join('\n\n') + page.slice(end));
}

export function lengthOf({ rounds, seconds }: BenchSettings): string {
  return `${rounds} ${rounds === 1 ? 'round' : 'rounds'} of ${seconds} s for each target`;
}
