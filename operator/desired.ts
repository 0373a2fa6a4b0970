import type { ManifestEntry, StoredDocument } from '../policy/documents.ts';
import type { Problem, RawResource, ValidConsumer, ValidPolicy } from '../policy/resource.ts';
import type { ResourceKind } from '../policy/schema/kinds.ts';
import type { Accepted, CompileCache, Entered, Frame, Known } from './compile-cache.ts';
import { Conflicts, type InForce, isExpelled } from './conflicts.ts';
import { lastGoodInForce, seenInForce } from './last-good.ts';

/** What should be in force, and what is wrong with what was asked for. */
export type Desired = {
  /** Objects with a document, by identity; `revision` is that of the entry in force, or 0 if it is new. */
  readonly entries: ReadonlyMap<string, ManifestEntry>;
  /** Documents of objects whose spec is valid, by name. Those of entries that are kept are in Redis already. */
  readonly documents: ReadonlyMap<string, StoredDocument>;
  /** As they should be in force: the last good state of one whose edit is refused. */
  readonly policies: readonly ValidPolicy[];
  readonly consumers: readonly ValidConsumer[];
  /** By identity; absent = accepted. */
  readonly problems: ReadonlyMap<string, readonly Problem[]>;
};

/**
 * From all resources and what is in force to what should be. An object that is not valid keeps the entry that it has:
 * a bad edit never replaces a good one. Level-triggered: the whole set, every time.
 */
export function computeDesired(resources: readonly RawResource[], inForce: InForce, cache: CompileCache): Desired {
  const ordered = inOrderOfStanding(
    resources.map((raw) => cache.look(raw)),
    inForce,
  );
  const of = (kinds: readonly ResourceKind[]): Known[] => ordered.filter(({ kind }) => kinds.includes(kind));
  const [domains, policies] = [of(['RateLimitDomain']), of(['RateLimitPolicy'])];
  const frame = cache.recall([...domains, ...policies], inForce) ?? judgeFrame(domains, policies, { cache, inForce });
  const pass: Pass = {
    ...frame,
    cache,
    inForce,
    accepted: [...frame.accepted],
    kept: [...frame.kept],
    problems: new Map(frame.problems),
  };
  frame.conflicts.forgetKeys();
  admit(of(['RateLimitOverride', 'SystemHealth', 'Consumer']), pass);
  cache.retain(resources);
  return collect(ordered, pass);
}

type Pass = Frame & {
  readonly cache: CompileCache;
  readonly inForce: InForce;
  readonly accepted: Entered[];
  readonly kept: Accepted[];
  readonly problems: Map<string, readonly Problem[]>;
};

/** Domains and policies, beside which everything else is judged. What an object may refer to is judged before it. */
function judgeFrame(
  domains: readonly Known[],
  policies: readonly Known[],
  { cache, inForce }: Pick<Pass, 'cache' | 'inForce'>,
): Frame {
  const all = [...domains, ...policies];
  const conflicts = new Conflicts(cache, inForce, () => announced(policies, { cache, inForce }));
  const pass: Pass = { cache, inForce, conflicts, accepted: [], kept: [], problems: new Map() };
  admit(domains, pass);
  admit(policies, pass);
  const refused = all.filter(({ id }) => pass.problems.has(id));
  // Then nothing in it depends on what else is in force, or on the order.
  if (refused.every((known) => !known.compiled.ok && seenInForce(known, inForce) !== undefined)) {
    cache.remember(all, pass);
  }
  return pass;
}

/** Those of some objects, in the order of their standing, that can be in force together with what was admitted before. */
function admit(objects: readonly Known[], pass: Pass): void {
  const { conflicts, cache, accepted } = pass;
  const valid: Entered[] = [];
  for (const known of objects) {
    const { compiled } = known;
    if (compiled.ok) valid.push({ known, compiled });
    else refuse(known, compiled.problems, pass);
  }
  conflicts.expect(valid.map(({ compiled }) => compiled));
  for (const entered of valid) {
    const { known, compiled } = entered;
    const found = conflicts.of(compiled);
    if (found.length > 0) refuse(known, found, pass);
    else {
      conflicts.occupy(compiled);
      cache.accept(known, compiled);
      accepted.push(entered);
    }
  }
}

