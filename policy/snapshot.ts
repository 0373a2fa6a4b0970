import { counterField, defaultDomain } from './compile.ts';
import type {
  CompiledPenalty,
  CompiledRule,
  Document,
  DomainDocument,
  HealthDocument,
  OverrideDocument,
  PolicyDocument,
} from './documents.ts';
import { partitionOf } from './hash.ts';
import { type Matcher, needsIdentity, prepare } from './match.ts';
import { indexOverrides, type OverrideIndex } from './override.ts';
import { ownsDomain } from './resource.ts';
import { RouteIndex } from './route-index.ts';
import type { PathMatcher } from './schema/match.ts';

/** Which configuration: revisions order publishes inside one incarnation of Redis' data. */
export type ConfigurationIdentity = {
  readonly incarnation: string;
  readonly epoch: number;
  readonly revision: number;
  readonly manifest: string;
};

/** Whether a pod that holds one configuration follows another: inside one incarnation only forward; another
 * incarnation is another history of Redis' data. */
export function isNewer(offered: ConfigurationIdentity, held: ConfigurationIdentity | undefined): boolean {
  if (held === undefined || offered.incarnation !== held.incarnation) return true;
  return offered.epoch > held.epoch || (offered.epoch === held.epoch && offered.revision > held.revision);
}

export type IndexedRule = Omit<CompiledRule, 'match'> & {
  readonly matcher: Matcher | undefined;
  /** The field of the counter by window. */
  readonly fieldFor: (windowSeconds: number) => string;
};

export type IndexedExemption = { readonly name: string; readonly matcher: Matcher; readonly needsIdentity: boolean };

export type IndexedPolicy = {
  /** What it was made from. */
  readonly document: PolicyDocument;
  /** Place among the policies of its domain. */
  readonly index: number;
  /** `namespace/name` */
  readonly id: string;
  readonly tiers: ReadonlySet<string>;
  readonly defaultTier: string | undefined;
  readonly exemptions: readonly IndexedExemption[];
  /** Each rule after those that it waits for. */
  readonly rules: readonly IndexedRule[];
  readonly penalty: CompiledPenalty | undefined;
  readonly overrides: OverrideIndex;
};

export type DomainIndex = {
  readonly domain: string;
  /** Of all counters, unless `settings` partition the domain. */
  readonly partition: string;
  readonly settings: DomainDocument;
  /** Every tier that some policy of the domain knows. */
  readonly tiers: ReadonlySet<string>;
  readonly policies: readonly IndexedPolicy[];
  /** In the same order, those that may concern a path; all of them if it is not known. */
  readonly policiesFor: (path: string | undefined) => readonly IndexedPolicy[];
  /** Whether some requests may pass before it is known who calls. */
  readonly hasAnonymousExemptions: boolean;
};

/** What a limiter decides by: one published configuration, indexed, immutable, swapped whole. */
export type Snapshot = {
  readonly identity: ConfigurationIdentity;
  readonly domains: ReadonlyMap<string, DomainIndex>;
  /** Those that say DEGRADED, whether they have ended or not: of each request they are asked whether they concern it. */
  readonly healths: readonly HealthDocument[];
};

/** A snapshot of these documents, at once. */
export function buildSnapshot(identity: ConfigurationIdentity, documents: Iterable<Document>): Snapshot {
  const steps = snapshotInSteps(identity, documents);
  for (;;) {
    const step = steps.next();
    if (step.done === true) return step.value;
  }
}

/** Work of which each step takes less than a millisecond, whatever the whole takes: others may have a turn in between. */
export type Steps<T> = Generator<undefined, T, undefined>;

/** The same in steps. What the held snapshot has of the very same documents is taken over. */
export function* snapshotInSteps(
  identity: ConfigurationIdentity,
  documents: Iterable<Document>,
  held?: Snapshot,
): Steps<Snapshot> {
  const policies = new Map<string, PolicyDocument[]>();
  const settings = new Map<string, DomainDocument>();
  const healths: HealthDocument[] = [];
  const overrides = new Map<string, OverrideDocument[]>();
  for (const document of documents) {
    switch (document.kind) {
      case 'RateLimitPolicy':
        add(policies, document.domain, document);
        break;
      case 'RateLimitDomain':
        settings.set(document.domain, document);
        break;
      case 'RateLimitOverride':
        add(overrides, document.policy, document);
        break;
      case 'SystemHealth':
        if (document.mode === 'DEGRADED') healths.push(document);
        break;
    }
    yield;
  }
  const domains = new Map<string, DomainIndex>();
  for (const [domain, members] of policies) {
    const before = held?.domains.get(domain);
    const its = settings.get(domain) ?? defaultsOf(domain, before);
    domains.set(domain, yield* indexDomain(its, members, overrides, before));
  }
  return { identity, domains, healths: healths.toSorted(byName) };
}

/** The settings of a domain of which nothing is said: those of before, if nothing was said then. */
function defaultsOf(domain: string, before: DomainIndex | undefined): DomainDocument {
  // Only what was written has a namespace.
  return before?.settings.namespace === '' ? before.settings : defaultDomain(domain);
}

