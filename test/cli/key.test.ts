import { execFile, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';
import { listedHashOf, newKey } from '../../cli/key.ts';
import { isPossibleKey } from '../../policy/api-key.ts';

const MAIN = join(import.meta.dirname, '../../cli/main.ts');
const run = promisify(execFile);

/** `sluice key hash`, with this on its standard input. */
function hash(input: string): Promise<{ readonly code: number | null; readonly out: string; readonly error: string }> {
  return new Promise((resolve) => {
    const child = spawn(process.execPath, [MAIN, 'key', 'hash']);
    let [out, error] = ['', ''];
    child.stdout.on('data', (chunk: Buffer) => (out += chunk.toString()));
    child.stderr.on('data', (chunk: Buffer) => (error += chunk.toString()));
    child.on('close', (code) => resolve({ code, out, error }));
    child.stdin.end(input);
  });
}

describe('a new key', () => {
  it('is of our own format, with a checksum that tells a mistyped one', () => {
    const { key, hash: listed } = newKey();
    expect(key).toMatch(/^slk_[0-9A-Za-z]{49}$/);
    expect(listed).toBe(`sha256:${createHash('sha256').update(key).digest('hex')}`);
    expect(isPossibleKey(key)).toBe(true);
    for (let at = 4; at < key.length; at += 1) {
      const other = key.charAt(at) === 'x' ? 'y' : 'x';
      expect(isPossibleKey(`${key.slice(0, at)}${other}${key.slice(at + 1)}`)).toBe(false);
    }
  });

  it('is another one each time', () => {
    expect(new Set(Array.from({ length: 1_000 }, () => newKey().key)).size).toBe(1_000);
  });

  it('is printed by `sluice key new`, with the hash that `sluice key hash` prints', async () => {
    const { stdout } = await run(process.execPath, [MAIN, 'key', 'new']);
    const [, key = '', listed = ''] = /^key: {2}(slk_\w{49})\nhash: (sha256:[0-9a-f]{64})\n$/.exec(stdout) ?? [];
    expect(await hash(`${key}\n`)).toMatchObject({ code: 0, out: `${listed}\n` });
    const json = await run(process.execPath, [MAIN, 'key', 'new', '--json']);
    expect(JSON.parse(json.stdout)).toEqual({ key: expect.any(String), hash: expect.any(String) });
    expect(json.stderr).toBe('');
  });
});

describe('the hash of a key', () => {
  it.each(['', 'with space', 'x'.repeat(513)])('of a text that cannot be one is refused: %j', (text) => {
    expect(() => listedHashOf(text)).toThrow('a key has 1 to 512 characters, and no white space');
  });

  it('is of the line without its end, and nothing is an error', async () => {
    const listed = `sha256:${createHash('sha256').update('my-own-key').digest('hex')}\n`;
    expect((await hash('my-own-key\r\nmore')).out).toBe(listed);
    expect((await hash('my-own-key')).out).toBe(listed);
    const nothing = await hash('');
    expect([nothing.code, nothing.out]).toEqual([1, '']);
    expect(nothing.error).toContain('a key has 1 to 512 characters');
  });
});
