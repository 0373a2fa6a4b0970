import type { RedisClient } from '../store/connection.ts';
import type { Logger } from 'pino';
import type { RawResource } from '../policy/resource.ts';
import type { ShardedMap } from '../policy/sharded-map.ts';
import type { PodReport } from '../store/acknowledgements.ts';
import { StoreError } from '../store/errors.ts';
import type { Names } from '../store/names.ts';
import { CompileCache } from './compile-cache.ts';
import { computeDesired, type Desired } from './desired.ts';
import { KeySet, type WrittenConsumer } from './key-set.ts';
import type { Leadership } from './leadership.ts';
import { Publisher } from './publisher.ts';
import { type KeySecrets, type Resolved, resolveKeys } from './secret-keys.ts';

/** The current one first, then those by which keys are still looked for. */
export type Peppers = { read(): Promise<readonly string[]> };

export type ConfigurerOptions = {
  readonly redis: RedisClient;
  readonly names: Names;
  readonly owner: string;
  /** The secret with which API keys are hashed, or where those that are in use can be read from. */
  readonly pepper: string | Peppers;
  readonly leadership: Leadership;
  /** Where API keys may be besides in Consumers. */
  readonly keySecrets?: KeySecrets | undefined;
  readonly log: Logger;
  readonly observer?: ConfigurerObserver;
  readonly monotonicMillis?: () => number;
};

/** Told of what is published, for metrics. */
export type ConfigurerObserver = {
  onPublished(revision: number, seconds: number): void;
  /** Redis had lost some of what is published. */
  onRepair(): void;
};

/** How long the event loop may be kept from other work. */
const SLICE_MILLIS = 10;

/** Brings what all resources say into force: compiled, published, and the keys of consumers written. */
export class Configurer {
  readonly publisher: Publisher;
  readonly #options: ConfigurerOptions;
  readonly #now: () => number;
  readonly #keySet: KeySet;
  readonly #compiled = new CompileCache();
  readonly #resolved: Resolved = new WeakMap();
  #desired: Desired | undefined;
  #changedAtMillis = 0;
  #seenSequence = 0;
  #hasPeppers = false;
  #isConfigured = false;
  #otherOwner: string | undefined;

  constructor(options: ConfigurerOptions) {
    this.#options = options;
    this.#now = options.monotonicMillis ?? (() => performance.now());
    const { redis, names, owner, pepper, leadership } = options;
    this.publisher = new Publisher(redis, names, owner, (floor) => leadership.epochAbove(floor));
    this.#keySet = new KeySet({ redis, names, peppers: typeof pepper === 'string' ? [pepper] : [] });
  }

  /** What should be in force, as of the last pass; undefined before the first. */
  get desired(): Desired | undefined {
    return this.#desired;
  }

  get consumers(): ShardedMap<WrittenConsumer> {
    return this.#keySet.consumers;
  }

  /** When something was last put in force, by the monotonic clock. */
  get changedAtMillis(): number {
    return this.#changedAtMillis;
  }

  /** Whether a pass was completed: what is in force is what this operator wrote. */
  get isConfigured(): boolean {
    return this.#isConfigured;
  }

  /** What is to be said of another installation that the last pass found in Redis. Nothing is written then. */
  get otherOwner(): string | undefined {
    return this.#otherOwner;
  }

  /** Puts in force what all resources say. Throws StoreError, or what reading the peppers threw. */
  async pass(resources: readonly RawResource[]): Promise<void> {
    try {
      await this.#compile(resources);
      await this.publisher.readInForce();
      const desired = this.#compute(resources);
      this.#desired = desired;
      await this.#publish(desired);
      await this.#writeKeys(desired);
      this.#isConfigured = true;
      this.#noteOwner(undefined);
      // Last: nobody waits for it.
      await this.publisher.settle();
    } catch (error) {
      this.#noteOwner(error);
      // What is wrong with an edit is said even while it could not be published anyway.
      this.#desired = this.#compute(resources);
      throw error;
    }
  }

