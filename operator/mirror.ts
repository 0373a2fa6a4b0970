import type { RedisClient } from '../store/connection.ts';
import { type StoredDocument, UnreadableDocument } from '../policy/documents.ts';
import { ShardedMap } from '../policy/sharded-map.ts';
import { type Head, readDocuments, readHead, readManifest } from '../store/configuration.ts';
import type { Names } from '../store/names.ts';
import { type Published, referencesOf } from './published.ts';

/**
 * A standby's copy of what is in force, so that it can hand it out while Redis is away. Never used for publishing: it
 * is as old as the last look.
 */
export class Mirror {
  readonly #redis: RedisClient;
  readonly #names: Names;
  readonly #owner: string;
  #copy: Published | undefined;
  /** A manifest of another version, in the middle of an upgrade. */
  #unreadable: string | undefined;

  constructor(redis: RedisClient, names: Names, owner: string) {
    this.#redis = redis;
    this.#names = names;
    this.#owner = owner;
  }

  get copy(): Published | undefined {
    return this.#copy;
  }

  /**
   * Reads what is new, of this installation only. Keeps the last copy of what an operator of another version publishes in
   * a format that this one does not read. Throws StoreError, and keeps the last copy then.
   */
  async refresh(): Promise<void> {
    const head = await readHead(this.#redis, this.#names);
    if (head === undefined || head.owner !== this.#owner) return;
    const { incarnation, epoch, revision, manifest } = head;
    const known = this.#copy?.identity;
    if (known?.incarnation === incarnation && known.epoch === epoch && known.revision === revision) return;
    if (manifest === this.#unreadable) return;
    try {
      this.#copy = await this.#read(head);
    } catch (error) {
      if (!(error instanceof UnreadableDocument)) throw error;
      this.#unreadable = manifest;
    }
  }

  async #read({ incarnation, epoch, revision, manifest }: Head): Promise<Published> {
    const loaded = await readManifest(this.#redis, this.#names, manifest);
    const documents = await this.#texts(referencesOf(loaded));
    const identity = { incarnation, epoch, revision, manifest };
    return { identity, entries: ShardedMap.of(loaded.entries), parts: loaded.parts, documents };
  }

  async #texts(references: readonly string[]): Promise<ShardedMap<StoredDocument>> {
    const before = this.#copy?.documents;
    const missing = references.filter((name) => before?.get(name) === undefined);
    const read = await readDocuments(this.#redis, this.#names, missing);
    return ShardedMap.of(
      references.flatMap((name) => {
        const text = read.get(name) ?? before?.get(name)?.text;
        return text === undefined ? [] : [[name, { name, text }] as const];
      }),
    );
  }
}
