import { isDeepStrictEqual } from 'node:util';
import { compileResource, counterFields } from '../policy/compile.ts';
import { type StoredDocument, toStored } from '../policy/documents.ts';
import { mostLimitsPerRequest } from '../policy/limit-bound.ts';
import { idOf, type Problem, type RawResource, type ValidPolicy, type ValidResource } from '../policy/resource.ts';
import { MAX_LIMITS_PER_REQUEST } from '../policy/schema/rate-limit-policy.ts';
import type { ResourceKind } from '../policy/schema/kinds.ts';
import { validate } from '../policy/validate.ts';
import type { Conflicts, InForce } from './conflicts.ts';
import { seenInForce } from './last-good.ts';

export type Compiled = Accepted | { readonly ok: false; readonly problems: readonly Problem[] };

export type Accepted = {
  readonly ok: true;
  readonly resource: ValidResource;
  readonly stored: StoredDocument | undefined;
  readonly fields: ReadonlyMap<string, string>;
};

/** What is known of one object. */
export type Known = {
  readonly id: string;
  readonly kind: ResourceKind;
  /** Generation and labels in it are what the compiled form is made from. */
  readonly metadata: RawResource['metadata'];
  readonly compiled: Compiled;
  /** What was accepted last: if it came into force, it stays so while a later generation is refused. */
  readonly lastGood: Accepted | undefined;
};

/** An object that was admitted. */
export type Entered = { readonly known: Known; readonly compiled: Accepted };

/** What was found out of all domains and policies together. */
export type Frame = {
  readonly conflicts: Conflicts;
  readonly accepted: readonly Entered[];
  /** Last good states of objects that are refused as they are. */
  readonly kept: readonly Accepted[];
  readonly problems: ReadonlyMap<string, readonly Problem[]>;
};

type JudgedDomain = { readonly members: readonly ValidPolicy[]; readonly isCrowded: boolean };

/** What was found out before: the same spec is not compiled twice, the same domain not judged twice. */
export class CompileCache {
  readonly #objects = new Map<string, Known>();
  /** Domains of several policies, as they were judged last. */
  #domains: ReadonlyMap<string, JudgedDomain> = new Map();
  #frame: { readonly frame: Frame; readonly madeOf: ReadonlyMap<Compiled, Accepted | undefined> } | undefined;

  get size(): number {
    return this.#objects.size;
  }

  /** Compiles the object, unless it is as it was. */
  look(raw: RawResource): Known {
    const { kind, metadata } = raw;
    const known = this.#objects.get(metadata.uid);
    if (known?.metadata === metadata) return known;
    const now =
      known !== undefined && isSameVersion(known.metadata, metadata)
        ? { ...known, metadata }
        : { id: idOf(raw), kind, metadata, compiled: compile(raw), lastGood: known?.lastGood };
    this.#objects.set(metadata.uid, now);
    return now;
  }

  accept(known: Known, accepted: Accepted): void {
    if (known.lastGood !== accepted) this.#objects.set(known.metadata.uid, { ...known, lastGood: accepted });
  }

  /** The domains of these in which one request could be subject to too many limits if all policies were in force. */
  crowded(policiesByDomain: ReadonlyMap<string, readonly ValidPolicy[]>): Set<string> {
    const judged = new Map<string, JudgedDomain>();
    for (const [domain, members] of policiesByDomain) {
      // One policy alone was validated.
      if (members.length > 1) judged.set(domain, this.#judge(domain, members));
    }
    this.#domains = judged;
    return new Set([...judged].flatMap(([domain, { isCrowded }]) => (isCrowded ? [domain] : [])));
  }

  #judge(domain: string, members: readonly ValidPolicy[]): JudgedDomain {
    const known = this.#domains.get(domain);
    if (known !== undefined && isSameList(known.members, members)) return known;
    return { members, isCrowded: mostLimitsPerRequest(members) > MAX_LIMITS_PER_REQUEST };
  }

  /** Keeps what was found of these objects, the refused ones among them with their last good state. */
  remember(objects: readonly Known[], frame: Frame): void {
    const madeOf = new Map(objects.map(({ compiled, lastGood }) => [compiled, compiled.ok ? undefined : lastGood]));
    this.#frame = { frame, madeOf };
  }

  /** What was remembered, if it is of just these objects as they are: an incident must not wait for 10,000 policies. */
  recall(objects: readonly Known[], inForce: InForce): Frame | undefined {
    const remembered = this.#frame;
    const isSame =
      remembered?.madeOf.size === objects.length &&
      objects.every((known) => {
        const { compiled } = known;
        if (compiled.ok) return remembered.madeOf.has(compiled);
        const kept = seenInForce(known, inForce);
        return kept !== undefined && remembered.madeOf.get(compiled) === kept;
      });
    if (!isSame) this.#frame = undefined;
    return this.#frame?.frame;
  }

  /** The end of a pass: keeps only what belongs to these objects. */
  retain(resources: readonly RawResource[]): void {
    if (this.#objects.size <= resources.length) return;
    const alive = new Set(resources.map((raw) => raw.metadata.uid));
    for (const uid of this.#objects.keys()) if (!alive.has(uid)) this.#objects.delete(uid);
  }
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

function isSameVersion(one: RawResource['metadata'], other: RawResource['metadata']): boolean {
  return one.generation === other.generation && isDeepStrictEqual(one.labels ?? {}, other.labels ?? {});
}

/** Policies are not changed in place: one that was edited is another object. */
function isSameList(one: readonly ValidPolicy[], other: readonly ValidPolicy[]): boolean {
  return one.length === other.length && one.every((policy, index) => policy === other[index]);
}
