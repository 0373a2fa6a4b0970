import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { reachablePackages } from '../../image/packages.ts';

const needs = (...names: string[]) => ({ dependencies: Object.fromEntries(names.map((name) => [name, '*'])) });

describe('the packages that go into the image', () => {
  it('are those that are reached from the application, each at the place where Node finds it', () => {
    const lock = {
      packages: {
        '': { ...needs('a', 'b'), devDependencies: { d: '*' } },
        'node_modules/a': needs('c'),
        'node_modules/a/node_modules/c': needs('b'),
        'node_modules/b': needs('c'),
        'node_modules/c': {},
        'node_modules/d': needs('e'),
        'node_modules/e': {},
      },
    };
    expect(reachablePackages(lock)).toEqual([
      'node_modules/a',
      'node_modules/a/node_modules/c',
      'node_modules/b',
      'node_modules/c',
    ]);
  });

  it('are, for some packages alone, these with what they need, peers that are there among it', () => {
    const lock = {
      packages: {
        '': needs('a', 'b'),
        'node_modules/a': { ...needs('c'), peerDependencies: { b: '*', absent: '*' } },
        'node_modules/b': needs('d'),
        'node_modules/c': {},
        'node_modules/d': {},
        'node_modules/e': {},
      },
    };
    expect(reachablePackages(lock, { of: ['c'] })).toEqual(['node_modules/c']);
    expect(reachablePackages(lock, { of: ['a'] })).toEqual([
      'node_modules/a',
      'node_modules/b',
      'node_modules/c',
      'node_modules/d',
    ]);
  });

  it('may lack an optional one, and no other', () => {
    const optional = { packages: { '': { optionalDependencies: { gone: '*' } } } };
    expect(reachablePackages(optional)).toEqual([]);
    expect(() => reachablePackages({ packages: { '': needs('gone') } })).toThrow(
      'package-lock.json has no gone, which the application needs',
    );
  });

  it('are none of those that only developers need', () => {
    const lock: unknown = JSON.parse(readFileSync(join(import.meta.dirname, '../../package-lock.json'), 'utf8'));
    const paths = reachablePackages(lock);
    expect(paths).toContain('node_modules/ioredis');
    expect(paths.filter((path) => /vitest|typescript|rolldown/.test(path))).toEqual([]);
  });
});
