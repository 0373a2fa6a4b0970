import { compileResource, counterFields } from '../policy/compile.ts';
import type { ManifestEntry, StoredDocument } from '../policy/documents.ts';
import { toStored } from '../policy/documents.ts';
import { mostLimitsPerRequest } from '../policy/limit-bound.ts';
import {
  idOf,
  type Problem,
  type RawResource,
  type ValidConsumer,
  type ValidPolicy,
  type ValidResource,
} from '../policy/resource.ts';
import { MAX_LIMITS_PER_REQUEST } from '../policy/schema/rate-limit-policy.ts';
import type { ResourceKind } from '../policy/schema/kinds.ts';
import { validate } from '../policy/validate.ts';
import { Conflicts, type InForce, isExpelled } from './conflicts.ts';

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

export type Accepted = {
  readonly ok: true;
  readonly resource: ValidResource;
  readonly stored: StoredDocument | undefined;
  readonly fields: ReadonlyMap<string, string>;
};

type Known = {
  /** Generation and labels: what the compiled form is made from. */
  readonly version: string;
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
    const version = versionOf(raw);
    const { uid } = raw.metadata;
    const known = this.#objects.get(uid);
    if (known !== undefined && known.version === version) return known.result;
    const result = compile(raw);
    this.#objects.set(uid, { version, result, lastGood: known?.lastGood });
    return result;
  }

  lastGood({ metadata }: RawResource): Accepted | undefined {
    return this.#objects.get(metadata.uid)?.lastGood;
  }

  accept(raw: RawResource, compiled: Accepted): void {
    this.#objects.set(raw.metadata.uid, { version: versionOf(raw), result: compiled, lastGood: compiled });
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
export function computeDesired(resources: readonly RawResource[], inForce: InForce, cache: CompileCache): Desired {
  const problems = new Map<string, readonly Problem[]>();
  const ordered = resources.toSorted((one, other) => byStanding(one, other, inForce.entries));
  const conflicts = new Conflicts(cache, inForce);
  conflicts.announce(ordered.flatMap((raw) => currentOf(raw, cache) ?? []));
  const accepted: Entered[] = [];
  for (const kinds of STAGES) {
    const members = ordered.filter((raw) => kinds.includes(raw.kind));
    accepted.push(...admit(members, { conflicts, cache, problems }));
  }
  cache.retain(resources);
  return collect(accepted, resources, inForce.entries, problems);
}

type Entered = { readonly raw: RawResource; readonly compiled: Accepted };

/** What an object may refer to is judged before it. */
const STAGES: readonly (readonly ResourceKind[])[] = [
  ['RateLimitDomain'],
  ['RateLimitPolicy'],
  ['RateLimitOverride', 'SystemHealth', 'Consumer'],
];

/** Those of some objects, in the order of their standing, that can be in force together with what was admitted before. */
function admit(
  resources: readonly RawResource[],
  {
    conflicts,
    cache,
    problems,
  }: {
    readonly conflicts: Conflicts;
    readonly cache: CompileCache;
    readonly problems: Map<string, readonly Problem[]>;
  },
): Entered[] {
  const refuse = (raw: RawResource, found: readonly Problem[]): void => {
    problems.set(idOf(raw), found);
    const kept = isExpelled(found) ? undefined : cache.lastGood(raw);
    if (kept === undefined) conflicts.fallBack(raw);
    else conflicts.occupy(kept);
  };
  const valid: Entered[] = [];
  for (const raw of resources) {
    const compiled = cache.compile(raw);
    if (compiled.ok) valid.push({ raw, compiled });
    else refuse(raw, compiled.problems);
  }
  conflicts.expect(valid.map(({ compiled }) => compiled));
  return valid.filter(({ raw, compiled }) => {
    const found = conflicts.of(compiled);
    if (found.length > 0) {
      refuse(raw, found);
      return false;
    }
    conflicts.occupy(compiled);
    cache.accept(raw, compiled);
    return true;
  });
}

/** What an object says now or, if that is not valid, what it said last. */
function currentOf(raw: RawResource, cache: CompileCache): Accepted | undefined {
  const compiled = cache.compile(raw);
  return compiled.ok ? compiled : cache.lastGood(raw);
}

function versionOf({ metadata }: RawResource): string {
  return `${metadata.generation} ${JSON.stringify(metadata.labels ?? {})}`;
}

function collect(
  accepted: readonly Entered[],
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
  const document = compileResource(resource);
  return {
    ok: true,
    resource,
    stored: document === undefined ? undefined : toStored(document),
    fields: document?.kind === 'RateLimitPolicy' ? counterFields(document) : new Map<string, string>(),
  };
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
    const found = problems.get(id);
    if (found === undefined || isExpelled(found)) continue;
    if (kept !== undefined && kept.uid === raw.metadata.uid) entries.set(id, kept);
  }
}
