import type { CompiledPenalty, CompiledRule, Document, HealthDocument, PolicyDocument } from './documents.ts';
import { partitionOf } from './hash.ts';
import { coversDomain } from './health.ts';

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

export type IndexedPolicy = {
  /** `namespace/name` */
  readonly id: string;
  readonly tiers: ReadonlySet<string>;
  readonly defaultTier: string | undefined;
  /** Each rule after those that it waits for. */
  readonly rules: readonly CompiledRule[];
  readonly penalty: CompiledPenalty | undefined;
};

export type DomainIndex = {
  readonly domain: string;
  readonly partition: string;
  /** Every tier that some policy of the domain knows. */
  readonly tiers: ReadonlySet<string>;
  readonly policies: readonly IndexedPolicy[];
  /** The health objects that may ever cover this domain. */
  readonly healths: readonly HealthDocument[];
};

/** What a limiter decides by: one published configuration, indexed, immutable, swapped whole. */
export type Snapshot = {
  readonly identity: ConfigurationIdentity;
  readonly domains: ReadonlyMap<string, DomainIndex>;
};

export function buildSnapshot(identity: ConfigurationIdentity, documents: Iterable<Document>): Snapshot {
  const policies = new Map<string, PolicyDocument[]>();
  const healths: HealthDocument[] = [];
  for (const document of documents) {
    if (document.kind === 'SystemHealth') {
      healths.push(document);
      continue;
    }
    const sameDomain = policies.get(document.domain);
    if (sameDomain === undefined) policies.set(document.domain, [document]);
    else sameDomain.push(document);
  }
  const domains = new Map<string, DomainIndex>();
  for (const [domain, members] of policies) domains.set(domain, indexDomain(domain, members, healths));
  return { identity, domains };
}

function indexDomain(
  domain: string,
  policies: readonly PolicyDocument[],
  healths: readonly HealthDocument[],
): DomainIndex {
  const ordered = policies.toSorted((one, other) => (idOf(one) < idOf(other) ? -1 : 1));
  return {
    domain,
    partition: partitionOf(domain),
    tiers: new Set(ordered.flatMap((policy) => policy.tiers)),
    policies: ordered.map(indexPolicy),
    healths: healths.filter((health) => coversDomain(health, domain)),
  };
}

function indexPolicy(document: PolicyDocument): IndexedPolicy {
  return {
    id: idOf(document),
    tiers: new Set(document.tiers),
    defaultTier: document.defaultTier,
    rules: document.rules,
    penalty: document.penalty,
  };
}

function idOf(document: PolicyDocument): string {
  return `${document.namespace}/${document.name}`;
}
