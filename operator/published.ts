import type { ManifestEntry, StoredDocument } from '../policy/documents.ts';
import type { ShardedMap } from '../policy/sharded-map.ts';
import { type ConfigurationIdentity, isNewer } from '../policy/snapshot.ts';
import type { PodReport } from '../store/acknowledgements.ts';
import type { Head, LoadedManifest } from '../store/configuration.ts';

/** What head refers to, as this operator read or wrote it. */
export type Published = {
  readonly identity: ConfigurationIdentity;
  readonly entries: ShardedMap<ManifestEntry>;
  /** Names of the documents that the manifest consists of. */
  readonly parts: readonly string[];
  /** Texts of documents by name, as far as they are not lost. */
  readonly documents: ShardedMap<StoredDocument>;
};

/** Names of all documents that a manifest needs, itself included. */
export function referencesOf({ parts, entries }: LoadedManifest): readonly string[] {
  return [...parts, ...[...entries.values()].map(({ document }) => document)];
}

/** Whether some pod of this incarnation holds a later configuration. */
export function isOvertaken(identity: ConfigurationIdentity, pods: readonly PodReport[]): boolean {
  return pods.some(({ acknowledgement }) => {
    const held = acknowledgement.identity;
    return held !== undefined && held.incarnation === identity.incarnation && isNewer(held, identity);
  });
}

export const keyOf = ({ incarnation, epoch, revision }: ConfigurationIdentity): string =>
  `${incarnation}/${epoch}/${revision}`;

export const identityOf = ({ incarnation, epoch, revision, manifest }: Head): ConfigurationIdentity => ({
  incarnation,
  epoch,
  revision,
  manifest,
});
