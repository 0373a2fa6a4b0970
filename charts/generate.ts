// Writes what the charts generate from code: values, dashboard and CRDs (crds/*.yaml). CI fails when what is
// checked in differs.
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { stringify } from 'yaml';
import { z } from 'zod';
import { dashboard } from './dashboard.ts';
import { chartValues } from './values.ts';

/** A file below this folder, as it has to be. */
export type ChartFile = { readonly path: string; readonly text: string };

const NOTE = 'Generated from charts/values.ts by npm run generate. Do not edit.';
const CRDS = join(import.meta.dirname, '../crds');
const README_MARK = '<!-- values, generated from charts/values.ts by npm run generate -->\n';

type Schema = {
  readonly type?: string;
  readonly description?: string;
  readonly default?: unknown;
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly enum?: readonly unknown[];
  readonly anyOf?: readonly Schema[];
};

export function generateChartFiles(): ChartFile[] {
  const schema = schemaOf(chartValues);
  const crds = crdTemplate();
  const readme = readFileSync(join(import.meta.dirname, 'sluice/README.md'), 'utf8');
  const kept = readme.slice(0, readme.indexOf(README_MARK));
  return [
    { path: 'sluice/values.schema.json', text: `${JSON.stringify({ $comment: NOTE, ...schema }, null, 2)}\n` },
    { path: 'sluice/values.yaml', text: `# ${NOTE}\n${valuesOf(schema, '')}` },
    { path: 'sluice/README.md', text: `${kept}${README_MARK}\n${tableOf(schema)}` },
    { path: 'sluice/dashboards/sluice.json', text: `${JSON.stringify(dashboard(), null, 2)}\n` },
    { path: 'sluice/templates/crds.yaml', text: crds },
    { path: 'sluice-crds/templates/crds.yaml', text: crds },
  ];
}

function schemaOf(values: z.ZodType): Schema {
  return z.toJSONSchema(values, {
    io: 'input',
    // Helm passes `global` to every chart that it renders as part of another one.
    override: ({ jsonSchema, path }) => {
      if (path.length > 0) return;
      jsonSchema.title = 'Values of chart sluice';
      jsonSchema.properties = {
        ...jsonSchema.properties,
        global: { type: 'object', description: 'Values that a parent chart gives to all of its charts. Not used.' },
      };
    },
  }) as Schema;
}

/** values.yaml: every default, under its description. */
function valuesOf(schema: Schema, indent: string): string {
  let yaml = '';
  for (const [name, property] of Object.entries(schema.properties ?? {})) {
    if (property.properties === undefined && property.default === undefined) continue;
    yaml += `${indent}# ${property.description ?? ''}\n${indent}${name}:`;
    if (property.properties === undefined) yaml += entryOf(property.default, indent);
    else yaml += `\n${valuesOf(property, `${indent}  `)}`;
  }
  return yaml;
}

function entryOf(value: unknown, indent: string): string {
  const yaml = stringify(value, { lineWidth: 0 }).trimEnd();
  const isBlock = typeof value === 'object' && value !== null && Object.keys(value).length > 0;
  if (!isBlock) return ` ${yaml}\n`;
  return `\n${yaml.replaceAll(/^/gm, `${indent}  `)}\n`;
}

function tableOf(schema: Schema): string {
  const rows = rowsOf(schema, '').map(([name, what, preset]) => `| \`${name}\` | ${what} | ${preset} |`);
  return ['| value | what | default |', '| --- | --- | --- |', ...rows, ''].join('\n');
}

function rowsOf(schema: Schema, prefix: string): [string, string, string][] {
  return Object.entries(schema.properties ?? {}).flatMap(([name, property]) => {
    if (property.properties !== undefined) return rowsOf(property, `${prefix}${name}.`);
    if (property.default === undefined) return [];
    const choices = property.enum?.map((choice) => `\`${JSON.stringify(choice)}\``).join(', ');
    const what = `${property.description ?? ''}${choices === undefined ? '' : ` One of ${choices}.`}`;
    return [[`${prefix}${name}`, what.replaceAll('|', '\\|'), `\`${JSON.stringify(property.default)}\``]];
  });
}

/** All CRDs as one template, with the annotation that makes Helm leave them. */
function crdTemplate(): string {
  const keep = '    {{- if .Values.crds.keep }}\n    helm.sh/resource-policy: keep\n    {{- end }}\n';
  const documents = readdirSync(CRDS)
    .filter((name) => name.endsWith('.yaml'))
    .toSorted()
    .map((name) => {
      const crd = readFileSync(join(CRDS, name), 'utf8').replace(/^#.*\n/, '');
      if (crd.includes('{{')) throw new Error(`${name} holds "{{", which Helm would take for a template`);
      const annotated = crd.replace('\n  annotations:\n', `\n  annotations:\n${keep}`);
      if (annotated === crd) throw new Error(`${name} has no annotations beside which to keep it`);
      return `---\n${annotated}`;
    });
  const note = '{{- /* Generated from crds/ by npm run generate. Do not edit. */}}\n';
  return `${note}{{- if .Values.crds.enabled }}\n${documents.join('')}{{- end }}\n`;
}

if (import.meta.main) {
  for (const { path, text } of generateChartFiles()) writeFileSync(join(import.meta.dirname, path), text);
}
