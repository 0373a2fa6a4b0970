import { parseNetwork } from './ip.ts';
import { mostLimitsPerRequest } from './limit-bound.ts';
import { templateProblem } from './match.ts';
import { normalisePath } from './path.ts';
import type { Problem, ValidPolicy } from './resource.ts';
import { orderProblems } from './rule-order.ts';
import type { Match, PathMatcher } from './schema/match.ts';
import { MAX_LIMITS_PER_REQUEST, type Rule } from './schema/rate-limit-policy.ts';

/** What is wrong with one policy beyond what its schema says. */
export function policyProblems(policy: ValidPolicy): Problem[] {
  const problems: Problem[] = [];
  policy.spec.exemptions?.forEach((exemption, index) => {
    problems.push(...matchProblems(exemption.match, `spec.exemptions[${index}].match`));
  });
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
  if (rule.match !== undefined) problems.push(...matchProblems(rule.match, `spec.rules[${ruleIndex}].match`));
  return problems;
}

function matchProblems(match: Match, path: string): Problem[] {
  const problems: Problem[] = [];
  match.paths?.forEach((matcher, index) => {
    const problem = pathProblem(matcher);
    if (problem !== undefined) problems.push({ path: `${path}.paths[${index}].value`, ...problem });
  });
  match.sourceCIDRs?.forEach((text, index) => {
    if (parseNetwork(text) !== undefined) return;
    const message = `"${text}" is not a network: write it like 203.0.113.0/24 or 2001:db8::/32`;
    problems.push({ path: `${path}.sourceCIDRs[${index}]`, reason: 'InvalidNetwork', message });
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
