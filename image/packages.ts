import { z } from 'zod';

const lockSchema = z.object({
  packages: z.record(
    z.string(),
    z.object({
      dependencies: z.record(z.string(), z.string()).optional(),
      optionalDependencies: z.record(z.string(), z.string()).optional(),
    }),
  ),
});

type Packages = z.output<typeof lockSchema>['packages'];

/**
 * Folders of the packages that the application needs at run time, found from package-lock.json by the rules of Node:
 * the nearest node_modules wins. A package that is left out takes with it what only it needs.
 */
export function reachablePackages(lock: unknown, options: { readonly without: string }): string[] {
  const { packages } = lockSchema.parse(lock);
  const found = new Set<string>();
  const open = [''];
  for (let path = open.pop(); path !== undefined; path = open.pop()) {
    const { dependencies, optionalDependencies } = packages[path] ?? {};
    for (const name of Object.keys({ ...dependencies, ...optionalDependencies })) {
      if (name === options.without) continue;
      const folder = resolve(packages, path, name);
      if (folder === undefined) {
        if (optionalDependencies !== undefined && name in optionalDependencies) continue;
        throw new Error(`package-lock.json has no ${name}, which ${path === '' ? 'the application' : path} needs`);
      }
      if (found.has(folder)) continue;
      found.add(folder);
      open.push(folder);
    }
  }
  return [...found].toSorted();
}

function resolve(packages: Packages, from: string, name: string): string | undefined {
  for (let path = from; ; path = path.slice(0, Math.max(path.lastIndexOf('/node_modules/'), 0))) {
    const folder = path === '' ? `node_modules/${name}` : `${path}/node_modules/${name}`;
    if (folder in packages) return folder;
    if (path === '') return undefined;
  }
}
