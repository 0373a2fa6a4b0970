import { describe, expect, it } from 'vitest';
import { CompileCache } from '../../operator/compile-cache.ts';
import { computeDesired, type Desired } from '../../operator/desired.ts';
import type { ManifestEntry } from '../../policy/documents.ts';
import { hashOfKey } from '../../policy/api-key.ts';
import type { RawResource } from '../../policy/resource.ts';

const NOTHING = new Map<string, ManifestEntry>();

function aResource(
  kind: RawResource['kind'],
  name: string,
  spec: unknown,
  metadata: Partial<RawResource['metadata']> = {},
): RawResource {
  const namespace = kind === 'SystemHealth' ? '' : 'shop';
  return {
    kind,
    metadata: {
      namespace,
      name,
      uid: `uid-${name}`,
      generation: 1,
      creationTimestamp: '2026-01-01T00:00:00Z',
      ...metadata,
    },
    spec,
  };
}

const rules = (count: number, limits = 4) =>
  Array.from({ length: count }, (_, i) => ({
    name: `rule-${i}`,
    countBy: ['consumer'],
    algorithm: 'TokenBucket',
    limits: Array.from({ length: limits }, (_unused, n) => ({ windowSeconds: n + 1, requests: 5 })),
  }));

const aPolicy = (
  name: string,
  spec: unknown = { rules: rules(1) },
  metadata: Partial<RawResource['metadata']> = {},
): RawResource => aResource('RateLimitPolicy', name, spec, metadata);

const BAD = { rules: [] };

type Entries = ReadonlyMap<string, ManifestEntry>;

const compute = (
  resources: readonly RawResource[],
  entries: Entries = NOTHING,
  cache: CompileCache = new CompileCache(),
): Desired => computeDesired(resources, { entries, documents: new Map() }, cache);

/** The entries of a first round, as published with revision 5. */
function published(resources: readonly RawResource[]): Map<string, ManifestEntry> {
  return new Map([...compute(resources).entries].map(([id, entry]) => [id, { ...entry, revision: 5 }]));
}

