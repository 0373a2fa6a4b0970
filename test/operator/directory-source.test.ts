import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { DirectorySource } from '../../operator/directory/directory-source.ts';
import { readYaml } from '../../operator/directory/read-yaml.ts';
import { eventually } from '../harness/eventually.ts';

const policy = (name: string, requests: unknown = 5): string => `
apiVersion: sluice.dev/v1alpha1
kind: RateLimitPolicy
metadata: { name: ${name}, namespace: shop }
spec:
  rules:
    - name: all
      countBy: [consumer]
      limits:
        - windowSeconds: 60
          requests: ${String(requests)}
`;

describe('a file of YAML', () => {
  it('holds several objects, each with the places of its fields', () => {
    const { resources, problems } = readYaml('f.yaml', `${policy('one')}---${policy('two')}---\n`);
    expect(problems).toEqual([]);
    expect(resources.map(({ resource }) => resource.metadata.name)).toEqual(['one', 'two']);
    expect(resources[0]?.placeOf('spec.rules[0].limits[0].requests')).toEqual({ line: 11, column: 11 });
    expect(resources[1]?.placeOf('spec.rules[0].limits[0].requests')).toEqual({ line: 22, column: 11 });
  });

  it('gives the place of what a missing field would be part of', () => {
    const { resources } = readYaml('f.yaml', policy('one'));
    expect(resources[0]?.placeOf('spec.rules[0].algorithm')).toEqual({ line: 7, column: 7 });
    expect(resources[0]?.placeOf('spec.tiers[3].name')).toEqual({ line: 5, column: 1 });
  });

  it.each([
    ['broken syntax', 'a: [', 1],
    ['a duplicate key', 'a: 1\na: 2', 2],
    ['another kind', 'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}', 1],
    ['no kind', 'spec: {}', 1],
    ['a name that is none', 'apiVersion: sluice.dev/v1alpha1\nkind: Consumer\nmetadata: {name: "A B"}\nspec: {}', 3],
    [
      'a namespace that is none',
      'apiVersion: sluice.dev/v1alpha1\nkind: Consumer\nmetadata: {name: a, namespace: my_team}\nspec: {}',
      3,
    ],
    ['an alias', 'a: &x 1\nb: *x', 1],
  ])('is refused with its line for %s', (_what, text, line) => {
    const { resources, problems } = readYaml('f.yaml', text);
    expect(resources).toEqual([]);
    expect(problems).toHaveLength(1);
    expect(problems[0]).toMatchObject({ file: 'f.yaml', place: { line } });
  });

  it('keeps the objects beside a broken one', () => {
    const { resources, problems } = readYaml('f.yaml', `${policy('one')}---\na: [\n`);
    expect(resources).toHaveLength(1);
    expect(problems).toHaveLength(1);
  });
});

describe('a directory of resources', () => {
  let folder: string;
  let source: DirectorySource;
  let fileProblems: string[];
  let changes: number;

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'sluice-directory-'));
    fileProblems = [];
    changes = 0;
    source = new DirectorySource(folder, {
      onFileProblems: (problems) =>
        (fileProblems = problems.map(({ file, message }) => `${basename(file)}: ${message}`)),
      onStatus: () => undefined,
    });
  });
  afterEach(async () => {
    await source.stop();
    rmSync(folder, { recursive: true });
  });

  const write = (name: string, text: string): void => writeFileSync(join(folder, name), text);
  const start = (): void => source.start(() => (changes += 1));
  const generations = (): Record<string, number> =>
    Object.fromEntries(source.list('RateLimitPolicy').map(({ metadata }) => [metadata.name, metadata.generation]));

  it('is read completely before it counts as synced', () => {
    write('a.yaml', policy('one'));
    write('b.yml', policy('two'));
    write('notes.txt', 'nothing');
    expect(source.hasSynced()).toBe(false);
    start();
    expect(source.hasSynced()).toBe(true);
    expect(generations()).toEqual({ one: 1, two: 1 });
    expect(changes).toBe(1);
  });

  it('counts edits of a spec as generations, and comments as none', async () => {
    write('a.yaml', policy('one'));
    start();
    write('a.yaml', policy('one', 6));
    await eventually(() => expect(generations()).toEqual({ one: 2 }));
    const before = changes;
    write('a.yaml', `# a comment${policy('one', 6)}`);
    await eventually(() => expect(changes).toBeGreaterThan(before));
    expect(generations()).toEqual({ one: 2 });
  });

  it('keeps what a file held while the file cannot be read, and drops what was removed', async () => {
    write('a.yaml', `${policy('one')}---${policy('two')}`);
    write('b.yaml', policy('three'));
    start();
    write('a.yaml', `${policy('one', 7)}---\nbroken: [`);
    await eventually(() => expect(generations()).toEqual({ one: 2, two: 1, three: 1 }));
    expect(fileProblems).toHaveLength(1);
    write('a.yaml', policy('one', 7));
    await eventually(() => expect(generations()).toEqual({ one: 2, three: 1 }));
    expect(fileProblems).toEqual([]);
  });

  it('does not take an object that is made anew for the one that was removed', async () => {
    write('a.yaml', `${policy('one')}---${policy('two')}`);
    start();
    write('a.yaml', policy('two'));
    await eventually(() => expect(generations()).toEqual({ two: 1 }));
    write('a.yaml', `${policy('one', 7)}---${policy('two')}`);
    await eventually(() => expect(generations()).toEqual({ one: 2, two: 1 }));
  });

  it('outlives its directory, and what it held stays in force', async () => {
    write('a.yaml', policy('one'));
    start();
    rmSync(folder, { recursive: true });
    await eventually(() => expect(fileProblems).toHaveLength(1));
    expect(generations()).toEqual({ one: 1 });
    mkdirSync(folder);
    mkdirSync(join(folder, 'folder.yaml'));
    write('a.yaml', policy('one', 9));
    await eventually(() => expect(generations()).toEqual({ one: 2 }));
    expect(fileProblems).toEqual([]);
  });

  it('says when two files define one object, and takes the first', () => {
    write('a.yaml', policy('one', 1));
    write('b.yaml', policy('one', 2));
    start();
    expect(source.list('RateLimitPolicy')).toHaveLength(1);
    expect(fileProblems).toEqual([
      expect.stringMatching(/^b\.yaml: RateLimitPolicy\/shop\/one is defined in .*a\.yaml already$/),
    ]);
  });
});
