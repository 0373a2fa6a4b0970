import { randomUUID } from 'node:crypto';
import type { RedisClient } from '../store/connection.ts';
import type { ManifestEntry, StoredDocument } from '../policy/documents.ts';
import { entryId, ManifestBuilder } from '../policy/manifest.ts';
import { ShardedMap } from '../policy/sharded-map.ts';
import type { ConfigurationIdentity } from '../policy/snapshot.ts';
import { listPods, type PodReport } from '../store/acknowledgements.ts';
import {
  findDocuments,
  findManifest,
  findUnsafeDocuments,
  type Head,
  readHead,
  removeDamagedDocuments,
  writeDocuments,
} from '../store/configuration.ts';
import { readKeySetState } from '../store/consumer-keys.ts';
import { StoreError } from '../store/errors.ts';
import type { Names } from '../store/names.ts';
import { publish, readHeadState } from '../store/publish.ts';
import { Leftovers } from './leftovers.ts';
import { identityOf, isOvertaken, keyOf, type Published, referencesOf } from './published.ts';

/** What is to be in force, where head is, and what it is to become. */
type Change = {
  readonly entries: ShardedMap<ManifestEntry>;
  /** Of entries that may not be in Redis, by the identity of the entry. */
  readonly documents: ReadonlyMap<string, StoredDocument>;
  readonly head: Head | undefined;
  readonly next: Omit<ConfigurationIdentity, 'manifest'>;
};

export type PublishOutcome = { readonly published: Published; readonly isNew: boolean };

