import { counterFields } from '../policy/compile.ts';
import {
  type CompiledRule,
  type Document,
  type LimitNumbers,
  type PolicyDocument,
  readDocument,
  type StoredDocument,
  UnreadableDocument,
} from '../policy/documents.ts';
import type { Metadata, ValidPolicy } from '../policy/resource.ts';
import type { Limit } from '../policy/schema/limit.ts';
import type { Rule } from '../policy/schema/rate-limit-policy.ts';
import type { Accepted, Known } from './compile-cache.ts';
import type { InForce } from './conflicts.ts';

/**
 * What this process saw accepted of an object, if that is what is in force: it may not have been published, or have left.
 * Of a Consumer nothing is published that would say.
 */
export function seenInForce(
  { id, metadata }: Known,
  lastGood: Accepted | undefined,
  { entries }: InForce,
): Accepted | undefined {
  if (lastGood?.stored === undefined) return lastGood;
  const entry = entries.get(id);
  return entry?.uid === metadata.uid && entry.document === lastGood.stored.name ? lastGood : undefined;
}

/**
 * What is in force of a policy that this process has never seen valid, as after a restart; undefined if nothing is, or if
 * its document is lost.
 */
export function lastGoodInForce({ id, metadata }: Known, inForce: InForce): Accepted | undefined {
  const entry = inForce.entries.get(id);
  if (entry?.uid !== metadata.uid) return undefined;
  const stored = inForce.documents.get(entry.document);
  const document = documentIn(stored);
  if (document?.kind !== 'RateLimitPolicy') return undefined;
  const resource = policyOf(document, { ...metadata, generation: entry.generation });
  return { ok: true, resource, stored, fields: counterFields(document) };
}

/** Undefined if the document is not known, or of a format that this version does not read. */
export function documentIn(stored: StoredDocument | undefined): Document | undefined {
  if (stored === undefined) return undefined;
  try {
    return readDocument(stored.text);
  } catch (error) {
    if (error instanceof UnreadableDocument) return undefined;
    throw error;
  }
}

/** A policy that compiles to the same rules; of what its author left out it has what that means. */
function policyOf(document: PolicyDocument, metadata: Metadata): ValidPolicy {
  const { domain, labels, tiers, defaultTier, rules, penalty } = document;
  const byTier = rules.find((rule) => !Array.isArray(rule.limits))?.limits;
  return {
    kind: 'RateLimitPolicy',
    metadata: { ...metadata, labels },
    spec: {
      domain,
      // Limits of tiers that no rule takes its own from are not in the document, and concern nobody.
      tiers: tiers.map((name) => ({
        name,
        limits: byTier === undefined || Array.isArray(byTier) ? [] : (byTier[name] ?? []).map(limitOf),
        ...(name === defaultTier ? { default: true as const } : {}),
      })),
      rules: rules.map(ruleOf),
      ...(penalty === undefined ? {} : { penalty: { countBy: penalty.countBy } }),
    },
  };
}

function ruleOf({ name, match, countBy, algorithm, limits }: CompiledRule): Rule {
  return {
    name,
    ...(match === undefined ? {} : { match }),
    countBy,
    algorithm,
    ...(Array.isArray(limits) ? { limits: limits.map(limitOf) } : { limitsFrom: 'Tier' as const }),
  };
}

const limitOf = ({ windowSeconds, requests, capacity, degraded }: LimitNumbers): Limit => ({
  windowSeconds,
  requests,
  burst: capacity,
  degraded,
});
