// Puts together the folder that becomes /app of the image: what was compiled, the scripts, and of the packages only what
// runs. Asks no network.
//
//   npm run build && node image/assemble.ts FOLDER
import { cpSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { rolldown } from 'rolldown';
import { reachablePackages } from './packages.ts';

const ROOT = join(import.meta.dirname, '..');
/** 60 MB of models, of which we use the reading of kubeconfigs: it is replaced by a bundle of that. */
const BUNDLED = '@kubernetes/client-node';
/** Of no use at run time. */
const LEFT_OUT = /\.(?:d\.[cm]?ts|[cm]?ts|map|md|markdown|flow)$/i;

export async function assemble(target: string): Promise<void> {
  rmSync(target, { recursive: true, force: true });
  mkdirSync(target, { recursive: true });
  for (const name of ['package.json', 'LICENSE', 'lua', 'proto', 'dist']) {
    cpSync(join(ROOT, name), join(target, name), { recursive: true, filter: (path) => !path.endsWith('.d.ts') });
  }
  const lock: unknown = JSON.parse(readFileSync(join(ROOT, 'package-lock.json'), 'utf8'));
  for (const path of reachablePackages(lock, { without: BUNDLED })) copyPackage(path, target);
  await bundle(target);
}

function copyPackage(path: string, target: string): void {
  const source = join(ROOT, path);
  cpSync(source, join(target, path), {
    recursive: true,
    // What is nested in it is a package of its own, and is copied if something needs it.
    filter: (file) => !LEFT_OUT.test(file) && !relative(source, file).split('/').includes('node_modules'),
  });
}

/** The names that our code imports of the package; only these are kept of it. */
function importedNames(folder: string): string[] {
  const names = new Set<string>();
  for (const file of readdirSync(folder, { recursive: true, encoding: 'utf8' })) {
    if (!file.endsWith('.js')) continue;
    const code = readFileSync(join(folder, file), 'utf8');
    for (const [, list = ''] of code.matchAll(/import \{([^}]*)\} from ['"]@kubernetes\/client-node['"]/g))
      for (const name of list.split(',')) names.add(name.trim());
  }
  return [...names].filter((name) => name !== '');
}

async function bundle(target: string): Promise<void> {
  const names = importedNames(join(target, 'dist'));
  if (names.length === 0) throw new Error(`nothing in dist/ imports ${BUNDLED}: run npm run build first`);
  const folder = join(target, 'node_modules', BUNDLED);
  mkdirSync(folder, { recursive: true });
  const entry = join(folder, 'entry.js');
  writeFileSync(
    entry,
    `export { ${names.join(', ')} } from ${JSON.stringify(join(ROOT, 'node_modules', BUNDLED, 'dist/index.js'))};\n`,
  );
  const build = await rolldown({
    input: entry,
    platform: 'node',
    // One copy in the process: ours.
    external: ['undici'],
    treeshake: { moduleSideEffects: (id) => id.endsWith('/polyfill.js') },
    logLevel: 'silent',
  });
  await build.write({ file: join(folder, 'index.js'), format: 'esm' });
  rmSync(entry);
  const { version, license } = JSON.parse(
    readFileSync(join(ROOT, 'node_modules', BUNDLED, 'package.json'), 'utf8'),
  ) as { version: string; license: string };
  const described = { name: BUNDLED, version, license, type: 'module', exports: './index.js' };
  writeFileSync(join(folder, 'package.json'), `${JSON.stringify(described, null, 2)}\n`);
}

if (import.meta.main) {
  const [folder] = process.argv.slice(2);
  if (folder === undefined) throw new Error('usage: node image/assemble.ts FOLDER');
  await assemble(folder);
}
