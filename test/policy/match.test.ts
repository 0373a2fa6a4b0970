import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { matches, type RequestFacts, templateProblem } from '../../policy/match.ts';
import type { Match, PathMatcher } from '../../policy/schema/match.ts';

const REQUEST: RequestFacts = { path: '/v1/users', method: 'GET', headers: new Map([['x-plan', 'gold']]) };
const matched = (route?: string): object => ({ kind: 'matched', route });
const NOT_MATCHED = expect.objectContaining({ kind: 'not-matched' });
const missing = (input: string): object => ({ kind: 'input-missing', input });

const onPath = (type: PathMatcher['type'], value: string, path: string): object =>
  matches({ paths: [{ type, value }] }, { ...REQUEST, path });

describe('a rule without a match, or with an empty one', () => {
  it.each([[undefined], [{}]])('applies to every request: %o', (match) => {
    expect(matches(match, REQUEST)).toEqual(matched());
    expect(matches(match, {})).toEqual(matched());
  });
});

describe('a path matcher', () => {
  it.each([
    ['Exact', '/v1', '/v1'],
    ['Exact', '/', '/'],
    ['Prefix', '/', '/'],
    ['Prefix', '/', '/anything/below'],
    ['Prefix', '/v1', '/v1'],
    ['Prefix', '/v1', '/v1/'],
    ['Prefix', '/v1', '/v1/users'],
    ['Prefix', '/v1/', '/v1/'],
    ['Prefix', '/v1/', '/v1/users'],
    ['Template', '/users/{id}', '/users/7'],
    ['Template', '/users/{id}', '/users/{id}'],
    ['Template', '/{a}/x/{b}', '/1/x/2'],
    ['Template', '/users/{id}/', '/users/7/'],
  ] as const)('%s %s matches %s, and its value is the route', (type, value, path) => {
    expect(onPath(type, value, path)).toEqual(matched(value));
  });

  it.each([
    ['Exact', '/v1', '/v1/'],
    ['Exact', '/v1', '/v1/users'],
    ['Exact', '/v1', '/V1'],
    ['Prefix', '/v1', '/v1beta'],
    ['Prefix', '/v1', '/v'],
    ['Prefix', '/v1', '/v2/v1'],
    ['Prefix', '/v1/', '/v1'],
    ['Template', '/users/{id}', '/users'],
    ['Template', '/users/{id}', '/users/'],
    ['Template', '/users/{id}', '/users/7/'],
    ['Template', '/users/{id}', '/users/7/posts'],
    ['Template', '/users/{id}', '/groups/7'],
    ['Template', '/{a}/x/{b}', '/1/y/2'],
  ] as const)('%s %s does not match %s', (type, value, path) => {
    expect(onPath(type, value, path)).toMatchObject(NOT_MATCHED);
  });

  it('takes braces in the path of a request literally', () => {
    expect(onPath('Template', '/users/{id}', '/{any}/7')).toMatchObject(NOT_MATCHED);
    expect(onPath('Exact', '/users', '/{any}')).toMatchObject(NOT_MATCHED);
    expect(onPath('Prefix', '/users', '/{any}/7')).toMatchObject(NOT_MATCHED);
  });

  it('matches if any of several does; the first is the route', () => {
    const paths: Match['paths'] = [
      { type: 'Exact', value: '/v2' },
      { type: 'Template', value: '/v1/{what}' },
      { type: 'Prefix', value: '/v1' },
    ];
    expect(matches({ paths }, REQUEST)).toEqual(matched('/v1/{what}'));
    expect(matches({ paths: paths.toReversed() }, REQUEST)).toEqual(matched('/v1'));
    expect(matches({ paths }, { ...REQUEST, path: '/v3' })).toMatchObject(NOT_MATCHED);
  });
});

describe('methods', () => {
  it.each([
    [['GET'], 'GET', matched()],
    [['GET'], 'HEAD', matched()],
    [['POST', 'GET'], 'HEAD', matched()],
    [['HEAD'], 'HEAD', matched()],
    [['HEAD'], 'GET', NOT_MATCHED],
    [['POST'], 'HEAD', NOT_MATCHED],
    [['POST', 'PUT'], 'PUT', matched()],
    [['POST', 'PUT'], 'DELETE', NOT_MATCHED],
    [['GET'], 'PROPFIND', NOT_MATCHED],
  ] as const)('%o against %s', (methods, method, expected) => {
    expect(matches({ methods: [...methods] }, { ...REQUEST, method })).toEqual(expected);
  });
});

