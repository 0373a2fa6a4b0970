// What a limiter decides by. How it is made: build-snapshot.ts.
import type {
  CompiledPenalty,
  CompiledRule,
  DomainDocument,
  HealthDocument,
  OverrideDocument,
  PolicyDocument,
} from './documents.ts';
import type { Matcher } from './match.ts';
import type { OverrideIndex } from './override.ts';
import { ownsDomain } from './resource.ts';
import type { RouteIndex } from './route-index.ts';

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
  /** By id. */
  readonly policies: readonly IndexedPolicy[];
  /** Which of them may concern a path; undefined if they are so few that each of them is looked at. */
  readonly routes: PolicyRoutes | undefined;
  /** Whether some requests may pass before it is known who calls. */
  readonly hasAnonymousExemptions: boolean;
};

export type PolicyRoutes = {
  /** Those of which a part speaks of every path, by id. */
  readonly everywhere: readonly IndexedPolicy[];
  readonly byPath: RouteIndex<IndexedPolicy>;
};

/** What a limiter decides by: one published configuration, indexed, immutable, swapped whole. */
export type Snapshot = {
  readonly identity: ConfigurationIdentity;
  readonly domains: ReadonlyMap<string, DomainIndex>;
  /** Those that say DEGRADED, whether they have ended or not: of each request they are asked whether they concern it. */
  readonly healths: readonly HealthDocument[];
  readonly sources: SnapshotSources;
};

/** What the documents say of each other: by this, the next snapshot is made from this one and what changed. */
export type SnapshotSources = {
  /** The domain of each policy by its id. */
  readonly domainOf: ReadonlyMap<string, string>;
  /** By domain; also of domains that have no policies. */
  readonly settings: ReadonlyMap<string, DomainDocument>;
  /** By the id of the policy, whether it is there or not. */
  readonly overrides: ReadonlyMap<string, ReadonlySet<OverrideDocument>>;
};

/** The policies that may concern a path, by id; all of them if it is not known. */
export function policiesFor({ policies, routes }: DomainIndex, path: string | undefined): readonly IndexedPolicy[] {
  if (routes === undefined || path === undefined) return policies;
  const { everywhere, byPath } = routes;
  const found = byPath.matching(path);
  if (found.length === 0) return everywhere;
  // Mostly one policy is all that there is: nothing to put in order.
  if (found.length === 1 && everywhere.length === 0) return found;
  return [...new Set([...everywhere, ...found])].toSorted((one, other) => (one.id < other.id ? -1 : 1));
}

/** Whether keys and policies of a namespace are known in a domain. */
export function admitsNamespace(settings: DomainDocument, namespace: string): boolean {
  return ownsDomain(namespace, settings.domain) || settings.grants.includes(namespace);
}
