import { z } from 'zod';

/** A rule over several fields: CEL for the API server, a predicate for `validate`. Both must say the same. */
export type CrossFieldRule<T> = {
  /** CEL; `self` is the value that carries the rule. Stays inside the cost budget of the API server. */
  readonly cel: string;
  readonly holds: (value: T) => boolean;
  /** CamelCase, stable: part of the API. */
  readonly reason: string;
  /** One sentence: what is allowed. */
  readonly message: string;
  /** Where the problem is reported, below the value. */
  readonly path?: readonly (string | number)[];
};

/** Attaches rules to a schema: checked by `safeParse`, and written into the CRD as x-kubernetes-validations. */
export function withRules<S extends z.ZodType>(schema: S, rules: readonly CrossFieldRule<z.output<S>>[]): S {
  return schema
    .superRefine((value, context) => {
      for (const rule of rules) {
        if (rule.holds(value)) continue;
        context.addIssue({
          code: 'custom',
          path: [...(rule.path ?? [])],
          message: rule.message,
          params: { reason: rule.reason },
        });
      }
    })
    .meta({
      ...schema.meta(),
      'x-kubernetes-validations': rules.map((rule) => ({ rule: rule.cel, message: rule.message })),
    });
}

/** A list whose items are identified by some of their fields, as server-side apply understands it. */
export function mapList<S extends z.ZodType>(item: S, keys: readonly string[], size: { min?: number; max: number }) {
  return z
    .array(item)
    .min(size.min ?? 0)
    .max(size.max)
    .superRefine((items, context) =>
      reportRepeated(items, (entry) => keys.map((key) => fieldOf(entry, key)).join(' '), keys, context),
    )
    .meta({ 'x-kubernetes-list-type': 'map', 'x-kubernetes-list-map-keys': keys });
}

/** A list of distinct scalars. */
export function setList<S extends z.ZodType>(item: S, size: { min?: number; max: number }) {
  return z
    .array(item)
    .min(size.min ?? 0)
    .max(size.max)
    .superRefine((items, context) => reportRepeated(items, (entry) => entry, [], context))
    .meta({ 'x-kubernetes-list-type': 'set' });
}

/** Text of at most `max` characters, counted as the API server does: by code point. */
export function text(max: number, min = 0) {
  return z
    .string()
    .refine((value) => lengthOf(value) <= max, { error: `must have at most ${max} characters` })
    .refine((value) => lengthOf(value) >= min, { error: `must have at least ${min} character${min === 1 ? '' : 's'}` })
    .meta(min > 0 ? { maxLength: max, minLength: min } : { maxLength: max });
}

function lengthOf(value: string): number {
  let length = 0;
  for (const _ of value) length += 1;
  return length;
}

function fieldOf(value: unknown, key: string): unknown {
  return typeof value === 'object' && value !== null ? Reflect.get(value, key) : undefined;
}

function reportRepeated(
  items: readonly unknown[],
  identityOf: (item: unknown) => unknown,
  keys: readonly string[],
  context: z.core.$RefinementCtx,
): void {
  const seen = new Set<unknown>();
  items.forEach((item, index) => {
    const identity = identityOf(item);
    if (seen.has(identity)) {
      context.addIssue({
        code: 'custom',
        path: [index, ...keys.slice(-1)],
        message: `no two items may ${keys.length === 0 ? 'be equal' : `have the same ${keys.join(' and ')}`}`,
        params: { reason: 'Duplicate' },
      });
    }
    seen.add(identity);
  });
}
