import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { findViolations, readSources } from './boundaries.ts';

const COMMAND = join(import.meta.dirname, 'boundaries.ts');
const ROOT = join(import.meta.dirname, '..', '..');

/** `line message` for each violation of one file. */
const violations = (file: string, text: string): string[] =>
  findViolations(new Map([[file, text]])).map(({ line, message }) => `${line} ${message}`);

describe('allowed', () => {
  it.each([
    ['policy/match.ts', `import { z } from 'zod';`],
    ['policy/match.ts', `import * as z from 'zod/v4';`],
    ['policy/hash.ts', `import { createHash } from 'node:crypto';`],
    ['policy/schema/tier.ts', `import { limit } from '../limit.ts';\nexport * from './rule.ts';`],
    ['store/keys.ts', `import { Redis } from 'ioredis';\nimport { a } from '../policy/hash.ts';`],
    ['operator/publish.ts', `import type { A } from '../store/a.ts';\nimport { b } from '../policy/b.ts';`],
    ['limiter/decide.ts', `import { connect } from 'node:net';\nimport { a } from '../store/a.ts';`],
    ['recorder/write.ts', `import { a } from '../store/a.ts';`],
    ['client/express.ts', `import express from 'express';\nimport { b } from './b.ts';`],
    ['cli/main.ts', `import { a } from '../operator/a.ts';\nawait import('../limiter/b.ts');`],
    ['cli/main.ts', `import meta from '../package.json' with { type: 'json' };`],
    ['bench/run.ts', `import { a } from '../limiter/a.ts';\nimport { b } from '../test/b.ts';`],
    ['test/a.test.ts', `import { a } from '../operator/a.ts';`],
    ['crds/generate.ts', `import { a } from '../policy/a.ts';`],
    ['vitest.config.ts', `import { defineConfig } from 'vitest/config';`],
  ])('%s: %s', (file, text) => {
    expect(violations(file, text)).toEqual([]);
  });
});

describe('refused imports', () => {
  it.each([
    ['policy/a.ts', `import { x } from '../store/x.ts';`, '1 imports ../store/x.ts: policy/ imports nothing of ours'],
    ['policy/a.ts', `import { x } from 'ioredis';`, '1 imports ioredis: policy/ imports only zod, node:crypto'],
    ['policy/a.ts', `import { x } from 'zodiac';`, '1 imports zodiac: policy/ imports only zod, node:crypto'],
    ['policy/a.ts', `import { readFile } from 'fs';`, '1 imports fs: policy/ imports only zod, node:crypto'],
    [
      'policy/a.ts',
      `import type { Redis } from 'ioredis';`,
      '1 imports ioredis: policy/ imports only zod, node:crypto',
    ],
    ['policy/schema/a.ts', `import '../../lua/a.ts';`, '1 imports ../../lua/a.ts: policy/ imports nothing of ours'],
    [
      'store/a.ts',
      `import x, { type Y } from '../limiter/y.ts';`,
      '1 imports ../limiter/y.ts: store/ imports only policy of ours',
    ],
    ['store/a.ts', `import x from '../package.json';`, '1 imports ../package.json: store/ imports only policy of ours'],
    [
      'operator/a.ts',
      `export { x } from '../limiter/x.ts';`,
      '1 imports ../limiter/x.ts: operator/ imports only store, policy of ours',
    ],
    [
      'operator/a.ts',
      `export * from '../limiter/x.ts';`,
      '1 imports ../limiter/x.ts: operator/ imports only store, policy of ours',
    ],
    [
      'operator/a.ts',
      `export type { X } from '../cli/x.ts';`,
      '1 imports ../cli/x.ts: operator/ imports only store, policy of ours',
    ],
    [
      'limiter/a.ts',
      `await import('../operator/x.ts');`,
      '1 imports ../operator/x.ts: limiter/ imports only store, policy of ours',
    ],
    [
      'limiter/a.ts',
      'await import(`../operator/x.ts`);',
      '1 imports ../operator/x.ts: limiter/ imports only store, policy of ours',
    ],
    [
      'limiter/a.ts',
      `type X = import("../operator/x.ts").X;`,
      '1 imports ../operator/x.ts: limiter/ imports only store, policy of ours',
    ],
    ['limiter/a.ts', `await import(name);`, '1 imports (computed): a computed import cannot be checked'],
    ['limiter/a.ts', `await import('../store/' + name);`, '1 imports (computed): a computed import cannot be checked'],
    [
      'recorder/a.ts',
      `import '../limiter/x.ts';`,
      '1 imports ../limiter/x.ts: recorder/ imports only store, policy of ours',
    ],
    [
      'client/a.ts',
      `import * as p from '../policy/p.ts';`,
      '1 imports ../policy/p.ts: client/ imports nothing of ours',
    ],
    [
      'client/a.ts',
      `import '../../elsewhere/x.ts';`,
      '1 imports ../../elsewhere/x.ts: client/ imports nothing of ours',
    ],
    ['client/a.ts', `import '/etc/x.ts';`, '1 imports /etc/x.ts: files are imported by relative paths'],
    ['client/a.ts', `import 'file:///etc/x.ts';`, '1 imports file:///etc/x.ts: files are imported by relative paths'],
    ['client/a.ts', `import '#policy';`, '1 imports #policy: files are imported by relative paths'],
  ])('%s: %s', (file, text, expected) => {
    expect(violations(file, text)).toEqual([expected]);
  });

  it.each([['test'], ['bench']])('cli/ does not import %s/', (room) => {
    expect(violations('cli/main.ts', `import '../${room}/a.ts';`)).toEqual([
      expect.stringContaining(`imports ../${room}/a.ts: cli/ imports only`),
    ]);
  });

  it('are found on the line where they begin, however they are laid out', () => {
    const text = `// first\nimport {\n  a, // '../b.ts'\n  type B as C,\n}\n  from\n  "../limiter/a.ts"\n\nexport const from = 1;\nimport '../cli/b.ts';`;
    expect(violations('store/a.ts', text)).toEqual([
      '2 imports ../limiter/a.ts: store/ imports only policy of ours',
      '10 imports ../cli/b.ts: store/ imports only policy of ours',
    ]);
  });
});

