import { randomUUID } from 'node:crypto';
import type { RedisClient } from '../store/connection.ts';
import { type ManifestEntry, type StoredDocument, UnreadableDocument } from '../policy/documents.ts';
import { ManifestBuilder } from '../policy/manifest.ts';
import { type ConfigurationIdentity, isNewer } from '../policy/snapshot.ts';
import { listPods, type PodReport } from '../store/acknowledgements.ts';
import {
  findDocuments,
  findUnsafeDocuments,
  type Head,
  type LoadedManifest,
  publish,
  readHead,
  readManifest,
  writeDocuments,
} from '../store/configuration.ts';
import { readKeySetState } from '../store/consumer-keys.ts';
import { StoreError } from '../store/errors.ts';
import type { Names } from '../store/names.ts';

/** What head refers to, as this operator read or wrote it. */
export type Published = {
  readonly identity: ConfigurationIdentity;
  readonly entries: ReadonlyMap<string, ManifestEntry>;
  /** Names of all documents that the manifest needs, index and shards included. */
  readonly references: ReadonlySet<string>;
  /** Texts of documents, as far as they are not lost. */
  readonly documents: ReadonlyMap<string, StoredDocument>;
};

/** What is to be in force, with the texts of all documents. */
type Wanted = {
  readonly wanted: ReadonlyMap<string, ManifestEntry>;
  readonly documents: ReadonlyMap<string, StoredDocument>;
};

export type PublishOutcome = { readonly published: Published; readonly isNew: boolean };

const NOTHING: ReadonlyMap<string, ManifestEntry> = new Map();
const REMEMBERED = 256;

/** Moves head, fenced by the epoch of this operator, and remembers what it published. */
export class Publisher {
  readonly #redis: RedisClient;
  readonly #names: Names;
  readonly #owner: string;
  readonly #claimEpoch: (floor: number) => Promise<number>;
  #epoch: number | undefined;
  #published: Published | undefined;
  #highestRevision = 0;
  /** Redis lost some of what is published: nothing is taken for being there. */
  #isDoubted = false;
  readonly #manifests = new ManifestBuilder();
  /** Manifests by the revision that published them, so that an acknowledgement can be told from a stray one. */
  readonly #history = new Map<string, string>();

  /** @param claimEpoch an epoch above the highest that is known, which is this operator's own from then on. */
  constructor(redis: RedisClient, names: Names, owner: string, claimEpoch: (floor: number) => Promise<number>) {
    this.#redis = redis;
    this.#names = names;
    this.#owner = owner;
    this.#claimEpoch = claimEpoch;
  }

  get published(): Published | undefined {
    return this.#published;
  }

  get epoch(): number {
    return this.#epoch ?? 0;
  }