/** Whether keys and policies of a namespace are known in a domain. */
export function admitsNamespace(settings: DomainDocument, namespace: string): boolean {
  return ownsDomain(namespace, settings.domain) || settings.grants.includes(namespace);
}

function byName(one: HealthDocument, other: HealthDocument): number {
  return one.name < other.name ? -1 : 1;
}

function add<T>(lists: Map<string, T[]>, key: string, item: T): void {
  const list = lists.get(key);
  if (list === undefined) lists.set(key, [item]);
  else list.push(item);
}

function* indexDomain(
  settings: DomainDocument,
  documents: readonly PolicyDocument[],
  overridesOf: ReadonlyMap<string, readonly OverrideDocument[]>,
  before: DomainIndex | undefined,
): Steps<DomainIndex> {
  const tiers = new Set<string>();
  const policies: IndexedPolicy[] = [];
  const held = before?.policies ?? [];
  let place = 0;
  for (const document of yield* sortedById(documents)) {
    const id = idOf(document);
    // Both are in one order.
    while ((held[place]?.id ?? id) < id) place += 1;
    const overrides = yield* indexOverrides(overridesOf.get(id) ?? [], settings.ipv6PrefixLength);
    policies.push(indexPolicy(document, { index: policies.length, overrides }, held[place]));
    for (const tier of document.tiers) tiers.add(tier);
    yield;
  }
  if (before !== undefined && before.settings === settings && isSameList(held, policies)) return before;
  return {
    domain: settings.domain,
    partition: partitionOf(settings.domain),
    settings,
    tiers,
    policies,
    policiesFor: yield* findByPath(policies),
    hasAnonymousExemptions: policies.some(({ exemptions }) => exemptions.some((one) => !one.needsIdentity)),
  };
}

function isSameList<T>(one: readonly T[], other: readonly T[]): boolean {
  return one.length === other.length && one.every((item, index) => item === other[index]);
}

/** Sorted, or merged, in one step. */
const SORTED_AT_ONCE = 256;

/** Merge sort, as sorting 10,000 names at once keeps everybody waiting. */
function* sortedById(documents: readonly PolicyDocument[]): Steps<readonly PolicyDocument[]> {
  const middle = Math.ceil(documents.length / 2);
  if (documents.length <= SORTED_AT_ONCE) {
    return documents.length < 2 ? documents : documents.toSorted((one, other) => (idOf(one) < idOf(other) ? -1 : 1));
  }
  const left = yield* sortedById(documents.slice(0, middle));
  const right = yield* sortedById(documents.slice(middle));
  yield;
  const merged: PolicyDocument[] = [];
  for (let l = 0, r = 0; merged.length < documents.length;) {
    const [one, other] = [left[l], right[r]];
    const isLeft = one !== undefined && (other === undefined || idOf(one) < idOf(other));
    const next = isLeft ? left[l++] : right[r++];
    if (next !== undefined) merged.push(next);
    if (merged.length % SORTED_AT_ONCE === 0) yield;
  }
  return merged;
}

/** Below so many policies, looking at each costs less than finding those that matter. */
const FEW_POLICIES = 4;

function* findByPath(policies: readonly IndexedPolicy[]): Steps<DomainIndex['policiesFor']> {
  if (policies.length <= FEW_POLICIES) return () => policies;
  const everywhere: IndexedPolicy[] = [];
  const byPath = new RouteIndex<IndexedPolicy>();
  for (const policy of policies) {
    const paths = pathsOf(policy);
    if (paths === undefined) everywhere.push(policy);
    else for (const path of paths) byPath.add(path, policy);
    yield;
  }
  return (path) => {
    if (path === undefined) return policies;
    const found = byPath.matching(path);
    if (found.length === 0) return everywhere;
    // Mostly one policy is all that there is: nothing to put in order.
    if (found.length === 1 && everywhere.length === 0) return found;
    return [...new Set([...everywhere, ...found])].toSorted((one, other) => one.index - other.index);
  };
}

/** The paths that a policy speaks of; undefined if a part of it speaks of every path. */
function pathsOf({ rules, exemptions }: IndexedPolicy): PathMatcher[] | undefined {
  const parts = [...rules, ...exemptions].map(({ matcher }) => matcher?.paths);
  const paths: PathMatcher[] = [];
  for (const part of parts) {
    if (part === undefined) return undefined;
    paths.push(...part);
  }
  return paths;
}

/** What an indexed policy has of others than its document. */
type Surroundings = Pick<IndexedPolicy, 'index' | 'overrides'>;

/** `known` may be an earlier form of the same policy, or another one. */
function indexPolicy(
  document: PolicyDocument,
  { index, overrides }: Surroundings,
  known: IndexedPolicy | undefined,
): IndexedPolicy {
  if (known?.document !== document) return { ...policyOf(document), index, overrides };
  const hasOverrides = known.overrides.size > 0 || overrides.size > 0;
  if (known.index === index && !hasOverrides) return known;
  return { ...known, index, overrides };
}

function policyOf(document: PolicyDocument): Omit<IndexedPolicy, keyof Surroundings> {
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
  };
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

function idOf(document: PolicyDocument): string {
  return `${document.namespace}/${document.name}`;
}
