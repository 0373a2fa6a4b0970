import type { Redis } from 'ioredis';
import { recordNameOf } from '../policy/api-key.ts';
import { idOf, type RawResource, type ValidConsumer } from '../policy/resource.ts';
import {
  changeKeySet,
  type ConsumerRecord,
  type KeyWrite,
  type KeyWriter,
  listKeyNames,
  readKeyRecords,
  readKeySetState,
  writeKeySet,
} from '../store/consumer-keys.ts';
import type { Names } from '../store/names.ts';

export type KeySetOptions = { readonly redis: Redis; readonly names: Names; readonly pepper: string };

/** Where the keys of a consumer are in force: which generation of it, since which state of the set. */
export type WrittenConsumer = { readonly generation: number; readonly sequence: number };

const HASH_PREFIX = 'sha256:';

/** Keeps the records of API keys in Redis equal to what the Consumers say. */
export class KeySet {
  readonly #options: KeySetOptions;
  /** Records as written, by name; undefined until this process has written or checked all of them. */
  #written: ReadonlyMap<string, string> | undefined;
  #sequence = 0;
  /** The last valid state of each consumer, by uid: a bad edit changes nothing. */
  readonly #lastGood = new Map<string, ValidConsumer>();
  readonly #consumers = new Map<string, WrittenConsumer>();

  constructor(options: KeySetOptions) {
    this.#options = options;
  }

  /** Consumers by identity whose keys are in Redis. */
  get consumers(): ReadonlyMap<string, WrittenConsumer> {
    return this.#consumers;
  }

  /**
   * Writes what differs; everything, if the set in Redis is not the one that this process wrote.
   * @param existing every Consumer object, valid or not
   * @param valid those of them that are
   */
  async sync(identity: KeyWriter, existing: readonly RawResource[], valid: readonly ValidConsumer[]): Promise<void> {
    const writer = { ...identity, seenSequence: Math.max(identity.seenSequence, this.#sequence) };
    const effective = this.#effective(existing, valid);
    const wanted = this.#recordsOf(effective);
    const state = await readKeySetState(this.#options.redis, this.#options.names);
    const isOurs =
      state !== undefined &&
      state.isComplete &&
      state.incarnation === writer.incarnation &&
      state.sequence === this.#sequence;
    const written = isOurs && state.epoch === writer.epoch ? this.#written : undefined;
    this.#sequence = await (written === undefined
      ? this.#writeAll(writer, wanted, existing)
      : this.#writeChanges(writer, wanted, written));
    this.#written = new Map([...wanted].map(([name, record]) => [name, JSON.stringify(record)]));
    this.#note(effective);
  }

  /** Whether the set in Redis is not the one that this process wrote. */
  async isDisplaced(): Promise<boolean> {
    const state = await readKeySetState(this.#options.redis, this.#options.names);
    return state === undefined || !state.isComplete || state.sequence !== this.#sequence;
  }

  #effective(existing: readonly RawResource[], valid: readonly ValidConsumer[]): ValidConsumer[] {
    for (const consumer of valid) this.#lastGood.set(consumer.metadata.uid, consumer);
    const alive = new Set(existing.map((raw) => raw.metadata.uid));
    for (const uid of this.#lastGood.keys()) if (!alive.has(uid)) this.#lastGood.delete(uid);
    return [...this.#lastGood.values()];
  }

  #recordsOf(consumers: readonly ValidConsumer[]): Map<string, ConsumerRecord> {
    const records = new Map<string, ConsumerRecord>();
    for (const { metadata, spec } of consumers) {
      const record: ConsumerRecord = {
        consumer: spec.id ?? metadata.name,
        namespace: metadata.namespace,
        uid: metadata.uid,
        ...(spec.tier === undefined ? {} : { tier: spec.tier }),
      };
      for (const hash of spec.apiKeyHashes ?? []) {
        records.set(recordNameOf(this.#options.pepper, hash.slice(HASH_PREFIX.length)), record);
      }
    }
    return records;
  }

  async #writeAll(
    writer: KeyWriter,
    wanted: ReadonlyMap<string, ConsumerRecord>,
    existing: readonly RawResource[],
  ): Promise<number> {
    const { redis, names } = this.#options;
    const surplus = [...(await listKeyNames(redis, names))].filter((name) => !wanted.has(name));
    const kept = await this.#keptAfterRestart(surplus, existing);
    const removals = surplus.filter((name) => !kept.has(name));
    return writeKeySet(redis, names, writer, [
      ...toWrites(wanted),
      ...removals.map((name) => ({ name, record: undefined })),
    ]);
  }

  /** Records of Consumers that are not valid now, and of which this process knows no valid state. */
  async #keptAfterRestart(surplus: readonly string[], existing: readonly RawResource[]): Promise<ReadonlySet<string>> {
    const unknown = new Set(existing.map((raw) => raw.metadata.uid).filter((uid) => !this.#lastGood.has(uid)));
    if (unknown.size === 0) return new Set();
    const records = await readKeyRecords(this.#options.redis, this.#options.names, surplus);
    return new Set([...records].filter(([, record]) => unknown.has(record.uid)).map(([name]) => name));
  }

  async #writeChanges(
    writer: KeyWriter,
    wanted: ReadonlyMap<string, ConsumerRecord>,
    written: ReadonlyMap<string, string>,
  ): Promise<number> {
    const changed = toWrites(wanted).filter(({ name, record }) => written.get(name) !== JSON.stringify(record));
    const removed = [...written.keys()]
      .filter((name) => !wanted.has(name))
      .map((name) => ({ name, record: undefined }));
    if (changed.length + removed.length === 0) return this.#sequence;
    return changeKeySet(this.#options.redis, this.#options.names, writer, [...changed, ...removed]);
  }

  #note(effective: readonly ValidConsumer[]): void {
    const ids = new Set(effective.map(idOf));
    for (const id of this.#consumers.keys()) if (!ids.has(id)) this.#consumers.delete(id);
    for (const consumer of effective) {
      const { generation } = consumer.metadata;
      const known = this.#consumers.get(idOf(consumer));
      if (known?.generation !== generation)
        this.#consumers.set(idOf(consumer), { generation, sequence: this.#sequence });
    }
  }
}

function toWrites(records: ReadonlyMap<string, ConsumerRecord>): KeyWrite[] {
  return [...records].map(([name, record]) => ({ name, record }));
}
