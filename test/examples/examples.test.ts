import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parse, parseAllDocuments } from 'yaml';
import { allKinds, resourceKinds } from '../../policy/schema/kinds.ts';
import { validate } from '../../policy/validate.ts';
import { render, type Values } from '../chart/helm.ts';
import { type ControlPlane, startControlPlane } from '../control-plane/control-plane.ts';
import { fileOf } from '../crds/definitions.ts';
import { eventually } from '../harness/eventually.ts';

const EXAMPLES = join(import.meta.dirname, '../../examples');
const NAMESPACE = 'shop';

type Resource = {
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly namespace?: string };
  readonly spec: unknown;
};

const filesIn = (folder: string): string[] =>
  readdirSync(join(EXAMPLES, folder))
    .filter((name) => name.endsWith('.yaml'))
    .map((name) => `${folder}/${name}`);
const read = (file: string): string => readFileSync(join(EXAMPLES, file), 'utf8');

const resourceFiles = ['policies', 'domains', 'overrides', 'consumers', 'incidents', 'dev'].flatMap(filesIn);

let controlPlane: ControlPlane;

beforeAll(async () => {
  controlPlane = await startControlPlane();
  await controlPlane.kubectl(['apply', ...allKinds.flatMap((kind) => ['-f', fileOf(kind)])]);
  await controlPlane.kubectl(['wait', '--for=condition=Established', 'crd', '--all', '--timeout=60s']);
  for (const namespace of [NAMESPACE, 'demo']) await controlPlane.kubectl(['create', 'namespace', namespace]);
  for (const kind of allKinds) await eventually(() => controlPlane.kubectl(['get', resourceKinds[kind].plural, '-A']));
});
afterAll(() => controlPlane.stop());

describe('an example', () => {
  it.each(resourceFiles)('is taken by the API server as it stands, without a warning: %s', async (file) => {
    const command = ['apply', '--server-side', '--validate=strict', '--warnings-as-errors', '-f', join(EXAMPLES, file)];
    const namespace = read(file).includes('namespace: ') ? [] : ['-n', NAMESPACE];
    expect(await controlPlane.kubectl([...command, ...namespace])).toContain('serverside-applied');
  });

  it.each(resourceFiles)('is accepted by the operator: %s', (file) => {
    const documents = parseAllDocuments(read(file)).map((document) => document.toJS() as Resource);
    expect(documents.length).toBeGreaterThan(0);
    for (const { kind, metadata, spec } of documents) {
      const known = allKinds.find((candidate) => candidate === kind);
      if (known === undefined) throw new Error(`${file} holds an unknown kind ${kind}`);
      const scope = resourceKinds[known].scope === 'Cluster' ? '' : NAMESPACE;
      const full = { namespace: scope, uid: 'u', generation: 1, creationTimestamp: '', ...metadata };
      expect(validate({ kind: known, metadata: full, spec })).toMatchObject({ ok: true });
    }
  });

  it('is listed in the table, and the table lists no other', () => {
    const listed = [...read('README.md').matchAll(/\]\(([a-z-]+\/[a-z-]+\.yaml)\)/g)].map(([, file]) => file);
    const files = ['policies', 'domains', 'overrides', 'consumers', 'incidents', 'helm'].flatMap(filesIn);
    expect(new Set(listed)).toEqual(new Set(files));
  });
});

describe('values for the chart', () => {
  it.each(filesIn('helm'))('are values that it renders: %s', async (file) => {
    const args = ['--api-versions', 'monitoring.coreos.com/v1'];
    const objects = await render(parse(read(file)) as Values, { args });
    expect(objects.filter(({ kind }) => kind === 'Deployment').length).toBeGreaterThanOrEqual(2);
  });
});
