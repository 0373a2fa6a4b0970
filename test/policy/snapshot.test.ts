import { describe, expect, it } from 'vitest';
import type { Document } from '../../policy/documents.ts';
import type { SystemHealthSpec } from '../../policy/schema/system-health.ts';
import { buildSnapshot } from '../../policy/build-snapshot.ts';
import { aHealthDocument, aPolicy, indexOf } from './builders.ts';

const IDENTITY = { incarnation: 'i', epoch: 2, revision: 7, manifest: 'm' };

describe('a snapshot', () => {
  it('knows the domains that have policies, and no others', () => {
    const documents = [aPolicy().document(), aPolicy().forDomain('payments.eu').document(), aHealthDocument()];
    const snapshot = buildSnapshot(IDENTITY, documents);
    expect([...snapshot.domains.keys()]).toEqual(['payments', 'payments.eu']);
    expect(snapshot.identity).toBe(IDENTITY);
  });

  it('has the policies of a domain in one order, in whatever order its documents come', () => {
    const documents = ['c', 'a', 'b'].map((name) => aPolicy().named(name).document());
    const orderOf = (all: typeof documents): string[] => indexOf(all).policies.map(({ id }) => id);
    expect(orderOf(documents)).toEqual(['payments/a', 'payments/b', 'payments/c']);
    expect(orderOf(documents.toReversed())).toEqual(orderOf(documents));
  });

  it('knows the tiers of all policies of a domain', () => {
    const index = indexOf([
      aPolicy().named('a').withTier('free').document(),
      aPolicy().named('b').withTier('free').withTier('pro').document(),
      aPolicy().named('c').forDomain('payments.eu').withTier('other').document(),
    ]);
    expect(index.tiers).toEqual(new Set(['free', 'pro']));
  });

  it('has the health objects that say DEGRADED by name, in whatever order they come', () => {
    const named = (name: string, spec: Partial<SystemHealthSpec> = {}) => ({ ...aHealthDocument(spec), name });
    const healths = [named('b'), named('c', { mode: 'NORMAL' }), named('a', { scope: { domains: ['payments.eu'] } })];
    const namesOf = (documents: readonly Document[]) =>
      buildSnapshot(IDENTITY, documents).healths.map(({ name }) => name);
    expect(namesOf(healths)).toEqual(['a', 'b']);
    expect(namesOf(healths.toReversed())).toEqual(['a', 'b']);
  });

  it('gives the counters of each domain a slot of their own', () => {
    const documents = [aPolicy().document(), aPolicy().forDomain('payments.eu').document()];
    expect(indexOf(documents).partition).not.toBe(indexOf(documents, 'payments.eu').partition);
  });
});
