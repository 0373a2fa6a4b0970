// Rows of the table of specs, and the rows that every field of one type has.
import type { ResourceKind } from '../../../policy/schema/kinds.ts';

type Spec = { readonly name: string; readonly kind: ResourceKind; readonly spec: unknown };

/** A spec that the API server and `validate` both accept. */
export type GoodCase = Spec & { readonly verdict: 'good' };

/** A spec that both refuse; `path` is the field that `validate` has to name. */
export type BadCase = Spec & { readonly verdict: 'bad'; readonly path: string; readonly reason: string };

export type SpecCase = GoodCase | BadCase;

export type Table = {
  readonly good: (name: string, spec: unknown) => GoodCase;
  readonly bad: (name: string, spec: unknown, path: string, reason?: string) => BadCase;
};

export function tableOf(kind: ResourceKind): Table {
  return {
    good: (name, spec) => ({ name, kind, spec, verdict: 'good' }),
    bad: (name, spec, path, reason = 'InvalidValue') => ({ name, kind, spec, verdict: 'bad', path, reason }),
  };
}

/** One field: its name in titles, its path, and the spec in which it has a value and all else is good. */
export type Field = {
  readonly name: string;
  readonly path: string;
  readonly place: (value: unknown) => unknown;
};

/** Both ends of an integer, and what is no integer. */
export function integerCases(table: Table, field: Field, { min, max }: { min: number; max: number }): SpecCase[] {
  const { name, path, place } = field;
  return [
    table.good(`${name} ${min}, the least`, place(min)),
    table.good(`${name} ${max}, the most`, place(max)),
    ...[min - 1, max + 1, min + 0.5, 1e30].map((value) => table.bad(`${name} ${value}`, place(value), path)),
    ...['10', true, [], {}].map((value) => table.bad(`${name} ${JSON.stringify(value)}`, place(value), path)),
  ];
}

/** Each value of an enum, and some that look like one. */
export function enumCases(table: Table, field: Field, values: readonly string[]): SpecCase[] {
  const { name, path, place } = field;
  const wrong = ['', 'Unknown', ` ${values[0]}`, ...values.map(swapCase), 1, true, values];
  return [
    ...values.map((value) => table.good(`${name} ${value}`, place(value))),
    ...wrong.map((value) => table.bad(`${name} ${JSON.stringify(value)}`, place(value), path)),
  ];
}

function swapCase(value: string): string {
  return value === value.toUpperCase() ? value.toLowerCase() : value.toUpperCase();
}

/** Text that a pattern or a length bounds. */
export function textCases(
  table: Table,
  { name, path, place }: Field,
  values: { readonly good: readonly string[]; readonly bad: readonly unknown[] },
): SpecCase[] {
  return [
    ...values.good.map((value) => table.good(`${name} ${shown(value)}`, place(value))),
    ...values.bad.map((value) => table.bad(`${name} ${shown(value)}`, place(value), path)),
  ];
}

function shown(value: unknown): string {
  const text = JSON.stringify(value);
  return text.length > 40 ? `${text.slice(0, 20)}... of ${text.length - 2} UTF-16 units` : text;
}

/** The least and the most items of a list, one more, one less, and what is no list. */
export function listCases(
  table: Table,
  { name, path, place }: Field,
  { min, max, item }: { min: number; max: number; item: (index: number) => unknown },
): SpecCase[] {
  const items = (count: number): unknown[] => Array.from({ length: count }, (_, index) => item(index));
  return [
    table.good(`${min} items in ${name}, the least`, place(items(min))),
    table.good(`${max} items in ${name}, the most`, place(items(max))),
    table.bad(`${max + 1} items in ${name}`, place(items(max + 1)), path),
    ...(min === 0 ? [] : [table.bad(`no items in ${name}`, place([]), path)]),
    table.bad(`an object for the list of ${name}`, place({}), path),
    table.bad(`text for the list of ${name}`, place('text'), path),
    table.bad(`null among ${name}`, place([null]), `${path}[0]`),
  ];
}

export const LABELS = {
  good: ['a', '0', 'a-b', 'a--b', '0-9', 'a'.repeat(63)],
  bad: ['', 'a'.repeat(64), 'A', '-a', 'a-', 'a.b', 'a_b', 'a b', 'a\n', 'é', '𝒶', 5, true, ['a']],
};

/** Domains, all of them of the namespace `payments`. */
export const DOMAINS = {
  good: ['payments', 'payments.eu', 'payments.eu-1.test', `payments.${'a'.repeat(244)}`],
  bad: ['', `payments.${'a'.repeat(245)}`, 'payments..eu', '.payments', 'payments.', 'Payments', 'payments_eu', 'é', 7],
};
