import type { Problem } from './resource.ts';
import type { Rule } from './schema/rate-limit-policy.ts';

/** Rules so that each stands after those that it waits for, otherwise in the order in which they were written. */
export function inOrder(rules: readonly Rule[]): Rule[] {
  const ordered: Rule[] = [];
  const byName = new Map(rules.map((rule) => [rule.name, rule]));
  const placed = new Set<string>();
  const place = (rule: Rule): void => {
    if (placed.has(rule.name)) return;
    placed.add(rule.name);
    for (const { rule: name } of rule.after ?? []) {
      const waitedFor = byName.get(name);
      if (waitedFor !== undefined) place(waitedFor);
    }
    ordered.push(rule);
  };
  for (const rule of rules) place(rule);
  return ordered;
}

/** Conditions on rules that do not exist, or that wait for each other. */
export function orderProblems(rules: readonly Rule[]): Problem[] {
  const names = new Set(rules.map((rule) => rule.name));
  const problems = rules.flatMap((rule, ruleIndex) =>
    (rule.after ?? []).flatMap((condition, index) =>
      names.has(condition.rule)
        ? []
        : [
            {
              path: `spec.rules[${ruleIndex}].after[${index}].rule`,
              reason: 'UnknownRule',
              message: `there is no rule "${condition.rule}" in this policy`,
            },
          ],
    ),
  );
  const cycle = findCycle(rules);
  if (cycle === undefined) return problems;
  const message = `rules wait for each other: ${cycle.join(' -> ')}`;
  return [...problems, { path: 'spec.rules', reason: 'RuleCycle', message }];
}

/** The names along one cycle, its first again at the end; undefined if there is none. */
function findCycle(rules: readonly Rule[]): string[] | undefined {
  const waitsFor = new Map(rules.map((rule) => [rule.name, (rule.after ?? []).map((condition) => condition.rule)]));
  const done = new Set<string>();
  const visit = (name: string, trail: readonly string[]): string[] | undefined => {
    const start = trail.indexOf(name);
    if (start !== -1) return [...trail.slice(start), name];
    if (done.has(name)) return undefined;
    done.add(name);
    for (const next of waitsFor.get(name) ?? []) {
      const cycle = visit(next, [...trail, name]);
      if (cycle !== undefined) return cycle;
    }
    return undefined;
  };
  for (const rule of rules) {
    const cycle = visit(rule.name, []);
    if (cycle !== undefined) return cycle;
  }
  return undefined;
}
