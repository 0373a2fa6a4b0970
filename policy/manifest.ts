import { FORMAT, type ManifestEntry, type StoredDocument, toStored } from './documents.ts';
import { digest } from './hash.ts';

const SHARDS = 64;

/** The stored form of a manifest: one index, and the shards that it names. */
export type Manifest = { readonly index: StoredDocument; readonly shards: readonly StoredDocument[] };

/**
 * Splits the entries over shards by the hash of what they describe, so that one edit among 10,000 policies rewrites one
 * shard and the index. The same entries give the same documents, in whatever order they come.
 */
export function buildManifest(entries: Iterable<ManifestEntry>): Manifest {
  const byShard = new Map<number, ManifestEntry[]>();
  for (const entry of entries) {
    const shard = shardOf(entry);
    const members = byShard.get(shard);
    if (members === undefined) byShard.set(shard, [entry]);
    else members.push(entry);
  }
  const shards = [...byShard]
    .toSorted(([one], [other]) => one - other)
    .map(([, members]) =>
      toStored({ format: FORMAT, requires: [], entries: members.toSorted(byIdentity).map(inOrder) }),
    );
  return { index: toStored({ format: FORMAT, requires: [], shards: shards.map((shard) => shard.name) }), shards };
}

export function entryId(entry: Pick<ManifestEntry, 'kind' | 'namespace' | 'name'>): string {
  return `${entry.kind}/${entry.namespace}/${entry.name}`;
}

function shardOf(entry: ManifestEntry): number {
  return Buffer.from(digest(entryId(entry)), 'base64url').readUInt8(0) % SHARDS;
}

function byIdentity(one: ManifestEntry, other: ManifestEntry): number {
  return entryId(one) < entryId(other) ? -1 : 1;
}

/** Properties in one order: the text of a document is what is hashed. */
function inOrder(entry: ManifestEntry): ManifestEntry {
  const { kind, namespace, name, uid, generation, revision, document } = entry;
  return { kind, namespace, name, uid, generation, revision, document };
}
