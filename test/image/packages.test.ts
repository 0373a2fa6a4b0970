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
    expect(reachablePackages(lock, { without: '' })).toEqual([
      'node_modules/a',
      'node_modules/a/node_modules/c',
      'node_modules/b',
      'node_modules/c',
    ]);
  });

  it('leave out one with all that only it needs', () => {
    const lock = {
      packages: {
        '': needs('big', 'a'),
        'node_modules/big': needs('shared', 'own'),
        'node_modules/own': {},
        'node_modules/shared': {},
        'node_modules/a': needs('shared'),
      },
    };
    expect(reachablePackages(lock, { without: 'big' })).toEqual(['node_modules/a', 'node_modules/shared']);
  });

  it('may lack an optional one, and no other', () => {
    const optional = { packages: { '': { optionalDependencies: { gone: '*' } } } };
    expect(reachablePackages(optional, { without: '' })).toEqual([]);
    expect(() => reachablePackages({ packages: { '': needs('gone') } }, { without: '' })).toThrow(
      'package-lock.json has no gone, which the application needs',
    );
  });

  it('are none of those that only developers need', () => {
    const lock: unknown = JSON.parse(readFileSync(join(import.meta.dirname, '../../package-lock.json'), 'utf8'));
    const paths = reachablePackages(lock, { without: '@kubernetes/client-node' });
    expect(paths).toContain('node_modules/ioredis');
    expect(paths.filter((path) => /vitest|typescript|rolldown|@kubernetes/.test(path))).toEqual([]);
  });
});
