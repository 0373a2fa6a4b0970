import type { ValidPolicy } from './resource.ts';
import { RouteIndex } from './route-index.ts';
import type { PathMatcher } from './schema/match.ts';
import type { Rule } from './schema/rate-limit-policy.ts';

type CountedRule = { readonly rule: Rule; readonly limits: number };

/**
 * An upper bound of the number of limits that one request can be subject to under all of these policies.
 *
 * All rules that match one request match one path p and one method. Take the matcher q among those for p: every other
 * rule of the set has a matcher that overlaps q. So the largest sum over the rules that overlap one matcher and admit
 * one method is at least the true maximum.
 */
export function mostLimitsPerRequest(policies: readonly ValidPolicy[]): number {
  const rules = policies.flatMap(countedRules);
  const everywhere = rules.filter(({ rule }) => rule.match?.paths === undefined);
  const index = new RouteIndex<CountedRule>();
  const paths = new Map<string, PathMatcher>();
  for (const counted of rules) {
    for (const path of counted.rule.match?.paths ?? []) {
      index.add(path, counted);
      paths.set(`${path.type} ${path.value}`, path);
    }
  }
  let most = mostForOneMethod(everywhere);
  for (const path of paths.values()) {
    most = Math.max(most, mostForOneMethod([...everywhere, ...new Set(index.overlapping(path))]));
  }
  return most;
}

function countedRules(policy: ValidPolicy): CountedRule[] {
  const largestTier = Math.max(0, ...(policy.spec.tiers ?? []).map((tier) => tier.limits.length));
  return policy.spec.rules.map((rule) => ({ rule, limits: rule.limits?.length ?? largestTier }));
}

function mostForOneMethod(rules: readonly CountedRule[]): number {
  const methods = new Set<string>(['any other']);
  for (const { rule } of rules) for (const method of rule.match?.methods ?? []) methods.add(method);
  let most = 0;
  for (const method of methods) {
    const sum = rules.reduce((total, { rule, limits }) => total + (admitsMethod(rule, method) ? limits : 0), 0);
    most = Math.max(most, sum);
  }
  return most;
}

function admitsMethod(rule: Rule, method: string): boolean {
  const methods: readonly string[] | undefined = rule.match?.methods;
  return methods === undefined || methods.includes(method) || (method === 'HEAD' && methods.includes('GET'));
}
