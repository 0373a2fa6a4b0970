import { compileHealth, compilePolicy, counterFields } from '../policy/compile.ts';
import type { Document, ManifestEntry, StoredDocument } from '../policy/documents.ts';
import { toStored } from '../policy/documents.ts';
import { mostLimitsPerRequest } from '../policy/limit-bound.ts';
import {
  domainOf,
  idOf,
  type Problem,
  type RawResource,
  type ValidConsumer,
  type ValidPolicy,
  type ValidResource,
} from '../policy/resource.ts';
import { MAX_LIMITS_PER_REQUEST } from '../policy/schema/rate-limit-policy.ts';
import { validate } from '../policy/validate.ts';

/** What should be in force, and what is wrong with what was asked for. */
export type Desired = {
  /** Objects with a document, by identity; `revision` is that of the entry in force, or 0 if it is new. */
  readonly entries: ReadonlyMap<string, ManifestEntry>;
  /** Documents of objects whose spec is valid, by name. Those of entries that are kept are in Redis already. */
  readonly documents: ReadonlyMap<string, StoredDocument>;
  readonly policies: readonly ValidPolicy[];
  readonly consumers: readonly ValidConsumer[];
  /** By identity; absent = accepted. */
  readonly problems: ReadonlyMap<string, readonly Problem[]>;
};

type Compiled = Accepted | { readonly ok: false; readonly problems: readonly Problem[] };

type Accepted = {
  readonly ok: true;
  readonly resource: ValidResource;
  readonly stored: StoredDocument | undefined;
  readonly fields: ReadonlyMap<string, string>;
};

type Known = {
  readonly generation: number;
  readonly result: Compiled;
  /** What was accepted last: it stays in force while a later generation is refused. */
  readonly lastGood: Accepted | undefined;
};

/** What was found out before: the same spec is not compiled twice, the same domain not judged twice. */
export class CompileCache {
  readonly #objects = new Map<string, Known>();
  readonly #domains = new Map<string, { readonly members: string; readonly isCrowded: boolean }>();

  get size(): number {
    return this.#objects.size;
  }

  compile(raw: RawResource): Compiled {
    const { uid, generation } = raw.metadata;
    const known = this.#objects.get(uid);
    if (known !== undefined && known.generation === generation) return known.result;
    const result = compile(raw);
    this.#objects.set(uid, { generation, result, lastGood: known?.lastGood });
    return result;
  }

  lastGood({ metadata }: RawResource): Accepted | undefined {
    return this.#objects.get(metadata.uid)?.lastGood;
  }

  accept({ metadata }: RawResource, compiled: Accepted): void {
    this.#objects.set(metadata.uid, { generation: metadata.generation, result: compiled, lastGood: compiled });
  }

  /** Whether one request could be subject to too many limits if all of these policies were in force. */
  isCrowded(domain: string, policies: readonly ValidPolicy[]): boolean {
    const members = policies.map(({ metadata }) => `${metadata.uid}/${metadata.generation}`).join(' ');
    const known = this.#domains.get(domain);
    if (known !== undefined && known.members === members) return known.isCrowded;
    const isCrowded = mostLimitsPerRequest(policies) > MAX_LIMITS_PER_REQUEST;
    this.#domains.set(domain, { members, isCrowded });
    return isCrowded;
  }

