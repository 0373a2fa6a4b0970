import { FORMAT, type ManifestEntry, type StoredDocument, toStored } from './documents.ts';
import { type Shard, ShardedMap } from './sharded-map.ts';

/** The stored form of a manifest: one index, and the shards that it names. */
export type Manifest = { readonly index: StoredDocument; readonly shards: readonly StoredDocument[] };

/**
 * Splits the entries over shards by the hash of what they describe, so that one edit among 10,000 policies rewrites one
 * shard and the index. The same entries give the same documents, in whatever order they come.
 */
export function buildManifest(entries: Iterable<ManifestEntry>): Manifest {
  const all = [...entries].map((entry) => [entryId(entry), entry] as const);
  return new ManifestBuilder().build(ShardedMap.of(all));
}

/** Builds one manifest after the other: shards that are the same as before are not made again. */
export class ManifestBuilder {
  readonly #stored = new WeakMap<Shard<ManifestEntry>, StoredDocument>();

  /** @param entries by `entryId` */
  build(entries: ShardedMap<ManifestEntry>): Manifest {
    const shards = entries.shards.filter((shard) => shard.size > 0).map((shard) => this.#store(shard));
    return { index: toStored({ format: FORMAT, requires: [], shards: shards.map((shard) => shard.name) }), shards };
  }

  #store(shard: Shard<ManifestEntry>): StoredDocument {
    const known = this.#stored.get(shard);
    if (known !== undefined) return known;
    const entries = [...shard.values()].toSorted(byIdentity).map(inOrder);
    const stored = toStored({ format: FORMAT, requires: [], entries });
    this.#stored.set(shard, stored);
    return stored;
  }
}

export function entryId(entry: Pick<ManifestEntry, 'kind' | 'namespace' | 'name'>): string {
  return `${entry.kind}/${entry.namespace}/${entry.name}`;
}

function byIdentity(one: ManifestEntry, other: ManifestEntry): number {
  return entryId(one) < entryId(other) ? -1 : 1;
}

/** Properties in one order: the text of a document is what is hashed. */
function inOrder(entry: ManifestEntry): ManifestEntry {
  const { kind, namespace, name, uid, generation, revision, document } = entry;
  return { kind, namespace, name, uid, generation, revision, document };
}
