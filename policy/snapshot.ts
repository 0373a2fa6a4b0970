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
import { covers } from './health.ts';
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
  /** The health objects that may ever cover this policy. */
  readonly healths: readonly HealthDocument[];
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
};

export function buildSnapshot(identity: ConfigurationIdentity, documents: Iterable<Document>): Snapshot {
  const policies = new Map<string, PolicyDocument[]>();
  const settings = new Map<string, DomainDocument>();
  const related: Related = { healths: [], overrides: new Map() };
  for (const document of documents) {
    switch (document.kind) {
      case 'RateLimitPolicy':
        add(policies, document.domain, document);
        break;
      case 'RateLimitDomain':
        settings.set(document.domain, document);
        break;
      case 'RateLimitOverride':
        add(related.overrides, document.policy, document);
        break;
      case 'SystemHealth':
        related.healths.push(document);
        break;
    }
  }
  const domains = new Map<string, DomainIndex>();
  for (const [domain, members] of policies) {
    domains.set(domain, indexDomain(settings.get(domain) ?? defaultDomain(domain), members, related));
  }
  return { identity, domains };
}

/** Whether keys and policies of a namespace are known in a domain. */
export function admitsNamespace(settings: DomainDocument, namespace: string): boolean {
  return ownsDomain(namespace, settings.domain) || settings.grants.includes(namespace);
}

type Related = {
  readonly healths: HealthDocument[];
  readonly overrides: Map<string, OverrideDocument[]>;
};

function add<T>(lists: Map<string, T[]>, key: string, item: T): void {
  const list = lists.get(key);
  if (list === undefined) lists.set(key, [item]);
  else list.push(item);
}

function indexDomain(settings: DomainDocument, documents: readonly PolicyDocument[], related: Related): DomainIndex {
  const ordered = documents.toSorted((one, other) => (idOf(one) < idOf(other) ? -1 : 1));
  const policies = ordered.map((document, index) => indexPolicy(document, { index, settings, related }));
  return {
    domain: settings.domain,
    partition: partitionOf(settings.domain),
    settings,
    tiers: new Set(ordered.flatMap((policy) => policy.tiers)),
    policies,
    policiesFor: findByPath(policies),
    hasAnonymousExemptions: policies.some(({ exemptions }) => exemptions.some((one) => !one.needsIdentity)),
  };
}

/** Below so many policies, looking at each costs less than finding those that matter. */
const FEW_POLICIES = 4;

function findByPath(policies: readonly IndexedPolicy[]): DomainIndex['policiesFor'] {
  if (policies.length <= FEW_POLICIES) return () => policies;
  const everywhere: IndexedPolicy[] = [];
  const byPath = new RouteIndex<IndexedPolicy>();
  for (const policy of policies) {
    const paths = pathsOf(policy);
    if (paths === undefined) everywhere.push(policy);
    else for (const path of paths) byPath.add(path, policy);
  }
  return (path) => {
    if (path === undefined) return policies;
    const found = byPath.matching(path);
    if (found.length === 0) return everywhere;
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

function indexPolicy(
  document: PolicyDocument,
  {
    index,
    settings,
    related,
  }: { readonly index: number; readonly settings: DomainDocument; readonly related: Related },
): IndexedPolicy {
  const id = idOf(document);
  return {
    index,
    id,
    tiers: new Set(document.tiers),
    defaultTier: document.defaultTier,
    exemptions: document.exemptions.map(({ name, match }) => {
      const matcher = prepare(match);
      return { name, matcher, needsIdentity: needsIdentity(matcher) };
    }),
    rules: document.rules.map((rule) => indexRule(id, rule)),
    penalty: document.penalty,
    healths: related.healths.filter((health) => covers(health, document)),
    overrides: indexOverrides(related.overrides.get(id) ?? [], settings.ipv6PrefixLength),
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
