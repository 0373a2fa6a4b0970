// Makes this tree as an earlier version of it would be, for tests of upgrades: documents of another format, and
// definitions that lack a field.
//
//   node test/cluster/older.ts FOLDER
import { cpSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const ROOT = join(import.meta.dirname, '../..');
const PARTS = ['cli', 'client', 'image', 'limiter', 'lua', 'operator', 'policy', 'proto', 'store'];
const FILES = ['LICENSE', 'package.json', 'package-lock.json', 'tsconfig.json'];

/** What is different, file by file; each has to be found. */
const CHANGES: readonly { readonly file: string; readonly from: RegExp; readonly to: string }[] = [
  { file: 'policy/documents.ts', from: /(?<=^export const FORMAT = )\d+(?=;$)/m, to: '0' },
  { file: 'policy/schema/to-crd.ts', from: /(?<=^export const SCHEMA_NUMBER = )\d+(?=;$)/m, to: '0' },
  { file: 'charts/sluice/Chart.yaml', from: /(?<=^version: ).*$/m, to: '0.0.1' },
  { file: 'charts/sluice/templates/crds.yaml', from: /(?<=sluice\.dev\/schema: )"\d+"/g, to: '"0"' },
  // The field `headers` of rules.
  {
    file: 'charts/sluice/templates/crds.yaml',
    from: /^ +headers:\n +description: "Whether response headers.*\n +type: string\n +enum:\n +- Show\n +- Hide\n/m,
    to: '',
  },
];

function makeOlder(folder: string): void {
  mkdirSync(folder, { recursive: true });
  for (const name of [...PARTS, ...FILES, 'charts']) cpSync(join(ROOT, name), join(folder, name), { recursive: true });
  symlinkSync(join(ROOT, 'node_modules'), join(folder, 'node_modules'));
  for (const { file, from, to } of CHANGES) {
    const before = readFileSync(join(folder, file), 'utf8');
    const after = before.replace(from, to);
    if (after === before) throw new Error(`${file} has no ${from}: say in CHANGES what an earlier version had`);
    writeFileSync(join(folder, file), after);
  }
}

const [folder] = process.argv.slice(2);
if (folder === undefined) throw new Error('usage: node test/cluster/older.ts FOLDER');
makeOlder(folder);
