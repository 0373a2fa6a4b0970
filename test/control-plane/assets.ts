// Finds the programs that the tests against a real API server need, and builds the ones that are not there.
//
// The order is: the folder KUBEBUILDER_ASSETS, then our folder in the user's cache, then a build into that folder.
import { access, constants, mkdir, stat } from 'node:fs/promises';
import { homedir } from 'node:os';
import { isAbsolute, join } from 'node:path';
import { buildAsset } from './build.ts';
import { checkGo } from './go.ts';
import { withLock } from './lock.ts';
import { ASSET_NAMES, recipeHash } from './recipe.ts';
import type { AssetName } from './recipe.ts';

export { ASSET_NAMES } from './recipe.ts';
export type { AssetName } from './recipe.ts';

/** The machine to look at; for tests. */
export type Machine = {
  readonly environment: NodeJS.ProcessEnv;
  /** Told, a line at a time, what takes so long. */
  readonly tell: (line: string) => void;
};

const THIS_MACHINE: Machine = {
  environment: process.env,
  tell: (line) => void process.stderr.write(`${line}\n`),
};

/** The path of a program. Building it, which happens once, takes minutes; without Go the error says what to do. */
export async function findAsset(name: AssetName, machine: Machine = THIS_MACHINE): Promise<string> {
  const given = machine.environment.KUBEBUILDER_ASSETS ?? '';
  const provided = join(given, name);
  if (given !== '' && (await isExecutable(provided))) return provided;

  const folder = cacheFolder(machine.environment);
  const cached = join(folder, name);
  if (await isExecutable(cached)) return cached;

  const whyNot = await checkGo(machine.environment);
  if (whyNot !== undefined) throw missing(name, whyNot);
  await mkdir(folder, { recursive: true });
  const onWait = (): void => machine.tell(`waiting for another process that builds into ${folder}`);
  await withLock(join(folder, 'lock'), onWait, async () => {
    if (await isExecutable(cached)) return;
    await buildAsset(name, { ...machine, folder }).catch((error: unknown) => {
      throw missing(name, error instanceof Error ? error.message : String(error));
    });
  });
  return cached;
}

/** One folder for each recipe: a new version is never mistaken for the old one, and both can be used side by side. */
function cacheFolder(environment: NodeJS.ProcessEnv): string {
  const home = environment.HOME ?? homedir();
  const configured = environment.XDG_CACHE_HOME ?? '';
  const onLinux = isAbsolute(configured) ? configured : join(home, '.cache');
  const cache = process.platform === 'darwin' ? join(home, 'Library', 'Caches') : onLinux;
  return join(cache, 'sluice', 'assets', `${process.platform}-${process.arch}-${recipeHash()}`);
}

function missing(name: AssetName, whyNot: string): Error {
  const message = [
    `${name} is missing and cannot be built: ${whyNot}`,
    'The tests against a real API server need it. Either',
    '- install Go 1.21 or later, with which it is built, once, in up to half an hour; or',
    `- set KUBEBUILDER_ASSETS to a folder that has ${ASSET_NAMES.join(', ')}.`,
  ];
  return new Error(message.join('\n'));
}

async function isExecutable(file: string): Promise<boolean> {
  try {
    await access(file, constants.X_OK);
    return (await stat(file)).isFile();
  } catch {
    return false;
  }
}