  /** Keeps only what belongs to these objects. */
  retain(resources: readonly RawResource[]): void {
    if (this.#objects.size <= resources.length) return;
    const alive = new Set(resources.map((raw) => raw.metadata.uid));
    for (const uid of this.#objects.keys()) if (!alive.has(uid)) this.#objects.delete(uid);
  }
}

/**
 * From all resources and what is in force to what should be. An object that is not valid keeps the entry that it has:
 * a bad edit never replaces a good one. Level-triggered: the whole set, every time.
 */
export function computeDesired(
  resources: readonly RawResource[],
  inForce: ReadonlyMap<string, ManifestEntry>,
  cache: CompileCache,
): Desired {
  const problems = new Map<string, readonly Problem[]>();
  const ordered = resources.toSorted((one, other) => byStanding(one, other, inForce));
  const conflicts = new Conflicts(cache);
  const valid: { raw: RawResource; compiled: Accepted }[] = [];
  for (const raw of ordered) {
    const compiled = cache.compile(raw);
    if (compiled.ok) {
      valid.push({ raw, compiled });
      continue;
    }
    problems.set(idOf(raw), compiled.problems);
    const kept = cache.lastGood(raw);
    if (kept !== undefined) conflicts.occupy(kept);
  }
  conflicts.expect(valid.map(({ compiled }) => compiled));
  const accepted: { raw: RawResource; compiled: Accepted }[] = [];
  for (const { raw, compiled } of valid) {
    const found = conflicts.of(compiled);
    if (found.length === 0) {
      conflicts.occupy(compiled);
      cache.accept(raw, compiled);
      accepted.push({ raw, compiled });
      continue;
    }
    problems.set(idOf(raw), found);
    const kept = cache.lastGood(raw);
    if (kept !== undefined) conflicts.occupy(kept);
  }
  cache.retain(resources);
  return collect(accepted, resources, inForce, problems);
}

function collect(
  accepted: readonly { readonly raw: RawResource; readonly compiled: Accepted }[],
  resources: readonly RawResource[],
  inForce: ReadonlyMap<string, ManifestEntry>,
  problems: ReadonlyMap<string, readonly Problem[]>,
): Desired {
  const entries = new Map<string, ManifestEntry>();
  const documents = new Map<string, StoredDocument>();
  const policies: ValidPolicy[] = [];
  const consumers: ValidConsumer[] = [];
  for (const { raw, compiled } of accepted) {
    if (compiled.resource.kind === 'RateLimitPolicy') policies.push(compiled.resource);
    if (compiled.resource.kind === 'Consumer') consumers.push(compiled.resource);
    if (compiled.stored === undefined) continue;
    entries.set(idOf(raw), entryFor(raw, compiled.stored, inForce.get(idOf(raw))));
    documents.set(compiled.stored.name, compiled.stored);
  }
  keepLastGood(resources, inForce, problems, entries);
  return { entries, documents, policies, consumers, problems };
}

/** What is in force as it is goes before what is new or edited; then the older object before the younger. */
function byStanding(one: RawResource, other: RawResource, inForce: ReadonlyMap<string, ManifestEntry>): number {
  const standing = (raw: RawResource): number => {
    const entry = inForce.get(idOf(raw));
    return entry !== undefined && entry.uid === raw.metadata.uid && entry.generation === raw.metadata.generation
      ? 0
      : 1;
  };
  const difference = standing(one) - standing(other);
  if (difference !== 0) return difference;
  if (one.metadata.creationTimestamp !== other.metadata.creationTimestamp) {
    return one.metadata.creationTimestamp < other.metadata.creationTimestamp ? -1 : 1;
  }
  return idOf(one) < idOf(other) ? -1 : 1;
}

function compile(raw: RawResource): Compiled {
  const validation = validate(raw);
  if (!validation.ok) return validation;
  const { resource } = validation;
  const document = documentOf(resource);
  return {
    ok: true,
    resource,
    stored: document === undefined ? undefined : toStored(document),
    fields: document?.kind === 'RateLimitPolicy' ? counterFields(document) : new Map<string, string>(),
  };
}

function documentOf(resource: ValidResource): Document | undefined {
  switch (resource.kind) {
    case 'RateLimitPolicy':
      return compilePolicy(resource);
    case 'SystemHealth':
      return compileHealth(resource);
    case 'Consumer':
      // Keys are looked up one by one; pods do not load all consumers.
      return undefined;
  }
}

/** What the objects so far have taken, and why another one cannot have it too. */
class Conflicts {
  readonly #cache: CompileCache;
  readonly #policiesByDomain = new Map<string, ValidPolicy[]>();
  readonly #crowded = new Set<string>();
  readonly #fields = new Map<string, string>();
  readonly #keyHashes = new Map<string, string>();

  constructor(cache: CompileCache) {
    this.#cache = cache;
  }

  /** Looks at each domain as a whole, once: where all fit together, no policy has to be looked at by itself. */
  expect(candidates: readonly Accepted[]): void {
    const byDomain = Map.groupBy(
      candidates.map(({ resource }) => resource).filter((resource) => resource.kind === 'RateLimitPolicy'),
      domainOf,
    );
    for (const [domain, policies] of byDomain) {
      const all = [...(this.#policiesByDomain.get(domain) ?? []), ...policies];
      if (this.#cache.isCrowded(domain, all)) this.#crowded.add(domain);
    }
  }

  of({ resource, fields }: Accepted): Problem[] {
    switch (resource.kind) {
      case 'RateLimitPolicy':
        return [...this.#tooMany(resource), ...this.#sameField(fields)];
      case 'Consumer':
        return this.#sameKey(resource);
      case 'SystemHealth':
        return [];
    }
  }

  occupy({ resource, fields }: Accepted): void {
    if (resource.kind === 'Consumer') {
      for (const hash of resource.spec.apiKeyHashes ?? []) this.#keyHashes.set(hash, resource.metadata.uid);
    }
    if (resource.kind !== 'RateLimitPolicy') return;
    for (const [field, owner] of fields) this.#fields.set(field, owner);
    const domain = domainOf(resource);
    const others = this.#policiesByDomain.get(domain);
    if (others === undefined) this.#policiesByDomain.set(domain, [resource]);
    else others.push(resource);
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
      return [
        {
          path: 'spec.rules',
          reason: 'CounterNameCollision',
          message: `${name} would share a counter with ${owner}: rename the rule`,
        },
      ];
    }
    return [];
  }

  /** Does not say whose the key is: that is nobody else's business. */
  #sameKey(consumer: ValidConsumer): Problem[] {
    return (consumer.spec.apiKeyHashes ?? []).flatMap((hash, index) =>
      (this.#keyHashes.get(hash) ?? consumer.metadata.uid) !== consumer.metadata.uid
        ? [
            {
              path: `spec.apiKeyHashes[${index}]`,
              reason: 'Conflicted',
              message: 'this key belongs to an older Consumer',
            },
          ]
        : [],
    );
  }
}

function entryFor(raw: RawResource, stored: StoredDocument, inForce: ManifestEntry | undefined): ManifestEntry {
  const { namespace, name, uid, generation } = raw.metadata;
  const isSame =
    inForce !== undefined &&
    inForce.uid === uid &&
    inForce.generation === generation &&
    inForce.document === stored.name;
  return {
    kind: raw.kind,
    namespace,
    name,
    uid,
    generation,
    document: stored.name,
    revision: isSame ? inForce.revision : 0,
  };
}

function keepLastGood(
  resources: readonly RawResource[],
  inForce: ReadonlyMap<string, ManifestEntry>,
  problems: ReadonlyMap<string, readonly Problem[]>,
  entries: Map<string, ManifestEntry>,
): void {
  for (const raw of resources) {
    const id = idOf(raw);
    const kept = inForce.get(id);
    // Deleted and made again under its old name, it is another object: what was in force is not its own.
    if (problems.has(id) && kept !== undefined && kept.uid === raw.metadata.uid) entries.set(id, kept);
  }
}
