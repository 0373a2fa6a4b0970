// Writes crds/*.yaml from the zod schemas. CI fails when what is checked in differs.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { stringify } from 'yaml';
import { allKinds, type ResourceKind, resourceKinds } from '../policy/schema/kinds.ts';
import { toCrd } from '../policy/schema/to-crd.ts';

/** A file of this folder, as it has to be. */
export type GeneratedFile = { readonly name: string; readonly text: string };

export function generateAll(): GeneratedFile[] {
  return allKinds.map(generate);
}

function generate(kind: ResourceKind): GeneratedFile {
  const yaml = stringify(toCrd(kind), { lineWidth: 120, aliasDuplicateObjects: false });
  return {
    name: `${resourceKinds[kind].plural}.yaml`,
    text: `# Generated from policy/schema by npm run generate. Do not edit.\n${yaml}`,
  };
}

if (import.meta.main) {
  for (const { name, text } of generateAll()) writeFileSync(join(import.meta.dirname, name), text);
}
