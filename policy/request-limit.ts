import { fieldOf, subjectOf } from './hash.ts';
import { selectRules, type Surroundings } from './select.ts';
import type { RequestContext, SelectedRule, Selection } from './selection.ts';
import type { DomainIndex } from './snapshot.ts';

/** A limit that a trusted caller brings along with a request, to be counted by what it says of the request. */
export type RequestLimit = {
  /** What answers call it. */
  readonly name: string;
  readonly requests: number;
  readonly windowSeconds: number;
  /** The entries of a descriptor; a key may be there several times. */
  readonly countBy: readonly { readonly key: string; readonly value: string }[];
};

/** Stands where the answers and metrics about other limits have a policy; no policy has such a name. */
const POLICY = '(request)';
const ALGORITHM = 'SlidingWindow';

/**
 * The limit of a request in the place of all rules of its domain. What is no limit still holds: blocks by an override or
 * a penalty, and an exemption where no rule would apply. Its counter is named by the domain, the descriptor and the
 * window, and not by the number: another number goes on with the same counter.
 */
export function selectRequestLimit(
  domain: DomainIndex,
  context: RequestContext,
  nowMicros: number,
  { limit, healths }: Pick<Surroundings, 'healths'> & { readonly limit: RequestLimit },
): Selection {
  const selection = selectRules(domain, context, nowMicros, { healths });
  const { rules, missing, exemptions, penalties, blockedBy } = selection;
  if (exemptions.length > 0 && rules.length + missing.length === 0) return selection;
  const rule = ruleOf(domain, context, limit);
  return { rules: [rule], penalties, blockedBy, missing: [], exemptions: [], overrides: [] };
}

function ruleOf(
  { domain }: DomainIndex,
  context: RequestContext,
  { name, requests, windowSeconds, countBy }: RequestLimit,
): SelectedRule {
  return {
    policy: POLICY,
    rule: name,
    group: 0,
    penalty: undefined,
    throttled: false,
    cost: context.cost ?? 1,
    isShown: true,
    failurePolicy: 'LocalFallback',
    after: [],
    limits: [
      {
        policy: POLICY,
        rule: name,
        algorithm: ALGORITHM,
        // No axis of a rule has this name: the subject is no other's.
        subject: subjectOf([POLICY, ...partsOf(context, countBy)]),
        // A policy is of one domain; here the field has to say which: a pod without Redis has one place for all.
        field: fieldOf([POLICY, domain, String(windowSeconds), ALGORITHM]),
        windowSeconds,
        capacity: requests,
        refill: requests,
        normalCapacity: requests,
        normalRefill: requests,
        tier: undefined,
        mode: 'NORMAL',
        modeUntilMicros: undefined,
      },
    ],
  };
}

/** Keys in their order, and values as rules would count them: not every way to write one path is a path of its own. */
function partsOf(context: RequestContext, countBy: RequestLimit['countBy']): string[] {
  const entries = countBy.toSorted((one, other) => (one.key < other.key ? -1 : Number(one.key > other.key)));
  return entries.flatMap(({ key, value }) => [key, understood(context, key) ?? value]);
}

function understood(context: RequestContext, key: string): string | undefined {
  switch (key) {
    case 'path':
    case 'method':
    case 'host':
      return context[key];
    case 'remote_address':
      return context.clientIP;
    case 'api_key':
      return context.consumer;
    default:
      return undefined;
  }
}
