import { z } from 'zod';

const names = z.record(z.string(), z.string()).optional();

const lockSchema = z.object({
  packages: z.record(
    z.string(),
    z.object({ dependencies: names, optionalDependencies: names, peerDependencies: names }),
  ),
});

type Packages = z.output<typeof lockSchema>['packages'];

/**
 * Folders of the packages that are needed at run time by the application, or by those of its packages that are named,
 * which are then among them. Found from package-lock.json by the rules of Node: the nearest node_modules wins.
 */
export function reachablePackages(lock: unknown, options: { readonly of?: readonly string[] } = {}): string[] {
  const { packages } = lockSchema.parse(lock);
  const found = new Set<string>();
  const open = options.of === undefined ? [''] : options.of.map((name) => folderOf(packages, '', name));
  for (let path = open.pop(); path !== undefined; path = open.pop()) {
    if (found.has(path)) continue;
    found.add(path);
    open.push(...neededBy(packages, path));
  }
  found.delete('');
  return [...found].toSorted();
}

/** Peers are needed where they are there; what must be there is a dependency of somebody else as well. */
function neededBy(packages: Packages, path: string): string[] {
  const { dependencies = {}, optionalDependencies = {}, peerDependencies = {} } = packages[path] ?? {};
  const required = Object.keys(dependencies).filter((name) => !(name in optionalDependencies));
  const wanted = Object.keys({ ...optionalDependencies, ...peerDependencies });
  return [
    ...required.map((name) => folderOf(packages, path, name)),
    ...wanted.map((name) => resolve(packages, path, name)).filter((folder) => folder !== undefined),
  ];
}

function folderOf(packages: Packages, from: string, name: string): string {
  const folder = resolve(packages, from, name);
  if (folder !== undefined) return folder;
  throw new Error(`package-lock.json has no ${name}, which ${from === '' ? 'the application' : from} needs`);
}

function resolve(packages: Packages, from: string, name: string): string | undefined {
  for (let path = from; ; path = path.slice(0, Math.max(path.lastIndexOf('/node_modules/'), 0))) {
    const folder = path === '' ? `node_modules/${name}` : `${path}/node_modules/${name}`;
    if (folder in packages) return folder;
    if (path === '') return undefined;
  }
}
