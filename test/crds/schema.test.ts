import { describe, expect, it } from 'vitest';
import { allPlaces, type Place, type Schema } from './definitions.ts';

const places = allPlaces();

describe('the custom resource definitions', () => {
  it('are read whole', () => {
    const paths = places.map(({ path }) => path);
    expect(paths).toContain('RateLimitPolicy.spec.rules[].match.headers[].value');
    expect(paths).toContain('SystemHealth.spec.scope.domains[]');
    expect(paths).toContain('Consumer.status.conditions[].lastTransitionTime');
  });

  it('describe every field: kubectl explain is the manual', () => {
    const isField = ({ path }: Place): boolean => !path.endsWith('[]');
    const silent = places.filter((place) => isField(place) && (place.schema.description ?? '') === '');
    expect(silent.map(({ path }) => path)).toEqual([]);
  });

  it('bound every list, text and number', () => {
    expect(places.filter(({ schema }) => !isBounded(schema)).map(({ path }) => path)).toEqual([]);
  });

  it('have no floats, which do not add up', () => {
    expect(places.filter(({ schema }) => schema.type === 'number').map(({ path }) => path)).toEqual([]);
  });

  it('say of every list how server-side apply merges it', () => {
    const lists = places.filter(({ schema }) => schema.type === 'array');
    const merges = new Set(['map', 'set', 'atomic']);
    const silent = lists.filter(({ schema }) => !merges.has(String(schema['x-kubernetes-list-type'])));
    expect(silent.map(({ path }) => path)).toEqual([]);
  });

  it('have no default inside a spec: one that changes would change what stored objects mean', () => {
    const inSpec = places.filter(({ path }) => path.includes('.spec'));
    expect(inSpec.filter(({ schema }) => schema['default'] !== undefined).map(({ path }) => path)).toEqual([]);
  });
});

function isBounded(schema: Schema): boolean {
  switch (schema.type) {
    case 'array':
      return schema.maxItems !== undefined;
    case 'integer':
    case 'number':
      return schema.minimum !== undefined && schema.maximum !== undefined;
    case 'string':
      return schema.maxLength !== undefined || schema.enum !== undefined || isBoundedPattern(schema.pattern);
    case 'boolean':
      return true;
    case 'object':
      return schema.properties !== undefined || schema['maxProperties'] !== undefined;
    default:
      return false;
  }
}

/** A pattern bounds a text if it speaks of the whole of it and repeats nothing without end. */
function isBoundedPattern(pattern = ''): boolean {
  return /^\^.*\$$/.test(pattern) && !/[*+]|\{\d+,\}/.test(pattern);
}
