import { isDeepStrictEqual } from 'node:util';
import { compileResource, counterFields } from '../policy/compile.ts';
import { type StoredDocument, toStored } from '../policy/documents.ts';
import { mostLimitsPerRequest } from '../policy/limit-bound.ts';
import { idOf, type Problem, type RawResource, type ValidPolicy, type ValidResource } from '../policy/resource.ts';
import { MAX_LIMITS_PER_REQUEST } from '../policy/schema/rate-limit-policy.ts';
import type { ResourceKind } from '../policy/schema/kinds.ts';
import { validate } from '../policy/validate.ts';
import { type Changes, changesBetween } from './changes.ts';
import type { Collected } from './collect.ts';
import type { Frame, Guests } from './judgement.ts';

export type Compiled = Accepted | { readonly ok: false; readonly problems: readonly Problem[] };

export type Accepted = {
  readonly ok: true;
  readonly resource: ValidResource;
  readonly stored: StoredDocument | undefined;
  readonly fields: ReadonlyMap<string, string>;
};

/** What is known of one object: the same as long as the object is as it was. */
export type Known = {
  readonly id: string;
  readonly kind: ResourceKind;
  /** Generation and labels in it are what the compiled form is made from. */
  readonly metadata: RawResource['metadata'];
  readonly compiled: Compiled;
};

type JudgedDomain = { readonly members: readonly ValidPolicy[]; readonly isCrowded: boolean };

/** What was found out before: the same spec is not compiled twice, the same domain not judged twice. */
export class CompileCache {
  readonly #objects = new Map<string, Known>();
  /** What was accepted last, by uid: if it came into force, it stays so while a later generation is refused. */
  readonly #lastGood = new Map<string, Accepted>();
  /** Domains of several policies, as they were judged last, by their first policy. */
  readonly #domains = new WeakMap<ValidPolicy, JudgedDomain>();
  #last: { readonly resources: readonly RawResource[]; readonly objects: readonly Known[] } = {
    resources: [],
    objects: [],
  };
  /** What the last pass found of all domains and policies, of what is judged beside them, and of all together. */
  frame: Frame | undefined;
  guests: Guests | undefined;
  incidents: Guests | undefined;
  collected: Collected | undefined;

  get size(): number {
    return this.#objects.size;
  }

  /** Those that have not been looked at as they are. */
  unseen(resources: readonly RawResource[]): readonly RawResource[] {
    return changesBetween(this.#last.resources, resources).come;
  }

  /** Compiles the object, unless it is as it was. */
  look(raw: RawResource): Known {
    const { kind, metadata } = raw;
    const known = this.#objects.get(metadata.uid);
    if (known !== undefined && isSameVersion(known.metadata, metadata)) return known;
    const now = { id: idOf(raw), kind, metadata, compiled: compile(raw) };
    this.#objects.set(metadata.uid, now);
    return now;
  }

  /** Looks at all objects there are, and says which are not as in the last pass. Forgets what belongs to no object. */
  lookAtAll(resources: readonly RawResource[]): { objects: readonly Known[]; changes: Changes<Known> } {
    const before = this.#last;
    // Each in the place of its resource: by that the next pass finds it.
    const objects = resources.map((raw, index) => {
      const known = raw === before.resources[index] ? before.objects[index] : undefined;
      return known ?? this.look(raw);
    });
    this.#last = { resources, objects };
    const changes = changesBetween(before.objects, objects);
    for (const known of changes.gone) this.#forget(known);
    return { objects, changes };
  }

  lastGoodOf({ metadata }: Known): Accepted | undefined {
    return this.#lastGood.get(metadata.uid);
  }

  accept({ metadata }: Known, accepted: Accepted): void {
    this.#lastGood.set(metadata.uid, accepted);
  }

  /** Whether one request could be subject to too many limits, were all these policies of one domain in force. */
  isCrowded(members: readonly ValidPolicy[]): boolean {
    const [first, second] = members;
    // One policy alone was validated.
    if (first === undefined || second === undefined) return false;
    const known = this.#domains.get(first);
    if (known !== undefined && isSameList(known.members, members)) return known.isCrowded;
    const isCrowded = mostLimitsPerRequest(members) > MAX_LIMITS_PER_REQUEST;
    this.#domains.set(first, { members, isCrowded });
    return isCrowded;
  }

  #forget(gone: Known): void {
    const { uid } = gone.metadata;
    // Else it is the same object, edited.
    if (this.#objects.get(uid) !== gone) return;
    this.#objects.delete(uid);
    this.#lastGood.delete(uid);
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
  if (one === other) return true;
  return one.generation === other.generation && isDeepStrictEqual(one.labels ?? {}, other.labels ?? {});
}

/** Policies are not changed in place: one that was edited is another object. */
function isSameList(one: readonly ValidPolicy[], other: readonly ValidPolicy[]): boolean {
  return one.length === other.length && one.every((policy, index) => policy === other[index]);
}
