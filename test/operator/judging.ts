// How tests let an operator judge a set of objects as a whole, round after round.
import { expect } from 'vitest';
import { CompileCache } from '../../operator/compile-cache.ts';
import { computeDesired, type Desired } from '../../operator/desired.ts';
import type { ManifestEntry, StoredDocument } from '../../policy/documents.ts';
import type { Metadata, Problem, RawResource } from '../../policy/resource.ts';
import type { RateLimitOverrideSpec } from '../../policy/schema/rate-limit-override.ts';
import type { Rule } from '../../policy/schema/rate-limit-policy.ts';

const NOTHING = new Map<string, ManifestEntry>();

export const object = (
  kind: RawResource['kind'],
  name: string,
  spec: unknown,
  metadata: Partial<Metadata> = {},
): RawResource => ({
  kind,
  metadata: {
    namespace: 'shop',
    name,
    uid: `uid-${metadata.namespace ?? 'shop'}-${name}`,
    generation: 1,
    creationTimestamp: '2026-01-01T00:00:00Z',
    ...metadata,
  },
  spec,
});

export const limits = (count: number): Rule['limits'] =>
  Array.from({ length: count }, (_, index) => ({ windowSeconds: index + 1, requests: 5 }));
export const rule = (name: string, fields: Partial<Rule> = {}): unknown => ({
  name,
  countBy: ['consumer'],
  algorithm: 'TokenBucket',
  ...(fields.limitsFrom === undefined ? { limits: limits(1) } : {}),
  ...fields,
});
export const policy = (name: string, spec: object = {}, metadata: Partial<Metadata> = {}): RawResource =>
  object('RateLimitPolicy', name, { rules: [rule('r')], ...spec }, metadata);
export const domain = (spec: object = {}, name = 'shop', metadata: Partial<Metadata> = {}): RawResource =>
  object('RateLimitDomain', name, spec, metadata);
export const override = (spec: Partial<RateLimitOverrideSpec> = {}, name = 'override'): RawResource =>
  object('RateLimitOverride', name, {
    policyRef: { name: 'limits' },
    subject: { consumer: 'key:acme' },
    action: 'Block',
    expiresAt: '2026-12-01T00:00:00Z',
    ...spec,
  });
export const consumer = (name: string, spec: object = {}, metadata: Partial<Metadata> = {}): RawResource =>
  object('Consumer', name, spec, metadata);

export const OTHER = { namespace: 'team' };
export const LATER = { creationTimestamp: '2026-02-01T00:00:00Z' };
export const granting = (...namespaces: string[]): object => ({
  grants: namespaces.map((namespace) => ({ namespace })),
});

/** An operator that goes on from round to round, with what it published in force. */
export class Operator {
  inForce: ReadonlyMap<string, ManifestEntry> = NOTHING;
  #cache = new CompileCache();
  #revision = 0;
  /** What is in Redis. */
  readonly #documents = new Map<string, StoredDocument>();

  /** Judges them while it cannot publish. */
  look(...resources: readonly RawResource[]): Desired {
    return computeDesired(resources, { entries: this.inForce, documents: this.#documents }, this.#cache);
  }

  judge(...resources: readonly RawResource[]): Desired {
    const desired = this.look(...resources);
    for (const [name, document] of desired.documents) this.#documents.set(name, document);
    this.#revision += 1;
    const entries = [...desired.entries].map(([id, entry]): [string, ManifestEntry] => [
      id,
      { ...entry, revision: entry.revision === 0 ? this.#revision : entry.revision },
    ]);
    this.inForce = new Map(entries);
    return desired;
  }

  /** What an operator says that starts now, without putting it in force. */
  judgeAfresh(...resources: readonly RawResource[]): Desired {
    return computeDesired(resources, { entries: this.inForce, documents: this.#documents }, new CompileCache());
  }

  /** It forgets all but what is in Redis. */
  restart(): this {
    this.#cache = new CompileCache();
    return this;
  }

  /** Redis has lost what the entries in force refer to. */
  loseDocuments(): this {
    this.#documents.clear();
    return this;
  }
}

export const judge = (...resources: readonly RawResource[]): Desired => new Operator().judge(...resources);

export function problemsOf(desired: Desired, id: string): readonly Problem[] {
  return desired.problems.get(id) ?? [];
}

/** The only problem of the only object that has any. */
export function theProblem(desired: Desired): readonly [string, Partial<Problem>] {
  const found = [...desired.problems].flatMap(([id, problems]) => problems.map((problem) => [id, problem] as const));
  expect(found).toHaveLength(1);
  return found[0] ?? ['', {}];
}

export const edited = (resource: RawResource, spec: object): RawResource => ({
  ...resource,
  metadata: { ...resource.metadata, generation: resource.metadata.generation + 1 },
  spec,
});
