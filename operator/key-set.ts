import { isDeepStrictEqual } from 'node:util';
import type { RedisClient } from '../store/connection.ts';
import { recordNameOf } from '../policy/api-key.ts';
import { numbersOf } from '../policy/compile.ts';
import { idOf, type Metadata, type ValidConsumer } from '../policy/resource.ts';
import type { ResourceKind } from '../policy/schema/kinds.ts';
import { ShardedMap } from '../policy/sharded-map.ts';
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
import { changesBetween } from './changes.ts';

export type KeySetOptions = {
  readonly redis: RedisClient;
  readonly names: Names;
  /** The one that is in use, then one that may still be: a key is found by each. */
  readonly peppers: readonly string[];
};

/** Where the keys of a consumer are in force: which generation of which object, since which state of the set. */
export type WrittenConsumer = {
  readonly uid: string;
  readonly generation: number;
  readonly sequence: number;
  /** Names of its records, as one text: keys in Secrets, and peppers, change without a new generation. */
  readonly keys: string;
};

const HASH_PREFIX = 'sha256:';

type ConsumerObject = { readonly kind: ResourceKind; readonly metadata: Metadata };

/** Keeps the records of API keys in Redis equal to what the Consumers say. */
export class KeySet {
  readonly #options: KeySetOptions;
  #peppers: readonly string[];
  /** Records as written, by name; undefined until this process has written or checked all of them. */
  #written: ReadonlyMap<string, string> | undefined;
  #sequence = 0;
  /** The last valid state of each consumer, by uid: a bad edit changes nothing. */
  readonly #lastGood = new Map<string, ValidConsumer>();
  /** Records that an operator before this one wrote for consumers that are refused now, by uid. */
  readonly #inherited = new Map<string, Map<string, ConsumerRecord>>();
  #consumers = ShardedMap.of<WrittenConsumer>([]);
  #recordNames = new WeakMap<ValidConsumer, readonly string[]>();
  /** What the set in Redis was made from; undefined if the next sync has to look at everything. */
  #synced: { readonly existing: readonly ConsumerObject[]; readonly valid: readonly ValidConsumer[] } | undefined;

  constructor(options: KeySetOptions) {
    this.#options = options;
    this.#peppers = options.peppers;
  }

