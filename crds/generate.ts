// Writes crds/*.yaml from the zod schemas. CI fails when what is checked in differs.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { stringify } from 'yaml';
import { allKinds, resourceKinds } from '../policy/schema/kinds.ts';
import { toCrd } from '../policy/schema/to-crd.ts';

for (const kind of allKinds) {
  const file = join(import.meta.dirname, `${resourceKinds[kind].plural}.yaml`);
  const yaml = stringify(toCrd(kind), { lineWidth: 120, aliasDuplicateObjects: false });
  writeFileSync(file, `# Generated from policy/schema by npm run generate. Do not edit.\n${yaml}`);
}
