import { compileDomain } from '../policy/compile.ts';
import type { DomainDocument, ManifestEntry, StoredDocument } from '../policy/documents.ts';
import { IPV6_PREFIX_LENGTH, parseNetwork } from '../policy/ip.ts';
import { mostLimitsPerRequest } from '../policy/limit-bound.ts';
import {
  domainOf,
  idOf,
  ownsDomain,
  type Problem,
  type ValidConsumer,
  type ValidDomain,
  type ValidOverride,
  type ValidPolicy,
  type ValidResource,
} from '../policy/resource.ts';
import { MAX_LIMITS_PER_REQUEST } from '../policy/schema/rate-limit-policy.ts';
import type { Accepted, CompileCache, Known } from './compile-cache.ts';
import { documentIn } from './last-good.ts';
import { crossPartitionProblems, limitProblems, unknownPolicy, unknownRule } from './misfits.ts';

/** The owner of a domain decides who is in it: what it does not admit is not kept in force either. */
const DOMAIN_NOT_GRANTED = 'DomainNotGranted';

/** Whether an object must leave, its last good state included. */
export function isExpelled(problems: readonly Problem[]): boolean {
  return problems.some(({ reason }) => reason === DOMAIN_NOT_GRANTED);
}

/** What is in force, and the texts of its documents as far as they are known. */
export type InForce = {
  readonly entries: ReadonlyMap<string, ManifestEntry>;
  readonly documents: ReadonlyMap<string, StoredDocument>;
};

/** What the objects so far have taken, and why another one cannot be in force beside them. */
export class Conflicts {
  readonly #cache: CompileCache;
  #inForce: InForce;
  /** Domains that are in force with settings that nobody knows any more. */
  readonly #doubted = new Set<string>();
  #announced: () => readonly Accepted[];
  readonly #domains = new Map<string, DomainDocument>();
  readonly #policies = new Map<string, ValidPolicy>();
  readonly #policiesByDomain = new Map<string, ValidPolicy[]>();
  /** How many policies bring each tier. */
  readonly #tiersByNamespace = new Map<string, Map<string, number>>();
  #crowded: ReadonlySet<string> = new Set();
  readonly #fields = new Map<string, string>();
  readonly #keyHashes = new Map<string, string>();

  /**
   * @param announced all objects as they are now, before any is judged: a domain is not partitioned against policies that
   * are there
   */
  constructor(cache: CompileCache, inForce: InForce, announced: () => readonly Accepted[]) {
    this.#cache = cache;
    this.#inForce = inForce;
    this.#announced = announced;
  }

