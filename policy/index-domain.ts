import { defaultDomain } from './compile.ts';
import type { DomainDocument, PolicyDocument } from './documents.ts';
import { partitionOf } from './hash.ts';
import { idOf, indexPolicy } from './index-policy.ts';
import { indexOverrides } from './override.ts';
import { findById, replaced } from './policy-order.ts';
import { type Replacement, routesAfter } from './policy-routes.ts';
import type { DomainIndex, IndexedPolicy, SnapshotSources } from './snapshot.ts';
import { type Steps, withEach } from './steps.ts';

const NO_TIERS: ReadonlySet<string> = new Set();

/** Policies of a domain that are to be indexed, and those whose index is no longer used: an edited one is in both. */
export type DomainChange = { readonly added: PolicyDocument[]; readonly left: Set<PolicyDocument> };

/** The index of a domain after a change; undefined if no policies are left. What did not change is shared with the held one. */
export function* indexDomain(
  domain: string,
  held: DomainIndex | undefined,
  { added, left }: DomainChange,
  { settings: written, overrides }: SnapshotSources,
): Steps<DomainIndex | undefined> {
  const settings = written.get(domain) ?? defaultsOf(domain, held);
  if (held !== undefined && added.length + left.size === 0) return { ...held, settings };
  const gone: IndexedPolicy[] = [];
  for (const document of left) {
    const policy = findById(held?.policies ?? [], idOf(document));
    if (policy !== undefined) gone.push(policy);
    yield;
  }
  const fresh: IndexedPolicy[] = [];
  for (const document of added) {
    const its = yield* indexOverrides(overrides.get(idOf(document)), settings.ipv6PrefixLength);
    fresh.push(indexPolicy(document, its));
    yield;
  }
  const policies = yield* replaced(held?.policies ?? [], gone, fresh);
  if (policies.length === 0) return undefined;
  const replacement = { policies, gone, fresh };
  return {
    domain,
    partition: held?.partition ?? partitionOf(domain),
    settings,
    tiers: yield* tiersAfter(held?.tiers ?? NO_TIERS, replacement),
    policies,
    routes: yield* routesAfter(held?.routes, replacement),
    hasAnonymousExemptions: isPassedByAnyone(held, replacement),
  };
}

/** The settings of a domain of which nothing is said: those of before, if nothing was said then. */
function defaultsOf(domain: string, held: DomainIndex | undefined): DomainDocument {
  // Only what was written has a namespace.
  return held?.settings.namespace === '' ? held.settings : defaultDomain(domain);
}

/** Only where a tier went away with its policy is everybody asked. Sorted, so that every pod names them alike. */
function* tiersAfter(held: ReadonlySet<string>, { policies, gone, fresh }: Replacement): Steps<ReadonlySet<string>> {
  const ofFresh = yield* tiersOf(fresh);
  const ofGone = gone.length === 0 ? NO_TIERS : yield* tiersOf(gone);
  if (!isWithin(ofGone, ofFresh)) return new Set([...(yield* tiersOf(policies))].toSorted());
  return isWithin(ofFresh, held) ? held : new Set([...held, ...ofFresh].toSorted());
}

function* tiersOf(policies: readonly IndexedPolicy[]): Steps<ReadonlySet<string>> {
  const all = new Set<string>();
  yield* withEach(policies, ({ tiers }) => {
    for (const tier of tiers) all.add(tier);
  });
  return all;
}

function isWithin(one: ReadonlySet<string>, other: ReadonlySet<string>): boolean {
  for (const tier of one) if (!other.has(tier)) return false;
  return true;
}

function isPassedByAnyone(held: DomainIndex | undefined, { policies, gone, fresh }: Replacement): boolean {
  if (fresh.some(passesAnyone)) return true;
  if (held === undefined || !held.hasAnonymousExemptions) return false;
  return !gone.some(passesAnyone) || policies.some(passesAnyone);
}

/** Whether some of its exemptions hold whoever asks. */
function passesAnyone({ exemptions }: IndexedPolicy): boolean {
  return exemptions.some((one) => !one.needsIdentity);
}
