import { FORMAT, type ManifestEntry, type StoredDocument, toStored } from './documents.ts';
import { digest } from './hash.ts';

const SHARDS = 64;

/** The stored form of a manifest: one index, and the shards that it names. */
export type Manifest = { readonly index: StoredDocument; readonly shards: readonly StoredDocument[] };

/** A shard, and the very entries that it was made from. */
type Part = { readonly stored: StoredDocument; readonly entries: ReadonlySet<ManifestEntry> };

/**
 * Splits the entries over shards by the hash of what they describe, so that one edit among 10,000 policies rewrites one
 * shard and the index. The same entries give the same documents, in whatever order they come.
 */
export function buildManifest(entries: Iterable<ManifestEntry>): Manifest {
  return new ManifestBuilder().build(entries);
}

/** Builds one manifest after the other: shards whose entries are the same objects as before are not made again. */
export class ManifestBuilder {
  #parts: ReadonlyMap<number, Part> = new Map();

  build(entries: Iterable<ManifestEntry>): Manifest {
    const places = new Map<ManifestEntry, number>();
    for (const [number, part] of this.#parts) for (const entry of part.entries) places.set(entry, number);
    const parts = new Map<number, Part>();
    for (const [number, members] of Map.groupBy(entries, (entry) => places.get(entry) ?? shardOf(entry))) {
      const known = this.#parts.get(number);
      parts.set(number, known !== undefined && isSame(known, members) ? known : toPart(members));
    }
    this.#parts = parts;
    const shards = [...parts].toSorted(([one], [other]) => one - other).map(([, { stored }]) => stored);
    return { index: toStored({ format: FORMAT, requires: [], shards: shards.map((shard) => shard.name) }), shards };
  }
}

function isSame({ entries }: Part, members: readonly ManifestEntry[]): boolean {
  return entries.size === members.length && members.every((entry) => entries.has(entry));
}

function toPart(members: readonly ManifestEntry[]): Part {
  const stored = toStored({ format: FORMAT, requires: [], entries: members.toSorted(byIdentity).map(inOrder) });
  return { stored, entries: new Set(members) };
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
