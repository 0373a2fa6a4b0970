// Who may import whom. Run by `npm run lint`: one line for each violation, exit code 1 when there is any.
//
//   node test/lint/boundaries.ts [folder]
//
// Works on the text: there is no TypeScript compiler API to ask. tokens.ts knows what is a comment and what a string.
import { readFileSync, readdirSync } from 'node:fs';
import { join, posix } from 'node:path';
import { tokenize } from './tokens.ts';
import type { Token } from './tokens.ts';

export type Violation = { readonly file: string; readonly line: number; readonly message: string };

type Room = {
  /** Rooms of ours that it may import besides itself. */
  readonly imports: readonly string[];
  /** Packages and built-in modules that it may import; absent = all. */
  readonly packages?: readonly string[];
  /** No clock, no randomness, no process. */
  readonly pure?: true;
};

const ROOMS: Readonly<Record<string, Room>> = {
  policy: { imports: [], packages: ['zod', 'node:crypto'], pure: true },
  store: { imports: ['policy'] },
  operator: { imports: ['store', 'policy'] },
  limiter: { imports: ['store', 'policy'] },
  recorder: { imports: ['store', 'policy'] },
  client: { imports: [] },
  cli: { imports: ['policy', 'store', 'operator', 'limiter', 'recorder', 'client', 'crds', 'package.json'] },
};
const FREE = new Set(['bench', 'charts', 'crds', 'docs', 'examples', 'image', 'test']);
const DUMPING_GROUNDS = ['utils', 'helpers', 'common', 'misc'];
const IMPURE_GLOBALS = new Set([
  'process',
  'performance',
  'globalThis',
  'setTimeout',
  'setInterval',
  'setImmediate',
  'fetch',
]);
const IMPURE_MEMBERS = new Set(['Date.now', 'Math.random']);
const RANDOM_SOURCES = new Set([
  'randomBytes',
  'randomFillSync',
  'randomInt',
  'randomUUID',
  'getRandomValues',
  'webcrypto',
]);

/** Every breach of a boundary. Keys are paths from the top of the repository with `/`, values are the texts. */
export function findViolations(files: ReadonlyMap<string, string>): Violation[] {
  const found = dumpingGrounds([...files.keys()]);
  for (const [file, text] of files) {
    const top = file.split('/')[0] ?? '';
    if (!/\.[cm]?[jt]sx?$/.test(file) || !file.includes('/') || FREE.has(top)) continue;
    const room = Object.hasOwn(ROOMS, top) ? ROOMS[top] : undefined;
    if (room === undefined) {
      found.push({ file, line: 1, message: `is in ${top}/, for which test/lint/boundaries.ts has no rule` });
      continue;
    }
    const tokens = tokenize(text);
    found.push(...forbiddenImports(file, tokens, room));
    if (room.pure === true) found.push(...impurities(file, tokens));
  }
  return found;
}

function dumpingGrounds(paths: readonly string[]): Violation[] {
  const found = new Map<string, Violation>();
  for (const path of paths) {
    const folders = path.split('/').slice(0, -1);
    const at = folders.findIndex((folder) => DUMPING_GROUNDS.includes(folder.toLowerCase()));
    const folder = folders.slice(0, at + 1).join('/');
    if (at === -1 || found.has(folder)) continue;
    const message = `is in ${folder}/: a thing lives with its owner, not in ${DUMPING_GROUNDS.join(', ')}`;
    found.set(folder, { file: path, line: 1, message });
  }
  return [...found.values()];
}

// ---- imports

type Import = { readonly line: number; readonly specifier: string | undefined };

function forbiddenImports(file: string, tokens: readonly Token[], room: Room): Violation[] {
  const found: Violation[] = [];
  for (const { line, specifier } of importsOf(tokens)) {
    const rule = specifier === undefined ? 'a computed import cannot be checked' : breach(file, specifier, room);
    if (rule !== undefined) found.push({ file, line, message: `imports ${specifier ?? '(computed)'}: ${rule}` });
  }
  return found;
}