describe('header conditions', () => {
  it.each([
    [{ name: 'x-plan', type: 'Exact', value: 'gold' }, matched()],
    [{ name: 'x-plan', type: 'Exact', value: 'Gold' }, NOT_MATCHED],
    [{ name: 'x-plan', type: 'Exact', value: '' }, NOT_MATCHED],
    [{ name: 'x-other', type: 'Exact', value: '' }, NOT_MATCHED],
    [{ name: 'x-plan', type: 'Present' }, matched()],
    [{ name: 'x-other', type: 'Present' }, NOT_MATCHED],
    [{ name: 'x-plan', type: 'Absent' }, NOT_MATCHED],
    [{ name: 'x-other', type: 'Absent' }, matched()],
  ] as const)('%o', (condition, expected) => {
    expect(matches({ headers: [condition] }, REQUEST)).toEqual(expected);
  });

  it('hold together, or the rule does not apply', () => {
    const gold = { name: 'x-plan', type: 'Exact', value: 'gold' } as const;
    const other = { name: 'x-other', type: 'Present' } as const;
    expect(matches({ headers: [gold, other] }, REQUEST)).toMatchObject(NOT_MATCHED);
    const both = new Map([...(REQUEST.headers ?? []), ['x-other', '']]);
    expect(matches({ headers: [gold, other] }, { ...REQUEST, headers: both })).toEqual(matched());
  });

  it('see a header that is empty as one that is there', () => {
    const headers = new Map([['x-plan', '']]);
    expect(matches({ headers: [{ name: 'x-plan', type: 'Present' }] }, { headers })).toEqual(matched());
    expect(matches({ headers: [{ name: 'x-plan', type: 'Exact', value: '' }] }, { headers })).toEqual(matched());
  });
});

const EVERYTHING: Match = {
  methods: ['GET'],
  headers: [{ name: 'x-plan', type: 'Present' }],
  paths: [{ type: 'Prefix', value: '/v1' }],
};

describe('matchers of several kinds', () => {
  it.each([
    [{}, matched('/v1')],
    [{ method: 'POST' }, NOT_MATCHED],
    [{ headers: new Map() }, NOT_MATCHED],
    [{ path: '/v2' }, NOT_MATCHED],
  ] as const)('all have to match: with %o', (change, expected) => {
    expect(matches(EVERYTHING, { ...REQUEST, ...change })).toEqual(expected);
  });
});

describe('an input that a rule matches by and the request lacks', () => {
  it.each(['method', 'headers', 'path'] as const)('is named: %s', (input) => {
    expect(matches(EVERYTHING, { ...REQUEST, [input]: undefined })).toEqual(missing(input));
  });

  it('is missing even where a header has to be absent', () => {
    expect(matches({ headers: [{ name: 'x', type: 'Absent' }] }, {})).toEqual(missing('headers'));
  });

  it.each([
    [{ method: 'POST', headers: undefined, path: undefined }],
    [{ method: undefined, headers: new Map(), path: undefined }],
    [{ method: undefined, headers: undefined, path: '/v2' }],
  ])('does not matter where what the request carries is enough to know: %o', (facts) => {
    expect(matches(EVERYTHING, facts)).toMatchObject(NOT_MATCHED);
  });

  it('is the first of several', () => {
    expect(matches(EVERYTHING, {})).toEqual(missing('method'));
    expect(matches(EVERYTHING, { method: 'GET' })).toEqual(missing('headers'));
  });
});

describe('a template', () => {
  it.each(['/{id}', '/users/{id}', '/{a}/{b}/', '/{user-id}/x/{Post_2}'])('%s is right', (template) => {
    expect(templateProblem(template)).toBeUndefined();
  });

  it('matches what its placeholders are filled with, if that is one segment that is not empty', () => {
    const filling = fc.stringMatching(/^[^/]*$/);
    fc.assert(
      fc.property(filling, filling, (one, other) => {
        const expected = one !== '' && other !== '' ? matched('/a/{b}/{c}') : NOT_MATCHED;
        expect(onPath('Template', '/a/{b}/{c}', `/a/${one}/${other}`)).toEqual(expected);
      }),
    );
  });
});
