import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type ManifestEntry, readIndex, readShard } from '../../policy/documents.ts';
import { buildManifest, entryId, type Manifest, ManifestBuilder } from '../../policy/manifest.ts';
import { ShardedMap } from '../../policy/sharded-map.ts';

function anEntry(name: string, entry: Partial<ManifestEntry> = {}): ManifestEntry {
  return {
    kind: 'RateLimitPolicy',
    namespace: 'payments',
    name,
    uid: `uid-${name}`,
    generation: 1,
    revision: 1,
    document: `document-of-${name}`,
    ...entry,
  };
}

const entries = (count: number): ManifestEntry[] => Array.from({ length: count }, (_, index) => anEntry(`p${index}`));
const entriesOf = (manifest: Manifest): ManifestEntry[] =>
  manifest.shards.flatMap(({ text }) => readShard(text).entries);
const namesOf = (manifest: Manifest): string[] => manifest.shards.map(({ name }) => name);

describe('a manifest', () => {
  it('has every entry exactly once', () => {
    const all = entries(500);
    const byId = (some: ManifestEntry[]): ManifestEntry[] =>
      some.toSorted((one, other) => (entryId(one) < entryId(other) ? -1 : 1));
    expect(byId(entriesOf(buildManifest(all)))).toEqual(byId(all));
  });

  it('names its shards in its index', () => {
    const manifest = buildManifest(entries(500));
    expect(readIndex(manifest.index.text).shards).toEqual(namesOf(manifest));
    expect(manifest.shards.length).toBeLessThanOrEqual(64);
  });

  it('may be empty', () => {
    const manifest = buildManifest([]);
    expect(manifest.shards).toEqual([]);
    expect(readIndex(manifest.index.text).shards).toEqual([]);
  });

  it('is the same, byte by byte, in whatever order its entries come', () => {
    const all = entries(100);
    const orders = fc.shuffledSubarray(all, { minLength: all.length });
    fc.assert(
      fc.property(orders, (shuffled) => {
        expect(buildManifest(shuffled)).toEqual(buildManifest(all));
      }),
      { numRuns: 20 },
    );
  });

  it('is the same in whatever order the properties of its entries are, and whatever else they carry', () => {
    const { document, ...others } = anEntry('a');
    const turned = { document, ...others, comment: 'none of ours' };
    expect(buildManifest([turned])).toEqual(buildManifest([anEntry('a')]));
  });

  it.each([
    [
      'an edit',
      (all: ManifestEntry[]) => all.with(123, anEntry('p123', { generation: 2, revision: 9, document: 'new' })),
    ],
    ['a deletion', (all: ManifestEntry[]) => all.toSpliced(123, 1)],
    ['a new policy', (all: ManifestEntry[]) => [...all, anEntry('new')]],
  ])('has one small shard and the index rewritten by %s', (_title, change) => {
    const all = entries(10_000);
    const before = buildManifest(all);
    const after = buildManifest(change(all));
    const kept = new Set(namesOf(before));
    const rewritten = after.shards.filter(({ name }) => !kept.has(name));
    expect(rewritten).toHaveLength(1);
    expect(rewritten.flatMap(({ text }) => readShard(text).entries).length).toBeLessThan(all.length / 20);
    expect(after.shards).toHaveLength(before.shards.length);
    expect(after.index.name).not.toBe(before.index.name);
  });

  it('is the same whether it was built anew or from one before, whatever has changed', () => {
    const known = entries(40);
    const changed = known.map((entry) => ({ ...entry, generation: 2 }));
    const fresh = Array.from({ length: 10 }, (_, index) => anEntry(`new-${index}`));
    const some = fc.uniqueArray(fc.constantFrom(...known, ...changed, ...fresh), { selector: entryId });
    fc.assert(
      fc.property(fc.array(some, { minLength: 2, maxLength: 5 }), (steps) => {
        const builder = new ManifestBuilder();
        let map = ShardedMap.of<ManifestEntry>([]);
        for (const step of steps) {
          const wanted = new Map(step.map((entry) => [entryId(entry), entry]));
          map = map.with([...map.keys(), ...wanted.keys()].map((id) => [id, wanted.get(id)]));
          expect(builder.build(map)).toEqual(buildManifest(step));
        }
      }),
    );
  });

  it('tells objects of one name apart by their kind and namespace', () => {
    const same = [
      anEntry('a'),
      anEntry('a', { namespace: 'shop' }),
      anEntry('a', { kind: 'SystemHealth', namespace: '' }),
    ];
    expect(new Set(same.map(entryId)).size).toBe(3);
    expect(entriesOf(buildManifest(same))).toHaveLength(3);
  });
});
