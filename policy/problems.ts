import type { z } from 'zod';
import type { Problem } from './schema/fields.ts';

/** What is wrong with a value that a schema refused: the field, the value, and what is allowed. */
export function problemsOf(error: z.ZodError, root: unknown, rootName: string): Problem[] {
  return error.issues.flatMap((issue) => toProblems(issue, root, rootName));
}

function toProblems(issue: z.core.$ZodIssue, root: unknown, rootName: string): Problem[] {
  const value = valueAt(root, issue.path);
  switch (issue.code) {
    case 'unrecognized_keys':
      return issue.keys.map((key) => ({
        path: fieldPath([...issue.path, key], rootName),
        reason: 'UnknownField',
        message: 'there is no such field',
      }));
    case 'custom':
      return [
        {
          path: fieldPath(issue.path, rootName),
          reason: reasonOf(issue),
          message: isScalar(value) ? `${shown(value)} is not allowed: ${issue.message}` : issue.message,
        },
      ];
    default:
      if (value === undefined) {
        return [
          { path: fieldPath(issue.path, rootName), reason: 'Required', message: `is required: ${expectation(issue)}` },
        ];
      }
      return [
        {
          path: fieldPath(issue.path, rootName),
          reason: 'InvalidValue',
          message: `${shown(value)} is not allowed: ${expectation(issue)}`,
        },
      ];
  }
}

function reasonOf(issue: z.core.$ZodIssueCustom): string {
  const reason: unknown = issue.params?.['reason'];
  return typeof reason === 'string' ? reason : 'InvalidValue';
}

function expectation(issue: z.core.$ZodIssue): string {
  switch (issue.code) {
    case 'invalid_type':
      return `must be ${article(issue.expected)}`;
    case 'invalid_value':
      return `must be ${issue.values.map((value) => String(value)).join(' or ')}`;
    case 'too_small':
      return `must ${verb(issue.origin)} at least ${amount(issue.minimum, issue.origin)}`;
    case 'too_big':
      return `must ${verb(issue.origin)} at most ${amount(issue.maximum, issue.origin)}`;
    case 'invalid_format':
      return `must match ${issue.pattern ?? issue.format}`;
    default:
      return issue.message;
  }
}

function article(type: string): string {
  switch (type) {
    case 'int':
    case 'integer':
      return 'a whole number';
    case 'object':
    case 'array':
      return `an ${type}`;
    default:
      return `a ${type}`;
  }
}

function verb(origin: string): string {
  return origin === 'string' || origin === 'array' ? 'have' : 'be';
}

function amount(bound: number | bigint, origin: string): string {
  const plural = Number(bound) === 1 ? '' : 's';
  if (origin === 'string') return `${bound} character${plural}`;
  return origin === 'array' ? `${bound} item${plural}` : String(bound);
}

/** Lists and objects are too long for a message, and their path says which is meant. */
function isScalar(value: unknown): boolean {
  return value !== undefined && typeof value !== 'object';
}

/** A value as an error shows it: short, and never more than a line. */
function shown(value: unknown): string {
  const text = JSON.stringify(value) ?? String(value);
  return text.length > 80 ? `${text.slice(0, 77)}...` : text;
}

function valueAt(root: unknown, path: readonly PropertyKey[]): unknown {
  let value = root;
  for (const key of path) {
    if (typeof value !== 'object' || value === null) return undefined;
    value = Reflect.get(value, key);
  }
  return value;
}

/** `spec.rules[0].limits[1].burst`, or `rules[0]` below a root without a name. */
function fieldPath(path: readonly PropertyKey[], rootName: string): string {
  return path.reduce<string>((text, key) => {
    if (typeof key === 'number') return `${text}[${key}]`;
    return text === '' ? String(key) : `${text}.${String(key)}`;
  }, rootName);
}