  /** A domain that is refused and of which this process has seen nothing good, as after a restart. */
  fallBack({ id, kind, metadata }: Known): void {
    const entry = this.#inForce.entries.get(id);
    if (kind !== 'RateLimitDomain' || entry?.uid !== metadata.uid) return;
    const document = documentIn(this.#inForce.documents.get(entry.document));
    if (document?.kind === 'RateLimitDomain') this.#domains.set(metadata.name, document);
    else this.#doubted.add(metadata.name);
  }

  /** Looks at each domain that these are of as a whole, once: where all fit together, no policy has to be looked at by itself. */
  expect(candidates: readonly Accepted[]): void {
    const policies = candidates
      .map(({ resource }) => resource)
      .filter((resource) => resource.kind === 'RateLimitPolicy');
    if (policies.length === 0) return;
    const crowded = new Set<string>();
    for (const [domain, own] of Map.groupBy(policies, domainOf)) {
      if (this.#cache.isCrowded([...(this.#policiesByDomain.get(domain) ?? []), ...own])) crowded.add(domain);
    }
    this.#crowded = crowded;
  }

  /** All domains are judged: what only they are judged by is not needed any more. */
  closeDomains(): void {
    this.#inForce = { entries: new Map(), documents: new Map() };
    this.#announced = () => [];
  }

  /** Consumers are judged anew, beside domains and policies that are the same. */
  forgetKeys(): void {
    this.#keyHashes.clear();
  }

  of({ resource, fields }: Accepted): Problem[] {
    switch (resource.kind) {
      case 'RateLimitPolicy':
        return this.#misplaced(resource, fields);
      case 'RateLimitDomain':
        return this.#notPartitionable(resource);
      case 'RateLimitOverride':
        return this.#badOverride(resource);
      case 'Consumer':
        return [...this.#sameKey(resource), ...this.#unknownTier(resource), ...this.#badAgreements(resource)];
      case 'SystemHealth':
        return [];
    }
  }

  #misplaced(policy: ValidPolicy, fields: ReadonlyMap<string, string>): Problem[] {
    const notGranted = this.#notGranted(policy);
    // What else is in a domain does not concern who is not admitted to it.
    if (isExpelled(notGranted)) return notGranted;
    return [...notGranted, ...this.#acrossPartitions(policy), ...this.#tooMany(policy), ...this.#sameField(fields)];
  }

  /** Why what is in force of a refused object must leave with it. Domains are judged before. */
  expelling({ resource }: Accepted): Problem[] {
    const found = resource.kind === 'RateLimitPolicy' ? this.#notGranted(resource) : [];
    return isExpelled(found) ? found : [];
  }

  occupy({ resource, fields }: Accepted): void {
    switch (resource.kind) {
      case 'RateLimitPolicy': {
        const { namespace, name } = resource.metadata;
        for (const [field, owner] of fields) this.#fields.set(field, owner);
        add(this.#policiesByDomain, domainOf(resource), resource);
        this.#policies.set(`${namespace}/${name}`, resource);
        this.#countTiers(resource, 1);
        break;
      }
      case 'RateLimitDomain':
        this.#domains.set(resource.metadata.name, compileDomain(resource));
        break;
      case 'Consumer':
        for (const hash of resource.spec.apiKeyHashes ?? []) this.#keyHashes.set(hash, resource.metadata.uid);
        break;
      case 'RateLimitOverride':
      case 'SystemHealth':
        break;
    }
  }

  /** Takes back what `occupy` did with a policy, while the domains are the same. */
  vacate({ resource, fields }: Accepted): void {
    if (resource.kind !== 'RateLimitPolicy') return;
    const { namespace, name } = resource.metadata;
    for (const [field, owner] of fields) if (this.#fields.get(field) === owner) this.#fields.delete(field);
    const domain = domainOf(resource);
    const others = (this.#policiesByDomain.get(domain) ?? []).filter((policy) => policy !== resource);
    if (others.length === 0) this.#policiesByDomain.delete(domain);
    else this.#policiesByDomain.set(domain, others);
    this.#policies.delete(`${namespace}/${name}`);
    this.#countTiers(resource, -1);
  }

  /** Tiers count where keys of a namespace are known: in its own domains and in those granted to it. */
  #countTiers(policy: ValidPolicy, step: 1 | -1): void {
    const grants = this.#domains.get(domainOf(policy))?.grants ?? [];
    for (const namespace of [policy.metadata.namespace, ...grants]) {
      const counts = this.#tiersByNamespace.get(namespace) ?? new Map<string, number>();
      this.#tiersByNamespace.set(namespace, counts);
      for (const { name } of policy.spec.tiers ?? []) {
        const count = (counts.get(name) ?? 0) + step;
        if (count === 0) counts.delete(name);
        else counts.set(name, count);
      }
    }
  }

  #notGranted(policy: ValidPolicy): Problem[] {
    const { namespace } = policy.metadata;
    const domain = domainOf(policy);
    if (isAdmitted(policy, this.#domains.get(domain))) return [];
    if (this.#doubted.has(domain)) {
      // What is in force was granted, and nobody has taken that back.
      if (this.#isInForce(policy)) return [];
      const message = `whether "${domain}" is granted to namespace "${namespace}" is not known while its RateLimitDomain is not valid`;
      return [{ path: 'spec.domain', reason: 'DomainUnknown', message }];
    }
    const message = `"${domain}" is not a domain of namespace "${namespace}": it must be "${namespace}", begin with "${namespace}.", or be granted by its RateLimitDomain`;
    return [{ path: 'spec.domain', reason: DOMAIN_NOT_GRANTED, message }];
  }

  #isInForce({ kind, metadata }: ValidResource): boolean {
    const entry = this.#inForce.entries.get(idOf({ kind, metadata }));
    return entry?.uid === metadata.uid && entry.generation === metadata.generation;
  }

  #acrossPartitions(policy: ValidPolicy): Problem[] {
    const axis = this.#domains.get(domainOf(policy))?.partitionBy;
    return axis === undefined ? [] : crossPartitionProblems(policy, axis);
  }

  #notPartitionable(domain: ValidDomain): Problem[] {
    const { metadata } = domain;
    const settings = compileDomain(domain);
    const axis = settings.partitionBy;
    // Where the domain is partitioned already it is the policy that does not fit.
    if (axis === undefined || this.#isInForce(domain)) return [];
    const inTheWay = this.#announced()
      .flatMap(({ resource }) => (resource.kind === 'RateLimitPolicy' ? [resource] : []))
      .filter((policy) => domainOf(policy) === metadata.name)
      .filter((policy) => isAdmitted(policy, settings) && crossPartitionProblems(policy, axis).length > 0)
      .map((policy) => `${policy.metadata.namespace}/${policy.metadata.name}`);
    if (inTheWay.length === 0) return [];
    const message = `"${axis}" is not allowed: not all rules of these policies count by it: ${inTheWay.slice(0, 5).join(', ')}${inTheWay.length > 5 ? ', ...' : ''}`;
    return [{ path: 'spec.partitionBy', reason: 'CrossPartitionRule', message }];
  }

  #tooMany(policy: ValidPolicy): Problem[] {
    const domain = domainOf(policy);
    if (!this.#crowded.has(domain)) return [];
    const others = this.#policiesByDomain.get(domain) ?? [];
    const most = mostLimitsPerRequest([...others, policy]);
    if (most <= MAX_LIMITS_PER_REQUEST) return [];
    const message = `with the other policies of domain "${domain}" one request could be subject to ${most} limits; at most ${MAX_LIMITS_PER_REQUEST} are allowed`;
    return [{ path: 'spec.rules', reason: 'TooManyLimits', message }];
  }

  #sameField(fields: ReadonlyMap<string, string>): Problem[] {
    for (const [field, name] of fields) {
      const owner = this.#fields.get(field);
      if (owner === undefined) continue;
      const message = `${name} would share a counter with ${owner}: rename the rule`;
      return [{ path: 'spec.rules', reason: 'CounterNameCollision', message }];
    }
    return [];
  }

  #badOverride({ metadata, spec }: ValidOverride): Problem[] {
    const policy = this.#policies.get(`${metadata.namespace}/${spec.policyRef.name}`);
    if (policy === undefined) return [unknownPolicy('spec.policyRef.name', spec.policyRef.name, metadata.namespace)];
    const problems: Problem[] = [];
    for (const [index, name] of (spec.rules ?? []).entries()) {
      if (!policy.spec.rules.some((rule) => rule.name === name))
        problems.push(unknownRule(`spec.rules[${index}]`, name));
    }
    problems.push(...this.#notOneClient(spec.subject.clientIP, domainOf(policy)));
    const { limits } = spec;
    if (limits === undefined || problems.length > 0) return problems;
    const meant = policy.spec.rules.filter((rule) => spec.rules === undefined || spec.rules.includes(rule.name));
    return meant.flatMap((rule) => limitProblems('spec.limits', limits, policy, rule)).slice(0, 1);
  }

  /** Of a wider network only one client would be meant, of a narrower one others too. */
  #notOneClient(text: string | undefined, domain: string): Problem[] {
    const network = text === undefined ? undefined : parseNetwork(text);
    const length = this.#domains.get(domain)?.ipv6PrefixLength ?? IPV6_PREFIX_LENGTH;
    if (network === undefined || network.bits === 128 || network.bits === length) return [];
    const message = `"${text}" is not one client of domain "${domain}", which counts networks of ${length} bits: write an address or such a network`;
    return [{ path: 'spec.subject.clientIP', reason: 'NotOneClient', message }];
  }

  #badAgreements({ metadata, spec }: ValidConsumer): Problem[] {
    return (spec.limits ?? []).flatMap((agreed, index) => {
      const path = `spec.limits[${index}]`;
      const policy = this.#policies.get(`${metadata.namespace}/${agreed.policy}`);
      if (policy === undefined) return [unknownPolicy(`${path}.policy`, agreed.policy, metadata.namespace)];
      const rule = policy.spec.rules.find(({ name }) => name === agreed.rule);
      if (rule === undefined) return [unknownRule(`${path}.rule`, agreed.rule)];
      return limitProblems(`${path}.limits`, agreed.limits, policy, rule);
    });
  }

  /** Where no policy is known yet, nothing can be said about tiers. */
  #unknownTier({ metadata, spec }: ValidConsumer): Problem[] {
    const known = this.#tiersByNamespace.get(metadata.namespace);
    if (spec.tier === undefined || known === undefined || known.size === 0 || known.has(spec.tier)) return [];
    const message = `"${spec.tier}" is not a tier of any policy for this consumer: ${[...known.keys()].toSorted().join(', ')}`;
    return [{ path: 'spec.tier', reason: 'UnknownTier', message }];
  }

  /** Does not say whose the key is: that is nobody else's business. */
  #sameKey(consumer: ValidConsumer): Problem[] {
    return (consumer.spec.apiKeyHashes ?? []).flatMap((hash, index) =>
      (this.#keyHashes.get(hash) ?? consumer.metadata.uid) === consumer.metadata.uid
        ? []
        : [
            {
              path: `spec.apiKeyHashes[${index}]`,
              reason: 'Conflicted',
              message: 'this key belongs to an older Consumer',
            },
          ],
    );
  }
}

/** Whether a policy may be of a domain with these settings, if it has any. */
function isAdmitted(policy: ValidPolicy, domain: DomainDocument | undefined): boolean {
  const { namespace } = policy.metadata;
  return ownsDomain(namespace, domainOf(policy)) || (domain?.grants.includes(namespace) ?? false);
}

function add<T>(lists: Map<string, T[]>, key: string, item: T): void {
  const list = lists.get(key);
  if (list === undefined) lists.set(key, [item]);
  else list.push(item);
}
