// Puts together the folder that becomes /app of the image: our code and the packages that it uses as few large files,
// which start in a third of the time; the scripts; and of the packages what has to stay files. Asks no network.
//
//   node image/assemble.ts FOLDER
import { cpSync, mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { join, relative } from 'node:path';
import { rolldown } from 'rolldown';
import { reachablePackages } from './packages.ts';

const ROOT = join(import.meta.dirname, '..');
/** Not bundled: they read files of their own folder. The names are found beside the bundle. */
const KEPT = ['@grpc/reflection', 'swagger-ui-dist'];
/** 60 MB of models, of which we use the reading of kubeconfigs. */
const MOSTLY_UNUSED = '/@kubernetes/client-node/';
/** Of no use at run time. */
const LEFT_OUT = /\.(?:d\.[cm]?ts|[cm]?ts|map|md|markdown|flow)$|\/swagger-ui-es-|\/swagger-ui-dist\/log\./i;
/** What says which package this is, for those who look for known weaknesses, and under which licence. */
const LABELS = /^(?:package\.json|(?:licen[cs]e|notice|copying)(?:[.-].*)?)$/i;

/**
 * What the image has in the variable of this name. Not on the command line: there a percentage would win over the
 * `--max-old-space-size` that somebody puts into the variable.
 */
export const NODE_OPTIONS = [
  // MiB, twice, for young objects. Left to itself V8 takes 64, and a third more memory in all; with 4, what waits for
  // Redis is not young any more when it is collected, which takes twice the processor time.
  '--max-semi-space-size=16',
  // Of the container's memory. The less there may be, the sooner V8 collects what is old: the heap follows what is used.
  '--max-old-space-size-percentage=75',
].join(' ');

export async function assemble(target: string): Promise<void> {
  rmSync(target, { recursive: true, force: true });
  mkdirSync(target, { recursive: true });
  for (const name of ['package.json', 'LICENSE', 'lua', 'proto']) {
    cpSync(join(ROOT, name), join(target, name), { recursive: true });
  }
  await bundle(join(target, 'dist'));
  const lock: unknown = JSON.parse(readFileSync(join(ROOT, 'package-lock.json'), 'utf8'));
  const kept = new Set(reachablePackages(lock, { of: KEPT }));
  for (const path of reachablePackages(lock)) {
    if (kept.has(path)) copyPackage(path, target);
    else copyLabels(path, target);
  }
}

function copyPackage(path: string, target: string): void {
  const source = join(ROOT, path);
  cpSync(source, join(target, path), {
    recursive: true,
    // What is nested in it is a package of its own, and is copied if something needs it.
    filter: (file) => !LEFT_OUT.test(file) && !relative(source, file).split('/').includes('node_modules'),
  });
}

function copyLabels(path: string, target: string): void {
  for (const name of readdirSync(join(ROOT, path))) {
    if (LABELS.test(name)) cpSync(join(ROOT, path, name), join(target, path, name));
  }
}

async function bundle(folder: string): Promise<void> {
  const build = await rolldown({
    cwd: ROOT,
    input: { 'cli/main': 'cli/main.ts' },
    platform: 'node',
    external: (name) => KEPT.some((kept) => name === kept || name.startsWith(`${kept}/`)),
    treeshake: { moduleSideEffects: (id) => !id.includes(MOSTLY_UNUSED) || id.endsWith('/polyfill.js') },
    logLevel: 'silent',
  });
  // Not minified, so that a stack trace names our functions. Source maps would cost as much at start as all the code:
  // Node reads them with it.
  await build.write({ dir: folder, format: 'esm', chunkFileNames: '[name]-[hash].js' });
  await build.close();
}

if (import.meta.main) {
  const [folder] = process.argv.slice(2);
  if (folder === undefined) throw new Error('usage: node image/assemble.ts FOLDER');
  await assemble(folder);
}
