import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { generateChartFiles } from '../../charts/generate.ts';
import { chartValues } from '../../charts/values.ts';
import { at } from './helm.ts';

const CHARTS = join(import.meta.dirname, '../../charts');
const read = (path: string): string => readFileSync(join(CHARTS, path), 'utf8');

type Schema = { readonly type?: string; readonly properties?: Readonly<Record<string, Schema>> };

/** Paths of an object schema that lack a sentence of description, or that let unknown names through. */
function unclear(schema: Schema, path: string): string[] {
  const { properties } = schema;
  if (properties === undefined) return [];
  const open = at(schema, 'additionalProperties') === false ? [] : [`${path}: lets unknown names through`];
  const children = Object.entries(properties).flatMap(([name, property]) => {
    const described = /\w.*[.…]$/.test(String(at(property, 'description')));
    return [...(described ? [] : [`${path}.${name}: is not described`]), ...unclear(property, `${path}.${name}`)];
  });
  return [...open, ...children];
}

describe('what the charts generate', () => {
  it.each(generateChartFiles())('is checked in as it has to be: $path', ({ path, text }) => {
    // If this fails: npm run generate
    expect(read(path)).toBe(text);
  });

  it('describes every value, and lets no unknown one through', () => {
    expect(unclear(JSON.parse(read('sluice/values.schema.json')) as Schema, 'values')).toEqual([]);
  });

  it('has default values that its own schema accepts, and that are all of them', () => {
    const values: unknown = parse(read('sluice/values.yaml'));
    expect(chartValues.parse(values)).toEqual(values);
  });
});

describe('the two charts', () => {
  it.each(['sluice', 'sluice-crds'])('carry the version of the application: %s', (chart) => {
    const { version } = JSON.parse(readFileSync(join(CHARTS, '../package.json'), 'utf8')) as { version: string };
    expect(parse(read(`${chart}/Chart.yaml`))).toMatchObject({ version, appVersion: version });
  });
});