describe('what only looks like an import', () => {
  it.each([
    [`// import '../limiter/a.ts';`],
    [`/* import '../limiter/a.ts';\n import('../limiter/a.ts') */`],
    [`const a = "import '../limiter/a.ts'";`],
    [`const a = 'it\\'s'; // import '../limiter/a.ts'`],
    ["const a = `\nimport '../limiter/a.ts';\n`;"],
    ["const a = `${{ b: `x${c}` }.b}\nimport '../limiter/a.ts';\n`;"],
    [`const a = /['"] import '..\\/limiter\\/a.ts'/u;`],
    [`const a = b.import('../limiter/a.ts');`],
    [`const a = import.meta.resolve('../limiter/a.ts');`],
    [`export const from = '../limiter/a.ts';`],
    [`export default from; const a = '../limiter/a.ts';`],
  ])('%s', (text) => {
    expect(violations('store/a.ts', text)).toEqual([]);
  });
});

describe('what hides no import that follows', () => {
  it.each([
    [`const a = b / c; // "`],
    [`const a = (b) / 2 + "/";`],
    ["const a = b / c + '/`';"],
    [`const a = /["'\`]/;`],
    [`const a = [/[/"]/g, /\\//];`],
    ['const a = /[/`]/;'],
    ["const a = '\\'/*\\'';"],
    ["const a = `${b}'`;"],
    ["const a = `${/`/.test(b) ? `}` : '}'}`;"],
    ['const a = `${{ b: 1 }.b + /`/}`;'],
    ["const a = `\\`${'`'}`;"],
    ['const a = `/* \\``;'],
    [`const a = '\\\\';`],
    [`#!/usr/bin/env node`],
  ])('%s', (text) => {
    expect(violations('store/a.ts', `${text}\nimport '../cli/a.ts';`)).toEqual([
      '2 imports ../cli/a.ts: store/ imports only policy of ours',
    ]);
  });
});

