// Which objects can be in force together. What was found last is kept as long as what it was found from is the same,
// and an edit of policies is judged alone where it can change nothing for others.
import type { ManifestEntry } from '../policy/documents.ts';
import type { Problem, ValidConsumer } from '../policy/resource.ts';
import type { ResourceKind } from '../policy/schema/kinds.ts';
import { ShardedMap } from '../policy/sharded-map.ts';
import type { Changes } from './changes.ts';
import type { Accepted, CompileCache, Known } from './compile-cache.ts';
import { Conflicts, type InForce, isExpelled } from './conflicts.ts';
import { lastGoodInForce, seenInForce } from './last-good.ts';

/** What became of one object. */
export type Verdict = {
  readonly known: Known;
  /** Its compiled form, if it was admitted as it is. */
  readonly accepted: Accepted | undefined;
  /** None, if it was. */
  readonly problems: readonly Problem[];
  /** What was in force of a refused object when it was judged, and whether that may stay. */
  readonly lastGood: Accepted | undefined;
  readonly isKept: boolean;
};

/** What was found of all domains and policies together. */
export type Frame = {
  readonly conflicts: Conflicts;
  readonly verdicts: ShardedMap<Verdict>;
  readonly refused: readonly Verdict[];
  /** In the order of standing, what is in force counts; it does not matter where the order does not. */
  readonly beside: ShardedMap<ManifestEntry>;
  readonly isFreeOfOrder: boolean;
};

/** What was found of objects that are judged beside a frame. */
export type Guests = {
  readonly frame: Frame;
  readonly verdicts: ShardedMap<Verdict>;
  readonly refused: readonly Verdict[];
  /** Those of them that were admitted, the older before the younger. */
  readonly consumers: readonly ValidConsumer[];
  /** All Consumers among them. */
  readonly consumerObjects: readonly Known[];
};

type Pass = {
  readonly cache: CompileCache;
  readonly inForce: InForce;
  readonly conflicts: Conflicts;
  readonly verdicts: Map<string, Verdict>;
};

/** Everything that is judged at one time. */
export type Docket = {
  readonly objects: readonly Known[];
  /** Since the last time. */
  readonly changes: Changes<Known>;
  readonly cache: CompileCache;
  readonly inForce: InForce & { readonly entries: ShardedMap<ManifestEntry> };
};

const FRAME: readonly ResourceKind[] = ['RateLimitDomain', 'RateLimitPolicy'];

/** Domains and policies, beside which everything else is judged. What an object may refer to is judged before it. */
export function judgeFrame(docket: Docket): Frame {
  const { cache } = docket;
  const remembered = cache.frame;
  // What goes on from it changes it.
  cache.frame = undefined;
  const changes = changesOf(docket, FRAME);
  cache.frame =
    remembered === undefined || haveLastGoodChanged(remembered.refused, docket)
      ? judgeAll(docket)
      : (goOn(remembered, changes, docket) ?? judgeAll(docket));
  return cache.frame;
}

function goOn(frame: Frame, { gone, come }: Changes<Known>, docket: Docket): Frame | undefined {
  if (!frame.isFreeOfOrder) {
    const others = docket.inForce.entries.differenceTo(frame.beside);
    const isSame =
      gone.length + come.length === 0 && !others.some((id) => FRAME.some((kind) => id.startsWith(`${kind}/`)));
    return isSame ? frame : undefined;
  }
  if (gone.length + come.length === 0) return frame;
  if ([...gone, ...come].some(({ kind }) => kind !== 'RateLimitPolicy')) return undefined;
  return amend(frame, { gone, come }, docket);
}

/**
 * Policies that changed, beside all others. If all of them can be in force together, then they can in any order, and
 * nothing is different for others. Undefined if it may be: then all have to be judged, in their order.
 */
