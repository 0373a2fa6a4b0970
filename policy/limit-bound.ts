import { isBelow, isPlaceholder, pathMatches, segmentsOf } from './match.ts';
import type { ValidPolicy } from './resource.ts';
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
  const methods = new Set<string>(['any other']);
  const paths = new Map<string, PathMatcher>();
  for (const { rule } of rules) {
    for (const method of rule.match?.methods ?? []) methods.add(method);
    for (const path of rule.match?.paths ?? []) paths.set(`${path.type} ${path.value}`, path);
  }
  let most = 0;
  for (const path of [undefined, ...paths.values()]) {
    const overlapping = rules.filter(({ rule }) => overlapsPath(rule, path));
    for (const method of methods) {
      const sum = overlapping.reduce(
        (total, entry) => total + (admitsMethod(entry.rule, method) ? entry.limits : 0),
        0,
      );
      most = Math.max(most, sum);
    }
  }
  return most;
}

function countedRules(policy: ValidPolicy): CountedRule[] {
  const largestTier = Math.max(0, ...(policy.spec.tiers ?? []).map((tier) => tier.limits.length));
  return policy.spec.rules.map((rule) => ({ rule, limits: rule.limits?.length ?? largestTier }));
}

function admitsMethod(rule: Rule, method: string): boolean {
  const methods: readonly string[] | undefined = rule.match?.methods;
  return methods === undefined || methods.includes(method) || (method === 'HEAD' && methods.includes('GET'));
}

/** `undefined` stands for a path that no matcher names. */
function overlapsPath(rule: Rule, path: PathMatcher | undefined): boolean {
  const paths = rule.match?.paths;
  if (paths === undefined) return true;
  return path !== undefined && paths.some((other) => overlap(path, other));
}

/** Whether there is a path that matches both. */
function overlap(one: PathMatcher, other: PathMatcher): boolean {
  if (one.type === 'Exact') return pathMatches(other, one.value);
  if (other.type === 'Exact') return pathMatches(one, other.value);
  if (one.type === 'Template') {
    return other.type === 'Template' ? templatesMeet(one.value, other.value) : isFilledBelow(other.value, one.value);
  }
  if (other.type === 'Template') return isFilledBelow(one.value, other.value);
  return isBelow(one.value, other.value) || isBelow(other.value, one.value);
}

function templatesMeet(one: string, other: string): boolean {
  const others = segmentsOf(other);
  const ones = segmentsOf(one);
  return ones.length === others.length && ones.every((segment, index) => segmentsMeet(segment, others[index] ?? ''));
}

function segmentsMeet(one: string, other: string): boolean {
  if (isPlaceholder(one)) return other !== '';
  return isPlaceholder(other) ? one !== '' : one === other;
}

/** Whether a template can be filled so that the path lies below a prefix. Only a last segment is ever empty. */
function isFilledBelow(prefix: string, template: string): boolean {
  const offered = segmentsOf(template);
  const wanted = segmentsOf(prefix);
  return (
    wanted.length <= offered.length &&
    wanted.every((segment, index) => {
      const offer = offered[index] ?? '';
      return segment === '' || isPlaceholder(offer) || offer === segment;
    })
  );
}
