import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { readScript } from '../../store/script.ts';

const FOLDER = join(import.meta.dirname, '../../lua');

type ScriptFile = { readonly name: string; readonly header: readonly string[]; readonly code: string };

/** The comment at the head of a script, and what it executes without comments. */
function readScriptFile(name: string): ScriptFile {
  const [first = '', ...lines] = readFileSync(join(FOLDER, name), 'utf8').split('\n');
  const end = lines.findIndex((line) => !line.startsWith('--'));
  // With its fragments: they read arguments too.
  const whole = first.startsWith('#!lua') ? readScript(name.replace(/\.lua$/, '')).split('\n') : [first, ...lines];
  const code = whole.filter((line) => !line.startsWith('--')).join('\n');
  return { name, header: lines.slice(0, end), code };
}

const files = readdirSync(FOLDER)
  .filter((name) => name.endsWith('.lua'))
  .map(readScriptFile);
const scripts = files.filter(({ code }) => code.startsWith('#!lua'));
const fragments = files.filter(({ code }) => !code.startsWith('#!lua'));

type Documented = { readonly indices: ReadonlySet<number>; readonly goesOn: boolean };

/** What a header says of KEYS or ARGV: `[2]`, `[1..n]` or `[3..]`; "then for each" continues the list as well. */
function documented(array: string, header: readonly string[]): Documented {
  const ranges = header.flatMap((line) => {
    const match = new RegExp(`^-- ${array}\\[(\\d+)(\\.\\.n?)?\\] +\\S`).exec(line);
    return match === null ? [] : [{ index: Number(match[1]), goesOn: match[2] !== undefined }];
  });
  const goesOn = ranges.some((range) => range.goesOn) || header.some((line) => line.startsWith('-- then for each '));
  return { indices: new Set(ranges.map(({ index }) => index)), goesOn };
}

function used(array: string, code: string): { readonly literal: ReadonlySet<number>; readonly computed: boolean } {
  const indices = [...code.matchAll(new RegExp(`${array}\\[([^\\]]+)\\]`, 'g'))].map(([, index = '']) => index);
  const isLiteral = (index: string): boolean => /^\d+$/.test(index);
  return {
    literal: new Set(indices.filter(isLiteral).map(Number)),
    computed: indices.some((index) => !isLiteral(index)),
  };
}

describe.each(scripts)('the header of $name', ({ name, header, code }) => {
  it('begins with its own name and what it is for', () => {
    expect(header[0]).toMatch(new RegExp(`^-- ${name}: \\S.*`));
  });

  it.each(['KEYS', 'ARGV'])('documents every index of %s that is used, and none that is not', (array) => {
    const { indices, goesOn } = documented(array, header);
    const { literal, computed } = used(array, code);
    expect([...indices]).toEqual([...indices].map((_, i) => i + 1));
    expect([...literal].filter((index) => !indices.has(index) && !goesOn)).toEqual([]);
    expect(computed && !goesOn).toBe(false);
    expect([...indices].filter((index) => !literal.has(index) && !computed)).toEqual([]);
  });

  it('says what the reply is', () => {
    expect(header.filter((line) => /^-- Reply +\S/.test(line))).toHaveLength(1);
  });

  it('has every reply code that is returned', () => {
    const returned = [...code.matchAll(/return \{ (\d+),/g)].map(([, digits]) => digits);
    expect(returned.filter((digit) => !header.some((line) => line.startsWith(`--   ${digit} `)))).toEqual([]);
  });
});

describe('the scripts', () => {
  it('are all there: a file without the first line #!lua is a fragment of one that has it', () => {
    expect(scripts.length).toBeGreaterThan(5);
    const included = scripts.flatMap(({ name }) => {
      const text = readFileSync(join(FOLDER, name), 'utf8');
      return [...text.matchAll(/^--@include (\S+)$/gm)].map(([, file]) => file);
    });
    expect(new Set(included)).toEqual(new Set(fragments.map(({ name }) => name)));
  });

  it('read the clock at one place at most', () => {
    for (const { code } of files) expect(code.split("'TIME'").length).toBeLessThanOrEqual(2);
  });
});