describe('policy/ is pure', () => {
  it.each([
    [`const a = Date.now();`, 'Date.now'],
    [`const a = Date\n  .now;`, 'Date.now'],
    [`const a = new Date();`, 'new Date()'],
    [`const a = new Date;`, 'new Date()'],
    [`const a = Date();`, 'Date()'],
    [`const a = Math.random();`, 'Math.random'],
    [`setTimeout(a, 1);`, 'setTimeout'],
    [`setInterval(a, 1);`, 'setInterval'],
    [`setImmediate(a);`, 'setImmediate'],
    [`const a = process.env.A;`, 'process'],
    [`const { env } = process;`, 'process'],
    ['const a = `${process.pid}`;', 'process'],
    [`const a = performance.now();`, 'performance'],
    [`const a = globalThis.process;`, 'globalThis'],
    [`await fetch(a);`, 'fetch'],
    [`import { randomUUID } from 'node:crypto';`, 'randomUUID'],
    [`const a = crypto.getRandomValues(b);`, 'getRandomValues'],
  ])('refuses %s', (text, what) => {
    expect(violations('policy/a.ts', text)).toEqual([
      `1 uses ${what}: policy/ has no clock, no randomness, no process`,
    ]);
  });

  it.each([
    [`const a = new Date(micros / 1000).toISOString();`],
    [`const a = Math.floor(b);`],
    [`type A = { readonly process: string; performance?: number };`],
    [`const a = b.process(c?.performance);`],
    [`const a = 'process'; // Date.now()`],
    [`function f(at: Date): Date { return at; }`],
  ])('accepts %s', (text) => {
    expect(violations('policy/a.ts', text)).toEqual([]);
  });

  it('while other rooms may use the clock', () => {
    expect(violations('store/a.ts', `const a = Date.now() + Math.random();`)).toEqual([]);
  });
});

describe('folders', () => {
  it.each([['utils'], ['helpers'], ['common'], ['misc'], ['Utils']])('%s is refused, once, anywhere', (folder) => {
    const files = new Map([
      [`test/redis/${folder}/a.ts`, ''],
      [`test/redis/${folder}/deep/b.ts`, ''],
    ]);
    expect(findViolations(files)).toEqual([
      { file: `test/redis/${folder}/a.ts`, line: 1, message: expect.stringContaining(`is in test/redis/${folder}/:`) },
    ]);
  });

  it('may contain files of such a name', () => {
    expect(violations('policy/common.ts', '')).toEqual([]);
  });

  it('that have no rule are refused, so that a new room cannot escape the rules', () => {
    expect(violations('dashboard/a.ts', '')).toEqual([expect.stringContaining('1 is in dashboard/, for which')]);
    expect(violations('constructor/a.ts', '')).toEqual([expect.stringContaining('1 is in constructor/, for which')]);
  });
});

describe('the command', () => {
  let root: string;
  beforeEach(async () => {
    root = await mkdtemp(join(tmpdir(), 'sluice-boundaries-'));
  });
  afterEach(() => rm(root, { recursive: true }));

  const write = async (file: string, text: string): Promise<void> => {
    await mkdir(dirname(join(root, file)), { recursive: true });
    await writeFile(join(root, file), text);
  };
  const run = (): Promise<{ code: number; stderr: string }> =>
    new Promise((resolve) => {
      execFile(process.execPath, [COMMAND, root], (error, _stdout, stderr) =>
        resolve({ code: typeof error?.code === 'number' ? error.code : 0, stderr }),
      );
    });

  it('prints a line for each violation and exits 1', async () => {
    await write('policy/a.ts', `import '../store/b.ts';\nDate.now();\n`);
    await write('store/helpers/b.ts', '');
    const { code, stderr } = await run();
    expect(code).toBe(1);
    expect(stderr.trim().split('\n').toSorted()).toEqual([
      'policy/a.ts:1 imports ../store/b.ts: policy/ imports nothing of ours',
      'policy/a.ts:2 uses Date.now: policy/ has no clock, no randomness, no process',
      expect.stringMatching(/^store\/helpers\/b\.ts:1 is in store\/helpers\/: /),
    ]);
  });

  it('is silent and exits 0 when all is well, whatever is installed or built', async () => {
    await write('policy/a.ts', `export const a = 1;\n`);
    await write('node_modules/utils/a.js', '');
    await write('dist/policy/a.js', `Date.now();`);
    await write('.cache/common/a.ts', '');
    expect(await run()).toEqual({ code: 0, stderr: '' });
  });

  it('finds the sources of this repository', () => {
    expect([...readSources(ROOT).keys()]).toEqual(
      expect.arrayContaining(['test/lint/boundaries.ts', 'cli/dev/find-redis.ts']),
    );
  });
});
