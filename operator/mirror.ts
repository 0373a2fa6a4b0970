import type { RedisClient } from '../store/connection.ts';
import { type StoredDocument, UnreadableDocument } from '../policy/documents.ts';
import { type Head, readDocuments, readHead, readManifest } from '../store/configuration.ts';
import type { Names } from '../store/names.ts';
import type { Published } from './publisher.ts';

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
    const { entries, parts } = await readManifest(this.#redis, this.#names, manifest);
    const references = new Set([...parts, ...[...entries.values()].map(({ document }) => document)]);
    const documents = await this.#texts(references);
    return { identity: { incarnation, epoch, revision, manifest }, entries, references, documents };
  }

  async #texts(references: ReadonlySet<string>): Promise<Map<string, StoredDocument>> {
    const before = this.#copy?.documents;
    const missing = [...references].filter((name) => before?.get(name) === undefined);
    const read = await readDocuments(this.#redis, this.#names, missing);
    return new Map(
      [...references].flatMap((name) => {
        const text = read.get(name) ?? before?.get(name)?.text;
        return text === undefined ? [] : [[name, { name, text }] as const];
      }),
    );
  }
}
