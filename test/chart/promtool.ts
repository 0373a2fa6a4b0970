// Lets promtool judge the alerts by their cases, and the queries of the dashboard. Which promtool: PROMTOOL, the PATH, or the one of Debian's package `prometheus`, which is
// unpacked into the user's cache and not installed.
//
//   node test/chart/promtool.ts           runs the cases, and checks the queries
//   node test/chart/promtool.ts --find    prints where promtool is
import { execFile, spawnSync } from 'node:child_process';
import { access, constants, mkdir, mkdtemp, readdir, rename, rm, writeFile } from 'node:fs/promises';
import { homedir, tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { promisify } from 'node:util';
import { dashboard } from '../../charts/dashboard.ts';

const run = promisify(execFile);

const CASES = join(import.meta.dirname, 'alerts.promtool.yaml');
const ALERTS = join(import.meta.dirname, '../../charts/sluice/alerts.yaml');
const CACHE = join(homedir(), '.cache', 'sluice', 'programs');

/** Exit code of a machine that cannot have it, which is not a fault of the alerts. */
const NOT_THERE = 3;

async function findPromtool(): Promise<string> {
  const given = process.env['PROMTOOL'];
  if (given !== undefined && given !== '') return given;
  const cached = join(CACHE, 'prometheus', 'usr', 'bin', 'promtool');
  for (const folder of (process.env['PATH'] ?? '').split(delimiter)) {
    const candidate = join(folder, 'promtool');
    if (folder !== '' && (await isExecutable(candidate))) return candidate;
  }
  if (await isExecutable(cached)) return cached;
  await unpack();
  return cached;
}

/** Needs no root, and none of the packages that it depends on: promtool uses the C library alone. */
async function unpack(): Promise<void> {
  await mkdir(CACHE, { recursive: true });
  const aside = await mkdtemp(join(CACHE, 'prometheus.'));
  try {
    await run('apt-get', ['download', 'prometheus'], { cwd: aside });
    const [archive = ''] = await readdir(aside);
    await run('dpkg', ['-x', join(aside, archive), join(aside, 'root')]);
    await rename(join(aside, 'root'), join(CACHE, 'prometheus'));
  } finally {
    await rm(aside, { recursive: true, force: true });
  }
}

function isExecutable(file: string): Promise<boolean> {
  return access(file, constants.X_OK).then(
    () => true,
    () => false,
  );
}

/** The queries of the dashboard as recording rules, which promtool reads; with what Grafana would put in. */
async function queriesAsRules(file: string): Promise<void> {
  const { panels } = dashboard() as { panels: { targets: { expr: string }[] }[] };
  const rules = panels.flatMap(({ targets }, panel) =>
    targets.map(({ expr }, query) => ({
      record: `dashboard:panel_${panel}_query_${query}`,
      expr: expr.replaceAll('$__rate_interval', '1m').replaceAll('$namespace', '.+'),
    })),
  );
  await writeFile(file, JSON.stringify({ groups: [{ name: 'dashboard', rules }] }));
}

async function judge(promtool: string): Promise<boolean> {
  const folder = await mkdtemp(join(tmpdir(), 'sluice-promtool-'));
  try {
    const queries = join(folder, 'dashboard.json');
    await queriesAsRules(queries);
    const passes = (...args: string[]): boolean => spawnSync(promtool, args, { stdio: 'inherit' }).status === 0;
    const verdicts = [passes('test', 'rules', CASES), passes('check', 'rules', '--lint-fatal', ALERTS, queries)];
    return verdicts.every(Boolean);
  } finally {
    await rm(folder, { recursive: true });
  }
}

try {
  const promtool = await findPromtool();
  if (process.argv.includes('--find')) console.log(promtool);
  else process.exitCode = (await judge(promtool)) ? 0 : 1;
} catch (error) {
  const message = error instanceof Error ? (error.message.split('\n')[0] ?? '') : String(error);
  process.stderr.write(
    `there is no promtool: set PROMTOOL, or make \`apt-get download prometheus\` work (${message})\n`,
  );
  process.exitCode = NOT_THERE;
}
