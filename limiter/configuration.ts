import { nextSnapshot } from '../policy/build-snapshot.ts';
import type { ConfigurationIdentity, Snapshot } from '../policy/snapshot.ts';
import { type Documents, type DocumentSource, NO_DOCUMENTS, readDocumentsOf } from './documents.ts';
import { inSlices } from './slices.ts';

/** A snapshot, and the documents that it was made of. */
export type Configuration = { readonly snapshot: Snapshot; readonly documents: Documents };

export type LoadedConfiguration = Configuration & {
  /** Documents that were not held. */
  readonly fetched: number;
};

/**
 * The configuration after the held one: only what changed between them is read and indexed. What is held stays as it is,
 * whether this succeeds or not. Throws UnreadableDocument, and what the source throws.
 */
export async function loadConfiguration(
  identity: ConfigurationIdentity,
  held: Configuration | undefined,
  source: DocumentSource,
): Promise<LoadedConfiguration> {
  const { documents, change } = await readDocumentsOf(identity.manifest, held?.documents ?? NO_DOCUMENTS, source);
  const snapshot = await inSlices(nextSnapshot(held?.snapshot, identity, change), source.turns);
  return { snapshot, documents, fetched: change.added.length };
}

/** How many documents are in force. */
export function sizeOf(documents: Documents): number {
  let size = 0;
  for (const shard of documents.values()) size += shard.size;
  return size;
}
