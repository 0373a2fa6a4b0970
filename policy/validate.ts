import type { z } from 'zod';
import { templateProblem } from './match.ts';
import { problemsOf } from './problems.ts';
import { normalisePath } from './path.ts';
import { orderProblems } from './rule-order.ts';
import {
  domainOf,
  ownsDomain,
  type Problem,
  type RawResource,
  type ValidPolicy,
  type ValidResource,
} from './resource.ts';
import { consumerSpec } from './schema/consumer.ts';
import {
  MAX_LIMITS_PER_REQUEST,
  type PathMatcher,
  rateLimitPolicySpec,
  type Rule,
} from './schema/rate-limit-policy.ts';
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
  const spec = withoutNulls(raw.spec);
  switch (raw.kind) {
    case 'RateLimitPolicy': {
      const parsed = rateLimitPolicySpec.safeParse(spec);
      if (!parsed.success) return refuse(spec, parsed.error);
      return accept({ kind: raw.kind, metadata: raw.metadata, spec: parsed.data });
    }
    case 'SystemHealth': {
      const parsed = systemHealthSpec.safeParse(spec);
      if (!parsed.success) return refuse(spec, parsed.error);
      return accept({ kind: raw.kind, metadata: raw.metadata, spec: parsed.data });
    }
    case 'Consumer': {
      const parsed = consumerSpec.safeParse(spec);
      if (!parsed.success) return refuse(spec, parsed.error);
      return accept({ kind: raw.kind, metadata: raw.metadata, spec: parsed.data });
    }
  }
}

/** Null in a field is as good as no field: the API server drops it. In a list it stays, and is refused. */
function withoutNulls(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutNulls);
  if (typeof value !== 'object' || value === null) return value;
  const fields = Object.entries(value).filter(([, field]) => field !== null);
  return Object.fromEntries(fields.map(([key, field]) => [key, withoutNulls(field)]));
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
  problems.push(...policy.spec.rules.flatMap(ruleProblems));
  if (policy.spec.penalty?.countBy.includes('route') === true) {
    problems.push({
      path: 'spec.penalty.countBy',
      reason: 'RouteWithoutPaths',
      message: 'a penalty is for all rules of the policy, which share no route: nobody would ever be punished',
    });
  }
  problems.push(...orderProblems(policy.spec.rules));
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

function ruleProblems(rule: Rule, ruleIndex: number): Problem[] {
  const problems: Problem[] = [];
  if (rule.countBy.includes('route') && rule.match?.paths === undefined) {
    problems.push({
      path: `spec.rules[${ruleIndex}].countBy`,
      reason: 'RouteWithoutPaths',
      message: 'route is the path of match.paths that matched: without any, the rule never applies',
    });
  }
  rule.match?.paths?.forEach((matcher, pathIndex) => {
    const problem = pathProblem(matcher);
    if (problem !== undefined) {
      problems.push({ path: `spec.rules[${ruleIndex}].match.paths[${pathIndex}].value`, ...problem });
    }
  });
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
  return { ok: false, problems: problemsOf(error, spec, 'spec') };
}