function amend(frame: Frame, { gone, come }: Changes<Known>, { cache, inForce }: Docket): Frame | undefined {
  const { conflicts } = frame;
  const vacated = new Set<Accepted>();
  for (const { id } of gone) {
    const occupant = occupantOf(frame.verdicts.get(id));
    if (occupant === undefined) continue;
    conflicts.vacate(occupant);
    vacated.add(occupant);
  }
  const verdicts = admit(ordered(come, FRAME, inForce), { cache, inForce, conflicts, verdicts: new Map() });
  const isHarmless = [...verdicts.values()].every((verdict) => {
    const occupant = verdict.accepted === undefined ? occupantOf(verdict) : undefined;
    // What stays of a refused edit is not judged: it must be what all others are known to fit.
    return isFreeOfOrder(verdict) && (occupant === undefined || vacated.has(occupant));
  });
  if (!isHarmless) return undefined;
  noteAccepted(verdicts, cache);
  const left = new Set(gone.map(({ id }) => id));
  return {
    ...frame,
    verdicts: frame.verdicts.with([...[...left].map((id) => [id, undefined] as const), ...verdicts]),
    refused: [...frame.refused.filter(({ known }) => !left.has(known.id)), ...refusedOf(verdicts)],
  };
}

function judgeAll({ objects, cache, inForce }: Docket): Frame {
  const of = (kind: ResourceKind): Known[] => ordered(objects, [kind], inForce);
  const [domains, policies] = [of('RateLimitDomain'), of('RateLimitPolicy')];
  const conflicts = new Conflicts(cache, inForce, () => announced(policies, { cache, inForce }));
  const pass: Pass = { cache, inForce, conflicts, verdicts: new Map() };
  admit(domains, pass);
  const verdicts = admit(policies, pass);
  conflicts.closeDomains();
  noteAccepted(verdicts, cache);
  return {
    conflicts,
    verdicts: ShardedMap.of(verdicts),
    refused: refusedOf(verdicts),
    beside: inForce.entries,
    isFreeOfOrder: [...verdicts.values()].every(isFreeOfOrder),
  };
}

/** Objects of kinds that nothing else is judged by. */
export function judgeGuests(
  docket: Docket,
  {
    frame,
    kinds,
    known,
  }: { readonly frame: Frame; readonly kinds: readonly ResourceKind[]; readonly known: Guests | undefined },
): Guests {
  const { objects, cache, inForce } = docket;
  const { gone, come } = changesOf(docket, kinds);
  const isSame = known?.frame === frame && gone.length + come.length === 0;
  if (isSame && !haveLastGoodChanged(known.refused, docket)) return known;
  const { conflicts } = frame;
  if (kinds.includes('Consumer')) conflicts.forgetKeys();
  const verdicts = admit(ordered(objects, kinds, inForce), { cache, inForce, conflicts, verdicts: new Map() });
  noteAccepted(verdicts, cache);
  const consumers = [...verdicts.values()].flatMap(({ accepted }) =>
    accepted?.resource.kind === 'Consumer' ? [accepted.resource] : [],
  );
  const consumerObjects = objects.filter(({ kind }) => kind === 'Consumer' && kinds.includes(kind));
  const all = known?.verdicts ?? ShardedMap.of<Verdict>([]);
  const left = [...all.keys()].filter((id) => !verdicts.has(id)).map((id) => [id, undefined] as const);
  const fresh = [...verdicts].filter(([id, verdict]) => !isSameVerdict(all.get(id), verdict));
  return { frame, verdicts: all.with([...left, ...fresh]), refused: refusedOf(verdicts), consumers, consumerObjects };
}

/** Those of some objects, in the order of their standing, that can be in force together with what was admitted before. */
function admit(objects: readonly Known[], pass: Pass): Map<string, Verdict> {
  const { conflicts, verdicts } = pass;
  const valid: { readonly known: Known; readonly compiled: Accepted }[] = [];
  for (const known of objects) {
    const { compiled } = known;
    if (compiled.ok) valid.push({ known, compiled });
    else refuse(known, compiled.problems, pass);
  }
  conflicts.expect(valid.map(({ compiled }) => compiled));
  for (const { known, compiled } of valid) {
    const found = conflicts.of(compiled);
    if (found.length > 0) refuse(known, found, pass);
    else {
      conflicts.occupy(compiled);
      verdicts.set(known.id, { known, accepted: compiled, problems: NONE, lastGood: undefined, isKept: false });
    }
  }
  return verdicts;
}

