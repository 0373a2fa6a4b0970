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

/** Documents that were compiled before, by uid and generation: the same spec is not compiled twice. */
export type CompileCache = Map<string, { readonly generation: number; readonly result: Compiled }>;

type Compiled =
  | {
      readonly ok: true;
      readonly resource: ValidResource;
      readonly stored: StoredDocument | undefined;
      readonly fields: ReadonlyMap<string, string>;
    }
  | { readonly ok: false; readonly problems: readonly Problem[] };

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
  const valid: { raw: RawResource; compiled: Compiled & { ok: true } }[] = [];
  // Older objects first: in a conflict they were there before.
  for (const raw of resources.toSorted(byAge)) {
    const compiled = compileCached(raw, cache);
    if (compiled.ok) valid.push({ raw, compiled });
    else problems.set(idOf(raw), compiled.problems);
  }
  const conflicts = new Conflicts();
  const entries = new Map<string, ManifestEntry>();
  const documents = new Map<string, StoredDocument>();
  const policies: ValidPolicy[] = [];
  const consumers: ValidConsumer[] = [];
  for (const { raw, compiled } of valid) {
    const found = conflicts.of(compiled);
    if (found.length > 0) {
      problems.set(idOf(raw), found);
      continue;
    }
    conflicts.occupy(compiled);
    if (compiled.resource.kind === 'RateLimitPolicy') policies.push(compiled.resource);
    if (compiled.resource.kind === 'Consumer') consumers.push(compiled.resource);
    if (compiled.stored === undefined) continue;
    entries.set(idOf(raw), entryFor(raw, compiled.stored, inForce.get(idOf(raw))));
    documents.set(compiled.stored.name, compiled.stored);
  }
  keepLastGood(resources, inForce, problems, entries);
  forget(resources, cache);
  return { entries, documents, policies, consumers, problems };
}

function byAge(one: RawResource, other: RawResource): number {
  if (one.metadata.creationTimestamp !== other.metadata.creationTimestamp) {
    return one.metadata.creationTimestamp < other.metadata.creationTimestamp ? -1 : 1;
  }
  return idOf(one) < idOf(other) ? -1 : 1;
}

function compileCached(raw: RawResource, cache: CompileCache): Compiled {
  const known = cache.get(raw.metadata.uid);
  if (known !== undefined && known.generation === raw.metadata.generation) return known.result;
  const result = compile(raw);
  cache.set(raw.metadata.uid, { generation: raw.metadata.generation, result });
  return result;
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
  readonly #policiesByDomain = new Map<string, ValidPolicy[]>();
  readonly #fields = new Map<string, string>();
  readonly #keyHashes = new Set<string>();

  of({ resource, fields }: Compiled & { ok: true }): Problem[] {
    switch (resource.kind) {
      case 'RateLimitPolicy':
        return [...this.#tooMany(resource), ...this.#sameField(fields)];
      case 'Consumer':
        return this.#sameKey(resource);
      case 'SystemHealth':
        return [];
    }
  }

  occupy({ resource, fields }: Compiled & { ok: true }): void {
    if (resource.kind === 'Consumer') for (const hash of resource.spec.apiKeyHashes ?? []) this.#keyHashes.add(hash);
    if (resource.kind !== 'RateLimitPolicy') return;
    for (const [field, owner] of fields) this.#fields.set(field, owner);
    const domain = domainOf(resource);
    this.#policiesByDomain.set(domain, [...(this.#policiesByDomain.get(domain) ?? []), resource]);
  }

  #tooMany(policy: ValidPolicy): Problem[] {
    const domain = domainOf(policy);
    const others = this.#policiesByDomain.get(domain) ?? [];
    const most = mostLimitsPerRequest([...others, policy]);
    if (most <= MAX_LIMITS_PER_REQUEST) return [];
    const message = `with the older policies of domain "${domain}" one request could be subject to ${most} limits; at most ${MAX_LIMITS_PER_REQUEST} are allowed`;
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
      this.#keyHashes.has(hash)
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

function forget(resources: readonly RawResource[], cache: CompileCache): void {
  if (cache.size <= resources.length) return;
  const alive = new Set(resources.map((raw) => raw.metadata.uid));
  for (const uid of cache.keys()) if (!alive.has(uid)) cache.delete(uid);
}