  /**
   * Whether head is not what this operator published last (Redis lost data, failed over, or somebody else wrote), or a
   * pod holds something newer, which it would not give up for what head says.
   */
  async isDisplaced(pods: readonly PodReport[]): Promise<boolean> {
    const head = await readHead(this.#redis, this.#names);
    const published = this.#published;
    if (head === undefined || published === undefined || keyOf(head) !== keyOf(published.identity)) return true;
    return isOvertaken(published.identity, pods);
  }

  async isOwnedByOther(): Promise<boolean> {
    const head = await readHead(this.#redis, this.#names);
    return head !== undefined && head.owner !== this.#owner;
  }

  /**
   * How many documents that are published Redis does not hold, or not for long. If there are any, the next publish
   * writes everything again.
   */
  async audit(): Promise<number> {
    const references = this.#published?.references ?? new Set<string>();
    const unsafe = await findUnsafeDocuments(this.#redis, this.#names, [...references]);
    if (unsafe.length > 0) this.#isDoubted = true;
    return unsafe.length;
  }

  /** Whether this is a configuration that this operator knows to have published, or to have found. */
  knows(identity: ConfigurationIdentity): boolean {
    return this.#history.get(keyOf(identity)) === identity.manifest;
  }

  /**
   * What is in force, read from Redis if it is not what this operator last saw. Objects that are not valid any more
   * keep what is in force, so this comes before anything is computed. Throws StoreError.
   */
  async readInForce(): Promise<ReadonlyMap<string, ManifestEntry>> {
    const head = await readHead(this.#redis, this.#names);
    if (head !== undefined && head.owner !== this.#owner) {
      throw new StoreError('OWNED_BY_OTHER', `this Redis is configured by "${head.owner}", not by "${this.#owner}"`);
    }
    // What this process knows is newer than what a fail-over or a flush left behind.
    if (this.#published !== undefined) return this.#published.entries;
    if (head === undefined) return NOTHING;
    const manifest = await this.#readManifest(head.manifest);
    if (manifest === undefined) return NOTHING;
    const { entries, parts } = manifest;
    const references = new Set([...parts, ...[...entries.values()].map((entry) => entry.document)]);
    const documents = await this.#read([...entries.values()].map(({ document }) => document));
    this.#remember({ identity: identityOf(head), entries, references, documents });
    return entries;
  }

  /**
   * Puts the entries in force, unless head already says exactly that. Documents of entries that are kept from before
   * need not be given: they are remembered, or in Redis. One that is in neither place is lost, and its entry with it.
   * Throws StoreError.
   */
  async publish(
    entries: ReadonlyMap<string, ManifestEntry>,
    compiled: ReadonlyMap<string, StoredDocument>,
  ): Promise<PublishOutcome> {
    const { wanted, documents } = await this.#withKept(entries, compiled);
    const head = await readHead(this.#redis, this.#names);
    const { pods } = await listPods(this.#redis, this.#names);
    const published = this.#published;
    const isCurrent =
      published !== undefined &&
      head !== undefined &&
      head.epoch === this.#epoch &&
      keyOf(head) === keyOf(published.identity) &&
      !this.#isDoubted &&
      !isOvertaken(published.identity, pods);
    const isChanged =
      wanted.size !== published?.entries.size || [...wanted.values()].some((entry) => entry.revision === 0);
    if (isCurrent && !isChanged) return { published, isNew: false };
    return { published: await this.#move(head, pods, { wanted, documents }), isNew: true };
  }

  /**
   * The next identity is above head, every acknowledgement and this operator's memory, whichever of them was lost. The
   * epoch is this operator's own once it has published with it.
   */
  async #nextIdentity(
    head: Head | undefined,
    pods: readonly PodReport[],
  ): Promise<Omit<ConfigurationIdentity, 'manifest'>> {
    const known = [
      head,
      this.#published?.identity,
      ...pods.map(({ acknowledgement }) => acknowledgement.identity),
    ].filter((identity) => identity !== undefined);
    const highest = Math.max(this.#highestRevision, 0, ...known.map((identity) => identity.revision));
    const epoch = this.#epoch ?? (await this.#claim(known));
    return { incarnation: head?.incarnation ?? randomUUID(), epoch, revision: highest + 1 };
  }

  /** Above whatever is in Redis: the keys may have outlived head. */
  async #claim(known: readonly { readonly epoch: number }[]): Promise<number> {
    const keys = await readKeySetState(this.#redis, this.#names);
    return this.#claimEpoch(Math.max(0, keys?.epoch ?? 0, ...known.map(({ epoch }) => epoch)));
  }

  async #move(head: Head | undefined, pods: readonly PodReport[], { wanted, documents }: Wanted): Promise<Published> {
    const next = await this.#nextIdentity(head, pods);
    const entries = new Map(
      [...wanted].map(([id, entry]) => [id, entry.revision === 0 ? { ...entry, revision: next.revision } : entry]),
    );
    const manifest = this.#manifests.build(entries.values());
    const identity = { ...next, manifest: manifest.index.name };
    const parts = [manifest.index, ...manifest.shards];
    const references = new Set([
      ...parts.map((part) => part.name),
      ...[...entries.values()].map((entry) => entry.document),
    ]);
    const before = await this.#referencesOf(head);
    const isThere = (name: string): boolean => before.isTrusted && before.names.has(name);
    await writeDocuments(
      this.#redis,
      this.#names,
      [...parts, ...documents.values()].filter(({ name }) => !isThere(name)),
    );
    await publish(this.#redis, this.#names, {
      owner: this.#owner,
      seen: head,
      next: identity,
      becoming: [...references].filter((name) => !isThere(name)),
      leaving: [...before.names].filter((name) => !references.has(name)),
    });
    this.#epoch = next.epoch;
    this.#isDoubted = false;
    const texts = new Map([...documents, ...parts.map((part) => [part.name, part] as const)]);
    return this.#remember({ identity, entries, references, documents: texts });
  }

  /** The texts of kept entries' documents; entries whose document is lost are left out. */
  async #withKept(
    entries: ReadonlyMap<string, ManifestEntry>,
    compiled: ReadonlyMap<string, StoredDocument>,
  ): Promise<Wanted> {
    const kept = [...entries].filter(([, { document }]) => !compiled.has(document));
    if (kept.length === 0) return { wanted: entries, documents: compiled };
    const known = new Map(kept.map(([, { document }]) => [document, this.#published?.documents.get(document)]));
    const found = await this.#read([...known].flatMap(([name, stored]) => (stored === undefined ? [name] : [])));
    const wanted = new Map(entries);
    const documents = new Map(compiled);
    for (const [id, { document }] of kept) {
      const stored = known.get(document) ?? found.get(document);
      if (stored === undefined) wanted.delete(id);
      else documents.set(document, stored);
    }
    return { wanted, documents };
  }

  async #read(documents: readonly string[]): Promise<Map<string, StoredDocument>> {
    const texts = await findDocuments(this.#redis, this.#names, documents);
    return new Map([...texts].map(([name, text]) => [name, { name, text }]));
  }

  /**
   * What head refers to. If it is not what this process remembers, after a fail-over or a restart, then none of it is
   * trusted to be there: every document is written and checked again.
   */
  async #referencesOf(head: Head | undefined): Promise<{ names: ReadonlySet<string>; isTrusted: boolean }> {
    if (head === undefined) return { names: new Set(), isTrusted: false };
    if (this.#published !== undefined && keyOf(this.#published.identity) === keyOf(head)) {
      return { names: this.#published.references, isTrusted: this.#epoch === head.epoch && !this.#isDoubted };
    }
    // If it cannot be read, nobody can load it: its documents have no time to live and stay, which harms nobody.
    const manifest = await this.#readManifest(head.manifest);
    const entries = [...(manifest?.entries.values() ?? [])];
    return {
      names: new Set([...(manifest?.parts ?? []), ...entries.map((entry) => entry.document)]),
      isTrusted: false,
    };
  }

  /** Undefined if a part of it is lost, or of a format that this version does not read. */
  async #readManifest(name: string): Promise<LoadedManifest | undefined> {
    try {
      return await readManifest(this.#redis, this.#names, name);
    } catch (error) {
      if (error instanceof UnreadableDocument) return undefined;
      if (error instanceof StoreError && error.code === 'MISSING_DOCUMENT') return undefined;
      throw error;
    }
  }

  #remember(published: Published): Published {
    const { identity } = published;
    this.#published = published;
    this.#highestRevision = Math.max(this.#highestRevision, identity.revision);
    this.#history.set(keyOf(identity), identity.manifest);
    const [oldest] = this.#history.keys();
    if (this.#history.size > REMEMBERED && oldest !== undefined) this.#history.delete(oldest);
    return published;
  }
}

/** Whether some pod of this incarnation holds a later configuration. */
function isOvertaken(identity: ConfigurationIdentity, pods: readonly PodReport[]): boolean {
  return pods.some(({ acknowledgement }) => {
    const held = acknowledgement.identity;
    return held !== undefined && held.incarnation === identity.incarnation && isNewer(held, identity);
  });
}

const keyOf = ({ incarnation, epoch, revision }: ConfigurationIdentity): string =>
  `${incarnation}/${epoch}/${revision}`;

const identityOf = ({ incarnation, epoch, revision, manifest }: Head): ConfigurationIdentity => ({
  incarnation,
  epoch,
  revision,
  manifest,
});