/** Others are judged beside what stays in force of the object, if that may stay. */
function refuse(known: Known, found: readonly Problem[], pass: Pass): void {
  const { conflicts, problems } = pass;
  const lastGood = isExpelled(found) ? undefined : lastGoodOf(known, pass);
  // A refused edit must not keep a policy in a domain whose owner does not admit it any more.
  const expelling = lastGood === undefined ? [] : conflicts.expelling(lastGood);
  problems.set(known.id, expelling.length === 0 ? found : [...found, ...expelling]);
  if (lastGood === undefined) conflicts.fallBack(known);
  else if (expelling.length === 0) {
    conflicts.occupy(lastGood);
    pass.kept.push(lastGood);
  }
}

/** Of a policy exactly what is in force; an operator before this one may have published it. */
function lastGoodOf(known: Known, { cache, inForce }: Pick<Pass, 'cache' | 'inForce'>): Accepted | undefined {
  const seen = seenInForce(known, inForce);
  if (seen !== undefined) return seen;
  const found = lastGoodInForce(known, inForce);
  if (found !== undefined) cache.accept(known, found);
  return found;
}

/** What all objects say now or, where that is not valid, what they said last. */
function announced(objects: readonly Known[], pass: Pick<Pass, 'cache' | 'inForce'>): Accepted[] {
  return objects.flatMap((known) => (known.compiled.ok ? known.compiled : (lastGoodOf(known, pass) ?? [])));
}

function collect(ordered: readonly Known[], { accepted, kept, inForce, problems }: Pass): Desired {
  const entries = new Map<string, ManifestEntry>();
  const documents = new Map<string, StoredDocument>();
  const policies: ValidPolicy[] = [];
  const consumers: ValidConsumer[] = [];
  for (const { known, compiled } of accepted) {
    if (compiled.resource.kind === 'RateLimitPolicy') policies.push(compiled.resource);
    if (compiled.resource.kind === 'Consumer') consumers.push(compiled.resource);
    if (compiled.stored === undefined) continue;
    entries.set(known.id, entryFor(known, compiled.stored, inForce.entries.get(known.id)));
    documents.set(compiled.stored.name, compiled.stored);
  }
  for (const { resource } of kept) if (resource.kind === 'RateLimitPolicy') policies.push(resource);
  if (problems.size > 0) keepLastGood(ordered, inForce.entries, problems, entries);
  return { entries, documents, policies, consumers, problems };
}

/** What is in force as it is goes before what is new or edited; then the older object before the younger. */
function inOrderOfStanding(objects: readonly Known[], { entries }: InForce): Known[] {
  const standing: Known[] = [];
  const asking: Known[] = [];
  for (const known of objects) {
    const entry = entries.get(known.id);
    const { uid, generation } = known.metadata;
    (entry?.uid === uid && entry.generation === generation ? standing : asking).push(known);
  }
  return [...standing.toSorted(byAge), ...asking.toSorted(byAge)];
}

function byAge({ id, metadata }: Known, other: Known): number {
  const [mine, its] = [metadata.creationTimestamp, other.metadata.creationTimestamp];
  if (mine !== its) return mine < its ? -1 : 1;
  return id < other.id ? -1 : 1;
}

/** The very entry that is in force, if nothing has changed: what is the same object need not be compared. */
function entryFor(
  { kind, metadata }: Known,
  stored: StoredDocument,
  inForce: ManifestEntry | undefined,
): ManifestEntry {
  const { namespace, name, uid, generation } = metadata;
  const isSame =
    inForce !== undefined &&
    inForce.uid === uid &&
    inForce.generation === generation &&
    inForce.document === stored.name;
  return isSame ? inForce : { kind, namespace, name, uid, generation, document: stored.name, revision: 0 };
}

function keepLastGood(
  objects: readonly Known[],
  inForce: ReadonlyMap<string, ManifestEntry>,
  problems: ReadonlyMap<string, readonly Problem[]>,
  entries: Map<string, ManifestEntry>,
): void {
  for (const { id, metadata } of objects) {
    const kept = inForce.get(id);
    // Deleted and made again under its old name, it is another object: what was in force is not its own.
    const found = problems.get(id);
    if (found === undefined || isExpelled(found)) continue;
    if (kept !== undefined && kept.uid === metadata.uid) entries.set(id, kept);
  }
}
