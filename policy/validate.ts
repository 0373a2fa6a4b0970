import { z } from 'zod';
import { templateProblem } from './match.ts';
import { normalisePath } from './path.ts';
import {
  domainOf,
  ownsDomain,
  type Problem,
  type RawResource,
  type ValidPolicy,
  type ValidResource,
} from './resource.ts';
import { consumerSpec } from './schema/consumer.ts';
import { MAX_LIMITS_PER_REQUEST, type PathMatcher, rateLimitPolicySpec } from './schema/rate-limit-policy.ts';
import { systemHealthSpec } from './schema/system-health.ts';
import { mostLimitsPerRequest } from './limit-bound.ts';

export type Validation =
  | { readonly ok: true; readonly resource: ValidResource }
  | { readonly ok: false; readonly problems: readonly Problem[] };

/**
 * Everything that is wrong with one object by itself. Schema-level problems are those that the API server finds too;
 * the others (reasons DomainNotOwned, PathNotNormal, TooManyLimits, ...) need more than a schema can say.
 */
export function validate(raw: RawResource): Validation {
  switch (raw.kind) {
    case 'RateLimitPolicy': {
      const parsed = rateLimitPolicySpec.safeParse(raw.spec);
      if (!parsed.success) return refuse(raw.spec, parsed.error);
      return accept({ kind: raw.kind, metadata: raw.metadata, spec: parsed.data });
    }
    case 'SystemHealth': {
      const parsed = systemHealthSpec.safeParse(raw.spec);
      if (!parsed.success) return refuse(raw.spec, parsed.error);
      return accept({ kind: raw.kind, metadata: raw.metadata, spec: parsed.data });
    }
    case 'Consumer': {
      const parsed = consumerSpec.safeParse(raw.spec);
      if (!parsed.success) return refuse(raw.spec, parsed.error);
      return accept({ kind: raw.kind, metadata: raw.metadata, spec: parsed.data });
    }
  }
}

function accept(resource: ValidResource): Validation {
  const problems = resource.kind === 'RateLimitPolicy' ? policyProblems(resource) : [];
  return problems.length === 0 ? { ok: true, resource } : { ok: false, problems };
}

function policyProblems(policy: ValidPolicy): Problem[] {
  const problems: Problem[] = [];
  const { namespace } = policy.metadata;
  const domain = domainOf(policy);
  if (!ownsDomain(namespace, domain)) {
    problems.push({
      path: 'spec.domain',
      reason: 'DomainNotOwned',
      message: `"${domain}" is not a domain of namespace "${namespace}": it must be "${namespace}" or begin with "${namespace}."`,
    });
  }
  policy.spec.rules.forEach((rule, ruleIndex) => {
    rule.match?.paths?.forEach((matcher, pathIndex) => {
      const problem = pathProblem(matcher);
      if (problem !== undefined) {
        problems.push({ path: `spec.rules[${ruleIndex}].match.paths[${pathIndex}].value`, ...problem });
      }
    });
  });
  const most = mostLimitsPerRequest([policy]);
  if (most > MAX_LIMITS_PER_REQUEST) {
    problems.push({
      path: 'spec.rules',
      reason: 'TooManyLimits',
      message: `one request could be subject to ${most} limits; at most ${MAX_LIMITS_PER_REQUEST} are allowed`,
    });
  }
  return problems;
}

function pathProblem(matcher: PathMatcher): Omit<Problem, 'path'> | undefined {
  if (matcher.type === 'Template') {
    const problem = templateProblem(matcher.value);
    return problem === undefined ? undefined : { reason: 'BadTemplate', message: `"${matcher.value}": ${problem}` };
  }
  const normal = normalisePath(matcher.value);
  if (normal === matcher.value) return undefined;
  const advice = normal === undefined ? 'it is not a valid path' : `write "${normal}"`;
  return {
    reason: 'PathNotNormal',
    message: `"${matcher.value}" can never match, as paths are normalised first: ${advice}`,
  };
}

function refuse(spec: unknown, error: z.ZodError): Validation {
  return { ok: false, problems: error.issues.flatMap((issue) => toProblems(spec, issue)) };
}

function toProblems(spec: unknown, issue: z.core.$ZodIssue): Problem[] {
  const value = valueAt(spec, issue.path);
  switch (issue.code) {
    case 'unrecognized_keys':
      return issue.keys.map((key) => ({
        path: fieldPath([...issue.path, key]),
        reason: 'UnknownField',
        message: 'there is no such field',
      }));
    case 'custom':
      return [
        {
          path: fieldPath(issue.path),
          reason: reasonOf(issue),
          message: issue.message === '' ? 'is not allowed' : issue.message,
        },
      ];
    default:
      if (value === undefined && issue.code === 'invalid_type') {
        return [{ path: fieldPath(issue.path), reason: 'Required', message: `is required: ${expectation(issue)}` }];
      }
      return [
        {
          path: fieldPath(issue.path),
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
      return `must be at least ${issue.minimum}${unitOf(issue.origin)}`;
    case 'too_big':
      return `must be at most ${issue.maximum}${unitOf(issue.origin)}`;
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

function unitOf(origin: string): string {
  if (origin === 'string') return ' characters';
  return origin === 'array' ? ' items' : '';
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

/** `spec.rules[0].limits[1].burst` */
function fieldPath(path: readonly PropertyKey[]): string {
  return path.reduce<string>(
    (text, key) => (typeof key === 'number' ? `${text}[${key}]` : `${text}.${String(key)}`),
    'spec',
  );
}