/** The rule that the import breaks, if any. */
function breach(file: string, specifier: string, room: Room): string | undefined {
  const top = file.split('/')[0] ?? '';
  if (specifier.startsWith('.')) {
    const target = posix.normalize(posix.join(posix.dirname(file), specifier)).split('/')[0] ?? '';
    if (target === top || room.imports.includes(target)) return undefined;
    return `${top}/ imports ${room.imports.length === 0 ? 'nothing' : `only ${room.imports.join(', ')}`} of ours`;
  }
  if (/^(?:[/#]|file:|data:|https?:)/.test(specifier)) return 'files are imported by relative paths';
  const name = packageName(specifier);
  if (room.packages === undefined || room.packages.includes(name)) return undefined;
  return `${top}/ imports only ${room.packages.join(', ')}`;
}

function packageName(specifier: string): string {
  return specifier
    .split('/')
    .slice(0, specifier.startsWith('@') ? 2 : 1)
    .join('/');
}

/** `import … from`, `import '…'`, `export … from`, `import('…')` and the type `import('…')`. */
function importsOf(tokens: readonly Token[]): Import[] {
  const found: Import[] = [];
  for (const [at, token] of tokens.entries()) {
    if (token.kind !== 'word' || isMember(tokens, at)) continue;
    const next = tokens[at + 1];
    if (next === undefined) continue;
    if (token.text === 'import' && next.text === '(') {
      found.push({ line: token.line, specifier: wholeArgument(tokens, at + 2) });
    } else if (token.text === 'import' && next.kind === 'string') {
      found.push({ line: token.line, specifier: next.text });
    } else if (token.text === 'import' || token.text === 'export') {
      const specifier = fromClause(tokens, at + 1);
      if (specifier !== undefined) found.push({ line: token.line, specifier });
    }
  }
  return found;
}

/** The string that is the first argument of a call, if a plain string is all that it is. */
function wholeArgument(tokens: readonly Token[], at: number): string | undefined {
  const [argument, after] = [tokens[at], tokens[at + 1]];
  return argument?.kind === 'string' && (after?.text === ')' || after?.text === ',') ? argument.text : undefined;
}

/** The module of `a, {b, c as d} from '…'`, `* as a from '…'`, `type {a} from '…'`; undefined when it is none of these. */
function fromClause(tokens: readonly Token[], start: number): string | undefined {
  let insideBraces = false;
  for (let at = start; ; at += 1) {
    const [token, next] = [tokens[at], tokens[at + 1]];
    if (token === undefined || next === undefined) return undefined;
    if (token.text === 'from' && next.kind === 'string' && !insideBraces) return next.text;
    if (token.text === '{') insideBraces = true;
    else if (token.text === '}') insideBraces = false;
    // Nothing else can stand in such a clause; `export const …` leaves here.
    else if (token.kind === 'string' ? !insideBraces : token.kind === 'sign' && !/^[,*]$/.test(token.text))
      return undefined;
  }
}

// ---- purity

function impurities(file: string, tokens: readonly Token[]): Violation[] {
  const found: Violation[] = [];
  for (const [at, token] of tokens.entries()) {
    const what = token.kind === 'word' ? impurity(tokens, at) : undefined;
    if (what !== undefined) {
      found.push({ file, line: token.line, message: `uses ${what}: policy/ has no clock, no randomness, no process` });
    }
  }
  return found;
}

function impurity(tokens: readonly Token[], at: number): string | undefined {
  const [word = '', next, afterNext] = [tokens[at]?.text, tokens[at + 1]?.text, tokens[at + 2]?.text];
  if (RANDOM_SOURCES.has(word)) return word;
  if (isMember(tokens, at)) return undefined;
  const isNew = tokens[at - 1]?.text === 'new';
  const member = `${word}.${afterNext ?? ''}`;
  if ((next === '.' || next === '?.') && IMPURE_MEMBERS.has(member)) return member;
  if (word === 'Date' && isNew && (next !== '(' || afterNext === ')')) return 'new Date()';
  if (word === 'Date' && !isNew && next === '(') return 'Date()';
  // `process: …` and `process?: …` only name a field.
  const isField = next === ':' || (next === '?' && afterNext === ':');
  return IMPURE_GLOBALS.has(word) && !isField ? word : undefined;
}

/** Whether the token is a name after a dot, which is whatever its owner says. */
function isMember(tokens: readonly Token[], at: number): boolean {
  const before = tokens[at - 1]?.text;
  return before === '.' || before === '?.';
}

// ---- the command

const SKIPPED = new Set(['node_modules', 'dist', 'coverage']);

/** The texts of all source files below a folder, keyed as findViolations wants them. */
export function readSources(root: string, folder = ''): Map<string, string> {
  const files = new Map<string, string>();
  for (const entry of readdirSync(join(root, folder), { withFileTypes: true })) {
    if (entry.name.startsWith('.') || SKIPPED.has(entry.name)) continue;
    const path = posix.join(folder, entry.name);
    if (entry.isDirectory()) for (const [file, text] of readSources(root, path)) files.set(file, text);
    else if (/\.(?:[cm]?[jt]sx?|lua)$/.test(entry.name)) files.set(path, readFileSync(join(root, path), 'utf8'));
  }
  return files;
}

if (import.meta.main) {
  const violations = findViolations(readSources(process.argv[2] ?? join(import.meta.dirname, '..', '..')));
  for (const { file, line, message } of violations) console.error(`${file}:${line} ${message}`);
  process.exitCode = violations.length > 0 ? 1 : 0;
}