const NONE: readonly Problem[] = [];

/** Others are judged beside what stays in force of the object, if that may stay. */
function refuse(known: Known, found: readonly Problem[], pass: Pass): void {
  const { conflicts, verdicts } = pass;
  const lastGood = isExpelled(found) ? undefined : lastGoodOf(known, pass);
  // A refused edit must not keep a policy in a domain whose owner does not admit it any more.
  const expelling = lastGood === undefined ? [] : conflicts.expelling(lastGood);
  const problems = expelling.length === 0 ? found : [...found, ...expelling];
  const isKept = lastGood !== undefined && expelling.length === 0;
  verdicts.set(known.id, { known, accepted: undefined, problems, lastGood, isKept });
  if (lastGood === undefined) conflicts.fallBack(known);
  else if (isKept) conflicts.occupy(lastGood);
}

/** Of a policy exactly what is in force; an operator before this one may have published it. */
function lastGoodOf(known: Known, { cache, inForce }: Pick<Pass, 'cache' | 'inForce'>): Accepted | undefined {
  const seen = seenInForce(known, cache.lastGoodOf(known), inForce);
  if (seen !== undefined) return seen;
  const found = lastGoodInForce(known, inForce);
  if (found !== undefined) cache.accept(known, found);
  return found;
}

/** What all objects say now or, where that is not valid, what they said last. */
function announced(objects: readonly Known[], pass: Pick<Pass, 'cache' | 'inForce'>): Accepted[] {
  return objects.flatMap((known) => (known.compiled.ok ? known.compiled : (lastGoodOf(known, pass) ?? [])));
}

function haveLastGoodChanged(refused: readonly Verdict[], { cache, inForce, changes }: Docket): boolean {
  return refused.some((verdict) => {
    const { known, lastGood } = verdict;
    // Of what has no place in its domain it was not asked what is in force.
    if (changes.gone.includes(known) || isMisplaced(verdict)) return false;
    return lastGoodOf(known, { cache, inForce }) !== lastGood;
  });
}

/** Whether the object must leave for what it says itself: with a last good state it is that one which must. */
function isMisplaced({ known, problems, lastGood }: Verdict): boolean {
  return known.compiled.ok && lastGood === undefined && isExpelled(problems);
}

function isSameVerdict(one: Verdict | undefined, other: Verdict): boolean {
  return one?.known === other.known && one.accepted !== undefined && one.accepted === other.accepted;
}

/** Whether the verdict would be the same in whatever order policies were judged. */
function isFreeOfOrder(verdict: Verdict): boolean {
  const { known, problems, isKept } = verdict;
  if (problems.length === 0) return true;
  if (known.kind === 'RateLimitDomain') return !known.compiled.ok && isKept;
  return !known.compiled.ok || isMisplaced(verdict);
}

/** What others have to fit. */
export function occupantOf(verdict: Verdict | undefined): Accepted | undefined {
  return verdict?.accepted ?? (verdict?.isKept === true ? verdict.lastGood : undefined);
}

function noteAccepted(verdicts: ReadonlyMap<string, Verdict>, cache: CompileCache): void {
  for (const { known, accepted } of verdicts.values()) if (accepted !== undefined) cache.accept(known, accepted);
}

function refusedOf(verdicts: ReadonlyMap<string, Verdict>): Verdict[] {
  return [...verdicts.values()].filter(({ problems }) => problems.length > 0);
}

function changesOf({ changes }: Docket, kinds: readonly ResourceKind[]): Changes<Known> {
  const of = (objects: readonly Known[]): Known[] => objects.filter(({ kind }) => kinds.includes(kind));
  return { gone: of(changes.gone), come: of(changes.come) };
}

/** What is in force as it is goes before what is new or edited; then the older object before the younger. */
function ordered(objects: readonly Known[], kinds: readonly ResourceKind[], { entries }: InForce): Known[] {
  const standing: Known[] = [];
  const asking: Known[] = [];
  for (const known of objects) {
    if (!kinds.includes(known.kind)) continue;
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
