import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { normalisePath } from '../../policy/path.ts';

describe('a path', () => {
  it.each([
    ['/', '/'],
    ['/v1/users', '/v1/users'],
    ['/v1/users/', '/v1/users/'],
    ['/V1/Users', '/V1/Users'],
    ["/~a_b-c.d!$&'()*+,;=:@", "/~a_b-c.d!$&'()*+,;=:@"],
    ['/...', '/...'],
    ['/.well-known/x', '/.well-known/x'],
    ['/a./b', '/a./b'],
    ['/{id}', '/{id}'],
    ['/é', '/é'],
  ])('%s is its own normal form', (path) => {
    expect(normalisePath(path)).toBe(path);
  });

  it.each([
    ['/%61%62%63', '/abc'],
    ['/%41%7a%30%39', '/Az09'],
    ['/%2D%2e%5F%7E', '/-._~'],
    ['/a%2fb', '/a%2Fb'],
    ['/a%2Fb', '/a%2Fb'],
    ['/%c3%a9', '/%C3%A9'],
    ['/%3f%23', '/%3F%23'],
    ['/%2561', '/%2561'],
    ['/%20', '/%20'],
    ['/%7Bid%7D', '/%7Bid%7D'],
  ])('%s has its unreserved characters decoded and its other escapes in upper case: %s', (path, normal) => {
    expect(normalisePath(path)).toBe(normal);
  });

  it.each([
    ['//', '/'],
    ['//a', '/a'],
    ['/a//b', '/a/b'],
    ['/a///b//', '/a/b/'],
  ])('%s has its repeated slashes collapsed: %s', (path, normal) => {
    expect(normalisePath(path)).toBe(normal);
  });

  it.each([
    ['/.', '/'],
    ['/..', '/'],
    ['/../../a', '/a'],
    ['/a/.', '/a/'],
    ['/a/..', '/'],
    ['/a/b/..', '/a/'],
    ['/a/b/../', '/a/'],
    ['/a/./b', '/a/b'],
    ['/a/b/../../c', '/c'],
    ['/a/%2e%2E/b', '/b'],
    ['/a/.%2e/b', '/b'],
    ['/a/%2e/b', '/a/b'],
    ['/public/..//admin', '/admin'],
  ])('%s has its dot segments resolved: %s', (path, normal) => {
    expect(normalisePath(path)).toBe(normal);
  });

  it.each([
    ['/a?b=/../c', '/a'],
    ['/a#b', '/a'],
    ['/a?b#c', '/a'],
    ['/a#b?c', '/a'],
    ['/a?%', '/a'],
    ['/?a', '/'],
  ])('%s loses its query and fragment: %s', (path, normal) => {
    expect(normalisePath(path)).toBe(normal);
  });

  it.each([
    '',
    'a',
    'a/b',
    '*',
    '?a',
    'http://example.test/a',
    '/%',
    '/a%',
    '/a%2',
    '/a%zz',
    '/a%%61',
    '/%0g',
    '/%00',
    '/a/../%00',
    '/\u0000',
    '/a\nb',
    '/a\tb',
    '/\u001f',
    '/\u007f',
  ])('%j is none', (text) => {
    expect(normalisePath(text)).toBeUndefined();
  });

  it('has at most 8192 characters', () => {
    const longest = `/${'a'.repeat(8191)}`;
    expect(normalisePath(longest)).toBe(longest);
    expect(normalisePath(`${longest}a`)).toBeUndefined();
  });
});

const pieces = fc.constantFrom(
  '/',
  '//',
  '.',
  '..',
  'a',
  'B',
  '%61',
  '%2e',
  '%2F',
  '%2f',
  '%25',
  '%',
  '{id}',
  'é',
  '?',
  '#',
);
const paths = fc.array(pieces, { maxLength: 12 }).map((parts) => `/${parts.join('')}`);

describe('the normal form of any path', () => {
  it('is its own normal form', () => {
    fc.assert(
      fc.property(
        fc.oneof(
          paths,
          fc.string({ unit: 'binary' }).map((text) => `/${text}`),
        ),
        (path) => {
          const normal = normalisePath(path);
          expect(normal === undefined ? undefined : normalisePath(normal)).toBe(normal);
        },
      ),
    );
  });

  it('begins with a slash and has no empty segment, no dot segment, no query and no escape of an unreserved character', () => {
    fc.assert(
      fc.property(paths, (path) => {
        const normal = normalisePath(path) ?? '/';
        expect(normal).toMatch(/^\//);
        expect(normal).not.toMatch(/\/\/|\/\.\.?(\/|$)|[?#]|%[0-9A-F]?[a-f]|%61|%2E/);
      }),
    );
  });

  it('is the same however its characters are escaped', () => {
    const escaped = (character: string): string => `%${character.charCodeAt(0).toString(16).padStart(2, '0')}`;
    const unreserved = fc.constantFrom(...'abcXYZ019-._~'.split(''));
    const spelled = fc.array(fc.tuple(unreserved, fc.boolean()), { maxLength: 20 });
    fc.assert(
      fc.property(spelled, (characters) => {
        const plain = characters.map(([character]) => character).join('');
        const mixed = characters.map(([character, isEscaped]) => (isEscaped ? escaped(character) : character)).join('');
        expect(normalisePath(`/${mixed}`)).toBe(normalisePath(`/${plain}`));
      }),
    );
  });
});