  /** Whether what is in force is not what this operator wrote, or a pod holds something newer. */
  async isDisplaced(pods: readonly PodReport[]): Promise<boolean> {
    const sequences = pods.map(({ acknowledgement }) => acknowledgement.keySequence);
    this.#seenSequence = Math.max(this.#seenSequence, ...sequences);
    if (!this.#isConfigured) return false;
    return (await this.publisher.isDisplaced(pods)) || (await this.#keySet.isDisplaced());
  }

  /** Whether another installation is in Redis now. */
  isOwnedByOther(): Promise<boolean> {
    return this.publisher.isOwnedByOther();
  }

  /** Compares everything that is published with what Redis holds. What was lost is written by the next pass. */
  async audit(): Promise<void> {
    if (!this.#isConfigured || this.#otherOwner !== undefined) return;
    const lostDocuments = await this.publisher.audit();
    const hasLostKeys = await this.#keySet.audit();
    if (lostDocuments > 0 || hasLostKeys) {
      this.#options.log.error(
        { event: 'store_damaged', lost_documents: lostDocuments, lost_keys: hasLostKeys },
        'Redis has lost some of what is published; all of it is written again',
      );
      this.#options.observer?.onRepair();
    }
    // A pepper that was rotated changes the names of all keys.
    this.#hasPeppers = false;
  }

  #noteOwner(error: unknown): void {
    const before = this.#otherOwner;
    this.#otherOwner = error instanceof StoreError && error.code === 'OWNED_BY_OTHER' ? error.message : undefined;
    if (before === this.#otherOwner) return;
    const { log } = this.#options;
    if (this.#otherOwner === undefined) log.info({ event: 'redis_ours' }, 'no other installation is in Redis any more');
    else log.error({ event: 'redis_owned_by_other', reason: 'RedisOwnedByOther' }, this.#otherOwner);
  }

  /** In slices: thousands of new objects at once must not keep the lease from being renewed, nor probes from an answer. */
  async #compile(resources: readonly RawResource[]): Promise<void> {
    let sinceMillis = this.#now();
    for (const raw of this.#compiled.unseen(resources)) {
      this.#compiled.look(raw);
      if (this.#now() - sinceMillis < SLICE_MILLIS) continue;
      await new Promise((resolve) => setImmediate(resolve));
      sinceMillis = this.#now();
    }
  }

  #compute(resources: readonly RawResource[]): Desired {
    const inForce = this.publisher.published ?? { entries: new Map(), documents: new Map() };
    const desired = computeDesired(resources, inForce, this.#compiled);
    const { consumers, problems } = resolveKeys(desired.consumers, this.#options.keySecrets, this.#resolved);
    return problems.size === 0
      ? { ...desired, consumers }
      : { ...desired, consumers, problems: desired.problems.with(problems) };
  }

  async #publish(desired: Desired): Promise<void> {
    const { log, observer } = this.#options;
    const startedAtMillis = this.#now();
    const { published, isNew } = await this.publisher.publish(desired.entries, desired.documents);
    if (!isNew) return;
    this.#changedAtMillis = this.#now();
    const { revision, epoch } = published.identity;
    observer?.onPublished(revision, (this.#changedAtMillis - startedAtMillis) / 1000);
    const [objects, refused] = [published.entries.size, desired.problems.size];
    log.info({ event: 'published', revision, epoch, objects, refused });
  }

  async #writeKeys(desired: Desired): Promise<void> {
    if (!this.#hasPeppers) await this.#readPeppers();
    const { owner } = this.#options;
    const incarnation = this.publisher.published?.identity.incarnation ?? '';
    const writer = { owner, incarnation, epoch: this.publisher.epoch, seenSequence: this.#seenSequence };
    const sequenceBefore = this.#keySet.sequence;
    await this.#keySet.sync(writer, desired.consumerObjects, desired.consumers);
    if (this.#keySet.sequence !== sequenceBefore) this.#changedAtMillis = this.#now();
  }

  async #readPeppers(): Promise<void> {
    const { pepper } = this.#options;
    if (typeof pepper !== 'string') this.#keySet.usePeppers(await pepper.read());
    this.#hasPeppers = true;
  }
}
