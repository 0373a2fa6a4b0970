// Good specs of the table with one part replaced by something else: nearly good, where mistakes are.
import fc from 'fast-check';
import type { ResourceKind } from '../../policy/schema/kinds.ts';
import { goodCases, specCases } from './cases.ts';

type Path = readonly (string | number)[];
type DamagedSpec = { readonly kind: ResourceKind; readonly spec: unknown };

const places = goodCases.flatMap(({ kind, spec }) => pathsIn(spec).map((path) => ({ kind, spec, path })));

/** What any spec of the table has anywhere: most of it is good in one place and bad in another. */
const parts = specCases.flatMap(({ spec }) => pathsIn(spec).map((path) => partAt(spec, path)));

export const damagedSpecs: fc.Arbitrary<DamagedSpec> = fc
  .tuple(fc.constantFrom(...places), fc.oneof(fc.constantFrom(...parts), fc.jsonValue()))
  .map(([{ kind, spec, path }, value]) => ({ kind, spec: replaced(spec, path, value) }));

/** The path of every part of a value; of a list, that of the first item only. */
function pathsIn(value: unknown): Path[] {
  const entries: [string | number, unknown][] = Array.isArray(value)
    ? value.slice(0, 1).map((item, index) => [index, item])
    : Object.entries(isObject(value) ? value : {});
  return [[], ...entries.flatMap(([key, inner]) => pathsIn(inner).map((path) => [key, ...path]))];
}

function partAt(value: unknown, path: Path): unknown {
  return path.reduce((part, key) => (isObject(part) ? Reflect.get(part, key) : undefined), value);
}

function replaced(value: unknown, [key, ...rest]: Path, replacement: unknown): unknown {
  if (key === undefined) return replacement;
  const inner = replaced(partAt(value, [key]), rest, replacement);
  if (Array.isArray(value)) return value.map((item: unknown, index) => (index === key ? inner : item));
  return isObject(value) ? { ...value, [key]: inner } : value;
}

function isObject(value: unknown): value is object {
  return typeof value === 'object' && value !== null;
}
