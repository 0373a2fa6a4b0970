import { counterField } from './compile.ts';
import type { CompiledRule, PolicyDocument } from './documents.ts';
import { needsIdentity, prepare } from './match.ts';
import type { OverrideIndex } from './override.ts';
import type { IndexedPolicy, IndexedRule } from './snapshot.ts';

/** A policy, and its overrides, as they are asked for each request. */
export function indexPolicy(document: PolicyDocument, overrides: OverrideIndex): IndexedPolicy {
  const id = idOf(document);
  return {
    document,
    id,
    tiers: new Set(document.tiers),
    defaultTier: document.defaultTier,
    exemptions: document.exemptions.map(({ name, match }) => {
      const matcher = prepare(match);
      return { name, matcher, needsIdentity: needsIdentity(matcher) };
    }),
    rules: document.rules.map((rule) => indexRule(id, rule)),
    penalty: document.penalty,
    overrides,
  };
}

/** `namespace/name` */
export function idOf({ namespace, name }: PolicyDocument): string {
  return `${namespace}/${name}`;
}

function indexRule(policy: string, { match, ...rule }: CompiledRule): IndexedRule {
  const fields = new Map<number, string>();
  for (const limit of Array.isArray(rule.limits) ? rule.limits : Object.values(rule.limits).flat()) {
    fields.set(limit.windowSeconds, limit.field);
  }
  // Overrides and negotiated limits may bring windows of their own: at most one for each second of a day.
  const fieldFor = (windowSeconds: number): string => {
    const known = fields.get(windowSeconds);
    if (known !== undefined) return known;
    const field = counterField(policy, rule, windowSeconds);
    fields.set(windowSeconds, field);
    return field;
  };
  return { ...rule, matcher: match === undefined ? undefined : prepare(match), fieldFor };
}