  /** From the next sync on. */
  usePeppers(peppers: readonly string[]): void {
    if (peppers.join(' ') === this.#peppers.join(' ')) return;
    this.#peppers = peppers;
    this.#recordNames = new WeakMap();
    this.#synced = undefined;
  }

  /** Whether Redis lost or changed a record that this process wrote. If so, the next sync writes all of them again. */
  async audit(): Promise<boolean> {
    const { redis, names } = this.#options;
    const written = this.#written;
    if (written === undefined) return false;
    const listed = await listKeyNames(redis, names);
    const records = await readKeyRecords(redis, names, [...written.keys()]);
    const isDamaged =
      listed.size !== written.size ||
      [...written].some(([name, text]) => !listed.has(name) || !isDeepStrictEqual(records.get(name), JSON.parse(text)));
    if (isDamaged) this.#written = undefined;
    return isDamaged;
  }

  /** The state of the set as of the last write. */
  get sequence(): number {
    return this.#sequence;
  }

  /** Consumers by identity whose keys are in Redis. */
  get consumers(): ShardedMap<WrittenConsumer> {
    return this.#consumers;
  }

  /**
   * Writes what differs; everything, if the set in Redis is not the one that this process wrote.
   * @param existing every Consumer object, valid or not
   * @param valid those of them that are
   */
  async sync(identity: KeyWriter, existing: readonly ConsumerObject[], valid: readonly ValidConsumer[]): Promise<void> {
    const writer = { ...identity, seenSequence: Math.max(identity.seenSequence, this.#sequence) };
    const state = await readKeySetState(this.#options.redis, this.#options.names);
    const isOurs =
      state !== undefined &&
      state.isComplete &&
      state.incarnation === writer.incarnation &&
      state.epoch === writer.epoch &&
      state.sequence === this.#sequence;
    if (isOurs && this.#written !== undefined && this.#isSynced(existing, valid)) return;
    this.#synced = undefined;
    const effective = this.#effective(existing, valid);
    if (this.#written === undefined) await this.#inherit(existing);
    this.#forget(existing);
    const wanted = this.#recordsOf(effective);
    this.#sequence = await (isOurs && this.#written !== undefined
      ? this.#writeChanges(writer, wanted, this.#written)
      : this.#writeAll(writer, wanted));
    this.#written = new Map([...wanted].map(([name, record]) => [name, JSON.stringify(record)]));
    this.#note(existing, effective);
    this.#synced = { existing, valid };
  }

  #isSynced(existing: readonly ConsumerObject[], valid: readonly ValidConsumer[]): boolean {
    if (this.#synced === undefined) return false;
    const changes = [changesBetween(this.#synced.existing, existing), changesBetween(this.#synced.valid, valid)];
    return changes.every(({ gone, come }) => gone.length + come.length === 0);
  }

  /** Whether the set in Redis is not the one that this process wrote. */
  async isDisplaced(): Promise<boolean> {
    const state = await readKeySetState(this.#options.redis, this.#options.names);
    return state === undefined || !state.isComplete || state.sequence !== this.#sequence;
  }

  #effective(existing: readonly ConsumerObject[], valid: readonly ValidConsumer[]): ValidConsumer[] {
    for (const consumer of valid) this.#lastGood.set(consumer.metadata.uid, consumer);
    const alive = new Set(existing.map((raw) => raw.metadata.uid));
    for (const uid of this.#lastGood.keys()) if (!alive.has(uid)) this.#lastGood.delete(uid);
    return [...this.#lastGood.values()];
  }

  #recordsOf(consumers: readonly ValidConsumer[]): Map<string, ConsumerRecord> {
    const records = new Map<string, ConsumerRecord>([...this.#inherited.values()].flatMap((kept) => [...kept]));
    for (const consumer of consumers) {
      const { metadata, spec } = consumer;
      const record: ConsumerRecord = {
        consumer: spec.id ?? metadata.name,
        namespace: metadata.namespace,
        uid: metadata.uid,
        generation: metadata.generation,
        ...(spec.tier === undefined ? {} : { tier: spec.tier }),
        ...(spec.tenant === undefined ? {} : { tenant: spec.tenant }),
        ...(spec.state === 'Disabled' ? { isDisabled: true as const } : {}),
        ...(spec.limits === undefined ? {} : { limits: spec.limits.map((one) => agreed(metadata.namespace, one)) }),
      };
      for (const name of this.#namesOf(consumer)) records.set(name, record);
    }
    return records;
  }

  /** Under every pepper, each key of the consumer. */
  #namesOf(consumer: ValidConsumer): readonly string[] {
    const known = this.#recordNames.get(consumer);
    if (known !== undefined) return known;
    const names = (consumer.spec.apiKeyHashes ?? []).flatMap((hash) =>
      this.#peppers.map((pepper) => recordNameOf(pepper, hash.slice(HASH_PREFIX.length))),
    );
    this.#recordNames.set(consumer, names);
    return names;
  }

  async #writeAll(writer: KeyWriter, wanted: ReadonlyMap<string, ConsumerRecord>): Promise<number> {
    const { redis, names } = this.#options;
    const surplus = [...(await listKeyNames(redis, names))].filter((name) => !wanted.has(name));
    return writeKeySet(redis, names, writer, [
      ...toWrites(wanted),
      ...surplus.map((name) => ({ name, record: undefined })),
    ]);
  }

  /** After a restart: the records of Consumers of which this process knows no valid state stay as they are. */
  async #inherit(existing: readonly ConsumerObject[]): Promise<void> {
    const { redis, names } = this.#options;
    const unknown = new Set(existing.map((raw) => raw.metadata.uid).filter((uid) => !this.#lastGood.has(uid)));
    if (unknown.size === 0) return;
    const records = await readKeyRecords(redis, names, [...(await listKeyNames(redis, names))]);
    for (const [name, record] of records) {
      if (!unknown.has(record.uid)) continue;
      const kept = this.#inherited.get(record.uid) ?? new Map<string, ConsumerRecord>();
      this.#inherited.set(record.uid, kept.set(name, record));
    }
  }

  /** What was inherited ends with its object, and with the first valid state of it. */
  #forget(existing: readonly ConsumerObject[]): void {
    const alive = new Set(existing.map((raw) => raw.metadata.uid));
    for (const uid of this.#inherited.keys()) {
      if (!alive.has(uid) || this.#lastGood.has(uid)) this.#inherited.delete(uid);
    }
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

  #note(existing: readonly ConsumerObject[], effective: readonly ValidConsumer[]): void {
    const generations = new Map(effective.map(({ metadata }) => [metadata.uid, metadata.generation]));
    for (const [uid, records] of this.#inherited) {
      for (const { generation } of records.values()) generations.set(uid, generation);
    }
    const keysByUid = new Map(effective.map((consumer) => [consumer.metadata.uid, this.#namesOf(consumer).join(' ')]));
    const known = this.#consumers;
    const noted = new Map<string, WrittenConsumer>();
    for (const raw of existing) {
      const { uid } = raw.metadata;
      const generation = generations.get(uid);
      if (generation === undefined) continue;
      const before = known.get(idOf(raw));
      const keys = keysByUid.get(uid) ?? '';
      const isSame = before?.uid === uid && before.generation === generation && before.keys === keys;
      noted.set(idOf(raw), isSame ? before : { uid, generation, keys, sequence: this.#sequence });
    }
    this.#consumers = known.with([...known.keys(), ...noted.keys()].map((id) => [id, noted.get(id)]));
  }
}

function toWrites(records: ReadonlyMap<string, ConsumerRecord>): KeyWrite[] {
  return [...records].map(([name, record]) => ({ name, record }));
}

/** Limits that were agreed with a consumer, for the rule of a policy in its namespace. */
function agreed(
  namespace: string,
  { policy, rule, limits }: NonNullable<ValidConsumer['spec']['limits']>[number],
): NonNullable<ConsumerRecord['limits']>[number] {
  return { policy: `${namespace}/${policy}`, rule, limits: limits.map(numbersOf) };
}