const NOTHING = ShardedMap.of<ManifestEntry>([]);
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
  readonly #leftovers: Leftovers;
  readonly #manifests = new ManifestBuilder();
  /** Manifests by the revision that published them, so that an acknowledgement can be told from a stray one. */
  readonly #history = new Map<string, string>();

  /** @param claimEpoch an epoch above the highest that is known, which is this operator's own from then on. */
  constructor(redis: RedisClient, names: Names, owner: string, claimEpoch: (floor: number) => Promise<number>) {
    this.#redis = redis;
    this.#names = names;
    this.#owner = owner;
    this.#leftovers = new Leftovers(redis, names, owner);
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
   * How many documents that are published Redis does not hold as they are, or not for long. If there are any, the next
   * publish writes everything again.
   */
  async audit(): Promise<number> {
    const published = this.#published;
    if (published === undefined) return 0;
    const damaged = await removeDamagedDocuments(this.#redis, this.#names, [...published.documents.values()]);
    const unsafe = await findUnsafeDocuments(this.#redis, this.#names, referencesOf(published));
    const lost = new Set([...damaged, ...unsafe]).size;
    if (lost > 0) this.#isDoubted = true;
    return lost;
  }

  /** Whether this is a configuration that this operator knows to have published, or to have found. */
  knows(identity: ConfigurationIdentity): boolean {
    return this.#history.get(keyOf(identity)) === identity.manifest;
  }

  /**
   * What is in force, read from Redis if this operator has seen nothing of it. Objects that are not valid any more keep
   * what is in force, so this comes before anything is computed. Throws StoreError.
   */
  async readInForce(): Promise<ReadonlyMap<string, ManifestEntry>> {
    // What this process knows is newer than what a fail-over or a flush left behind.
    if (this.#published !== undefined) return this.#published.entries;
    const head = await this.#readHead();
    if (head === undefined) return NOTHING;
    const manifest = await findManifest(this.#redis, this.#names, head.manifest);
    if (manifest === undefined) return NOTHING;
    const entries = ShardedMap.of(manifest.entries);
    const documents = await this.#read([...entries.values()].map(({ document }) => document));
    this.#remember({ identity: identityOf(head), entries, parts: manifest.parts, documents: ShardedMap.of(documents) });
    return entries;
  }

  /**
   * Puts the entries in force, unless head already says exactly that. Documents of entries that are kept from before
   * need not be given: they are remembered, or in Redis. One that is in neither place is lost, and its entry with it.
   * What has left is kept until `settle`. Throws StoreError.
   */
  async publish(
    entries: ReadonlyMap<string, ManifestEntry>,
    compiled: ReadonlyMap<string, StoredDocument>,
  ): Promise<PublishOutcome> {
    const head = await this.#settleHead();
    const { pods } = await listPods(this.#redis, this.#names);
    const published = this.#published;
    const isOurs =
      published !== undefined &&
      head !== undefined &&
      head.epoch === this.#epoch &&
      keyOf(head) === keyOf(published.identity) &&
      !this.#isDoubted;
    const wanted = ShardedMap.of(entries);
    const changed = isOurs ? wanted.differenceTo(published.entries) : [...wanted.keys()];
    if (isOurs && changed.length === 0 && !isOvertaken(published.identity, pods)) return { published, isNew: false };
    const next = await this.#nextIdentity(head, pods);
    const change = { ...(await this.#withTexts(wanted, changed, compiled)), head, next };
    return {
      published: await (isOurs ? this.#moveFrom(published, changed, change) : this.#moveAll(change)),
      isNew: true,
    };
  }

  /** Lets go of what the last publish left, if that was much. The next one does it otherwise. Throws StoreError. */
  async settle(): Promise<void> {
    if (this.#leftovers.hasOwn) await this.#settleHead();
  }

  /** Head, after what an unfinished publish left was let go of, whoever's that was. */
  async #settleHead(): Promise<Head | undefined> {
    const state = await readHeadState(this.#redis, this.#names);
    const { head } = state;
    this.#refuseOther(head);
    await this.#leftovers.letGo(state, () => (head === undefined ? Promise.resolve([]) : this.#referencesOf(head)));
    return head;
  }

  async #readHead(): Promise<Head | undefined> {
    const head = await readHead(this.#redis, this.#names);
    this.#refuseOther(head);
    return head;
  }

  /** Throws OWNED_BY_OTHER. */
  #refuseOther(head: Head | undefined): void {
    if (head === undefined || head.owner === this.#owner) return;
    throw new StoreError('OWNED_BY_OTHER', `this Redis is configured by "${head.owner}", not by "${this.#owner}"`);
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

  /** From what is known to be in Redis: only what has changed is looked at. */
  async #moveFrom(before: Published, changed: readonly string[], change: Change): Promise<Published> {
    const { entries, identity, parts } = this.#complete(change);
    const needed = [...parts, ...change.documents.values()];
    const added = needed.filter(({ name }) => !before.documents.has(name));
    // No two objects have the same document: it holds the name of its object.
    const kept = new Set(needed.map(({ name }) => name));
    const replaced = changed.flatMap((id) => before.entries.get(id)?.document ?? []);
    const leaving = [...before.parts, ...replaced].filter((name) => !kept.has(name));
    await this.#write(change, identity, { added, leaving });
    const texts = [
      ...leaving.map((name) => [name, undefined] as const),
      ...added.map((stored) => [stored.name, stored] as const),
    ];
    return this.#remember({ identity, entries, parts: parts.map(nameOf), documents: before.documents.with(texts) });
  }

  /** After a start, a fail-over or a loss: nothing is taken for being there. */
  async #moveAll(change: Change): Promise<Published> {
    const { entries, identity, parts } = this.#complete(change);
    const documents = ShardedMap.of([...change.documents.values(), ...parts].map((stored) => [stored.name, stored]));
    const before = change.head === undefined ? [] : await this.#referencesOf(change.head);
    const leaving = (before ?? []).filter((name) => !documents.has(name));
    await this.#write(change, identity, { added: [...parts, ...change.documents.values()], leaving });
    return this.#remember({ identity, entries, parts: parts.map(nameOf), documents });
  }

  /** What is new gets the new revision. */
  #complete({ entries, documents, next }: Change): {
    readonly entries: ShardedMap<ManifestEntry>;
    readonly identity: ConfigurationIdentity;
    readonly parts: readonly StoredDocument[];
  } {
    const fresh = [...documents.keys()].flatMap((id) => entries.get(id) ?? []).filter(({ revision }) => revision === 0);
    const all = entries.with(fresh.map((entry) => [entryId(entry), { ...entry, revision: next.revision }]));
    const { index, shards } = this.#manifests.build(all);
    return { entries: all, identity: { ...next, manifest: index.name }, parts: [index, ...shards] };
  }

  async #write(
    { head, next }: Change,
    identity: ConfigurationIdentity,
    { added, leaving }: { readonly added: readonly StoredDocument[]; readonly leaving: readonly string[] },
  ): Promise<void> {
    await writeDocuments(this.#redis, this.#names, added);
    const becoming = added.map(nameOf);
    const request = { owner: this.#owner, seen: head, next: identity, becoming, leaving };
    const settling = await publish(this.#redis, this.#names, request);
    this.#leftovers.note(settling, leaving);
    this.#epoch = next.epoch;
    this.#isDoubted = false;
  }

  /** The texts of the documents of these entries, by identity; those whose document is lost are left out. */
  async #withTexts(
    wanted: ShardedMap<ManifestEntry>,
    ids: readonly string[],
    compiled: ReadonlyMap<string, StoredDocument>,
  ): Promise<Pick<Change, 'entries' | 'documents'>> {
    const names = ids.flatMap((id) => wanted.get(id)?.document ?? []);
    const known = (name: string): StoredDocument | undefined =>
      compiled.get(name) ?? this.#published?.documents.get(name);
    const found = await this.#read(names.filter((name) => known(name) === undefined));
    const documents = new Map<string, StoredDocument>();
    const lost: string[] = [];
    for (const id of ids) {
      const name = wanted.get(id)?.document;
      if (name === undefined) continue;
      const stored = known(name) ?? found.get(name);
      if (stored === undefined) lost.push(id);
      else documents.set(id, stored);
    }
    return { entries: wanted.with(lost.map((id) => [id, undefined])), documents };
  }

  async #read(documents: readonly string[]): Promise<Map<string, StoredDocument>> {
    const texts = await findDocuments(this.#redis, this.#names, documents);
    return new Map([...texts].map(([name, text]) => [name, { name, text }]));
  }

  /** Undefined if it cannot be read: then nobody can load it, and its documents stay, which harms nobody. */
  async #referencesOf(head: Head): Promise<readonly string[] | undefined> {
    const published = this.#published;
    if (published !== undefined && keyOf(published.identity) === keyOf(head)) return referencesOf(published);
    const manifest = await findManifest(this.#redis, this.#names, head.manifest);
    return manifest && referencesOf(manifest);
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

const nameOf = ({ name }: StoredDocument): string => name;