describe('what should be in force', () => {
  it('holds an entry and a document for every valid policy and health object', () => {
    const desired = compute([
      aPolicy('one'),
      aResource('SystemHealth', 'main', { mode: 'NORMAL' }),
      aResource('Consumer', 'c', {}),
    ]);
    expect([...desired.entries.keys()].toSorted()).toEqual(['RateLimitPolicy/shop/one', 'SystemHealth//main']);
    for (const entry of desired.entries.values()) expect(desired.documents.has(entry.document)).toBe(true);
    expect(desired.consumers.map(({ metadata }) => metadata.name)).toEqual(['c']);
    expect(desired.problems.size).toBe(0);
  });

  it('keeps the revision of what has not changed, and asks for a new one for what has', () => {
    const inForce = published([aPolicy('one'), aPolicy('two')]);
    const edited = aPolicy('two', { rules: rules(2) }, { generation: 2 });
    const { entries } = compute([aPolicy('one'), edited], inForce);
    expect(entries.get('RateLimitPolicy/shop/one')?.revision).toBe(5);
    expect(entries.get('RateLimitPolicy/shop/two')).toMatchObject({ revision: 0, generation: 2 });
  });

  it('keeps the last good entry of a policy whose edit is invalid', () => {
    const inForce = published([aPolicy('one')]);
    const desired = compute([aPolicy('one', BAD, { generation: 2 })], inForce);
    expect(new Map(desired.entries)).toEqual(inForce);
    expect(desired.problems.get('RateLimitPolicy/shop/one')?.[0]).toMatchObject({ path: 'spec.rules' });
  });

  it('does not let an invalid object inherit what another one of its name had in force', () => {
    const inForce = published([aPolicy('one')]);
    const { entries } = compute([aPolicy('one', BAD, { uid: 'made anew' })], inForce);
    expect(entries.size).toBe(0);
  });

  it('drops what was deleted', () => {
    expect(compute([], published([aPolicy('one')])).entries.size).toBe(0);
  });

  it('refuses the younger policy when two together could exceed the limits of one request', () => {
    const older = aPolicy('z-older', { rules: rules(3) }, { creationTimestamp: '2025-01-01T00:00:00Z' });
    const younger = aPolicy('a-younger', { rules: rules(2) });
    const { entries, problems } = compute([younger, older]);
    expect([...entries.keys()]).toEqual(['RateLimitPolicy/shop/z-older']);
    expect(problems.get('RateLimitPolicy/shop/a-younger')?.[0]).toMatchObject({ reason: 'TooManyLimits' });
  });

  it('lets policies of different domains have as many limits each as they may', () => {
    const other = aPolicy('other', { domain: 'shop.other', rules: rules(4) });
    expect(compute([aPolicy('one', { rules: rules(4) }), other]).problems.size).toBe(0);
  });

  it('refuses a key of an older Consumer without saying whose it is', () => {
    const apiKeyHashes = [`sha256:${hashOfKey('shared')}`];
    const older = aResource(
      'Consumer',
      'owner-of-the-key',
      { apiKeyHashes },
      { creationTimestamp: '2025-01-01T00:00:00Z' },
    );
    const { consumers, problems } = compute([aResource('Consumer', 'late', { apiKeyHashes }), older]);
    expect(consumers.map(({ metadata }) => metadata.name)).toEqual(['owner-of-the-key']);
    const [problem] = problems.get('Consumer/shop/late') ?? [];
    expect(problem).toMatchObject({ path: 'spec.apiKeyHashes[0]', reason: 'Conflicted' });
    expect(JSON.stringify(problem)).not.toContain('owner-of-the-key');
  });

  it('refuses the edit, and not a neighbour that is in force, when an older policy grows too large', () => {
    const cache = new CompileCache();
    const older = aPolicy('a', { rules: rules(2) }, { creationTimestamp: '2025-01-01T00:00:00Z' });
    const neighbour = aPolicy('b', { rules: rules(2) });
    const first = compute([older, neighbour], NOTHING, cache);
    const inForce = new Map([...first.entries].map(([id, entry]) => [id, { ...entry, revision: 5 }]));
    const grown = aPolicy('a', { rules: rules(4) }, { creationTimestamp: '2025-01-01T00:00:00Z', generation: 2 });
    const { entries, problems } = compute([grown, neighbour], inForce, cache);
    expect(new Map(entries)).toEqual(inForce);
    expect([...problems.keys()]).toEqual(['RateLimitPolicy/shop/a']);
  });

  it('does not give away the key that a Consumer keeps while its edit is refused', () => {
    const cache = new CompileCache();
    const key = (name: string): string => `sha256:${hashOfKey(name)}`;
    const holder = aResource('Consumer', 'holder', { apiKeyHashes: [key('k')] });
    compute([holder], NOTHING, cache);
    const broken = aResource('Consumer', 'holder', { apiKeyHashes: ['no hash'] }, { generation: 2 });
    const late = aResource(
      'Consumer',
      'late',
      { apiKeyHashes: [key('k')] },
      { creationTimestamp: '2026-02-01T00:00:00Z' },
    );
    const { consumers, problems } = compute([broken, late], NOTHING, cache);
    expect(consumers).toEqual([]);
    expect(problems.get('Consumer/shop/late')?.[0]).toMatchObject({ reason: 'Conflicted' });
  });

  it('compiles an unchanged object once', () => {
    const cache = new CompileCache();
    const first = compute([aPolicy('one')], NOTHING, cache);
    const second = compute([aPolicy('one')], NOTHING, cache);
    const [document] = first.documents.values();
    expect([...second.documents.values()][0]).toBe(document);
    compute([], NOTHING, cache);
    expect(cache.size).toBe(0);
  });
});
