// The operator: reads all resources, publishes what they say, and writes back what the pods acknowledge. Imports
// policy/ and store/; hands out one running operator to cli/.
import type { Redis } from 'ioredis';
import type { Logger } from 'pino';
import type { RawResource } from '../policy/resource.ts';
import { allKinds } from '../policy/schema/kinds.ts';
import { listPods, type PodReport } from '../store/acknowledgements.ts';
import { subscribeToChanges, type Subscription } from '../store/changes.ts';
import { RedisClock } from '../store/clock.ts';
import { connect, disconnect } from '../store/connection.ts';
import { StoreError } from '../store/errors.ts';
import { createNames, type Names } from '../store/names.ts';
import { CompileCache, computeDesired, type Desired } from './desired.ts';
import { KeySet } from './key-set.ts';
import { Publisher } from './publisher.ts';
import { expiryOf, readyPods, statusOf, type World } from './report.ts';
import type { ResourceSource } from './source.ts';
import { WorkQueue } from './work-queue.ts';

export type OperatorOptions = {
  readonly redisUrl: string;
  readonly installation: string;
  readonly owner: string;
  readonly pepper: string;
  readonly source: ResourceSource;
  readonly log: Logger;
  /** Called once when this operator must not go on: another one took over, or the Redis is somebody else's. */
  readonly onFatal: (error: StoreError) => void;
};

const CONFIGURATION = 'configuration';
const STATUS = 'status';

/** Edits that come together are published together. */
const DEBOUNCE_MILLIS = 50;
const TICK_MILLIS = 2_000;
/** After it, a pod that has not acknowledged is lagging. */
const OVERDUE_MILLIS = 10_000;
/** Shorter outages of Redis are not worth a write to every object. */
const UNREACHABLE_MILLIS = 5_000;
const WRITES_AT_ONCE = 8;

export class Operator {
  readonly #options: OperatorOptions;
  readonly #names: Names;
  readonly #redis: Redis;
  readonly #clock = new RedisClock();
  readonly #publisher: Publisher;
  readonly #keySet: KeySet;
  readonly #queue: WorkQueue;
  readonly #compiled = new CompileCache();
  readonly #subscription: Subscription;
  #desired: Desired | undefined;
  #publishedAtMillis = 0;
  /** When the pods could last be asked. */
  #askedAtMillis = performance.now();
  #isStopping = false;
  #seenSequence = 0;
  /** What the last complete pass over all statuses was made from: the same again gives the same again. */
  #reported = '';
  #isConfigured = false;
  /** Whether Redis answered or failed once; before that nothing can be said of it. */
  #isSettled = false;
  #ticker: NodeJS.Timeout | undefined;
  #expiry: NodeJS.Timeout | undefined;

  constructor(options: OperatorOptions) {
    this.#options = options;
    this.#names = createNames(options.installation);
    this.#redis = connect(options.redisUrl, {
      onDown: (message) => {
        options.log.warn({ event: 'redis_down' }, `Redis cannot be reached, trying again: ${message}`);
        this.#isSettled = true;
        this.#queue.add(CONFIGURATION);
      },
      onReady: () => {
        options.log.info({ event: 'redis_ready' });
        this.#isSettled = true;
        this.#queue.add(CONFIGURATION);
      },
    });
    this.#publisher = new Publisher(this.#redis, this.#names, options.owner);
    this.#keySet = new KeySet({ redis: this.#redis, names: this.#names, pepper: options.pepper });
    this.#queue = new WorkQueue({
      work: (key) => (key === CONFIGURATION ? this.#configure() : this.#report()),
      onError: (key, error, retryMillis) => this.#onError(key, error, retryMillis),
    });
    this.#subscription = subscribeToChanges(options.redisUrl, this.#names, ['ack'], () => this.#queue.add(STATUS));
  }

  /** Whether every kind of resource has been read once. */
  hasSynced(): boolean {
    return this.#options.source.hasSynced();
  }

  start(): void {
    this.#options.source.start((change) => {
      if (change === 'spec') this.#queue.add(CONFIGURATION, DEBOUNCE_MILLIS);
      else this.#reportAgain();
    });
    this.#ticker = setInterval(() => this.#queue.add(STATUS), TICK_MILLIS);
  }

  /** Finishes the work under way, then lets go of everything. */
  async stop(): Promise<void> {
    this.#isStopping = true;
    clearInterval(this.#ticker);
    await this.#options.source.stop();
    await this.#queue.stop();
    // The work that was finished last may have set it.
    clearTimeout(this.#expiry);
    this.#subscription.close();
    disconnect(this.#redis);
  }

  #resources(): RawResource[] {
    return allKinds.flatMap((kind) => [...this.#options.source.list(kind)]);
  }

  /** Publishes what all resources say now. */
  async #configure(): Promise<void> {
    const { source, log, owner } = this.#options;
    if (!source.hasSynced() || !this.#isSettled) return;
    const resources = this.#resources();
    try {
      const inForce = await this.#publisher.readInForce();
      this.#desired = computeDesired(resources, inForce, this.#compiled);
      const { published, isNew } = await this.#publisher.publish(this.#desired.entries, this.#desired.documents);
      if (isNew) {
        this.#publishedAtMillis = performance.now();
        const { revision, epoch } = published.identity;
        log.info({
          event: 'published',
          revision,
          epoch,
          objects: published.entries.size,
          refused: this.#desired.problems.size,
        });
      }
      const { incarnation } = published.identity;
      const writer = { owner, incarnation, epoch: this.#publisher.epoch, seenSequence: this.#seenSequence };
      const sequenceBefore = this.#keySet.sequence;
      await this.#keySet.sync(writer, source.list('Consumer'), this.#desired.consumers);
      if (this.#keySet.sequence !== sequenceBefore) this.#publishedAtMillis = performance.now();
      this.#isConfigured = true;
    } catch (error) {
      // What is wrong with an edit is said even while it could not be published anyway.
      this.#desired = computeDesired(resources, this.#publisher.published?.entries ?? new Map(), this.#compiled);
      throw error;
    } finally {
      this.#reported = '';
      this.#queue.add(STATUS);
    }
  }

  /** Writes the statuses that differ from what is so. */
  async #report(): Promise<void> {
    const { source } = this.#options;
    if (!source.hasSynced() || this.#desired === undefined) return;
    const pods = await this.#askPods();
    if (pods === undefined && performance.now() - this.#askedAtMillis < UNREACHABLE_MILLIS) return;
    const world = this.#world(this.#desired, pods);
    const fingerprint = fingerprintOf(world);
    if (fingerprint === this.#reported) return;
    // Before the first write: what changes during this pass asks for another one.
    this.#reported = fingerprint;
    const resources = this.#resources();
    const failures = await this.#writeStatuses(resources, world);
    if (failures.length > 0) {
      this.#reported = '';
      throw new AggregateError(failures, `${failures.length} statuses could not be written`);
    }
    this.#scheduleExpiry(resources, world);
  }

  /** Writes some at a time, and leaves the rest for the next pass when there is something to publish. */
  async #writeStatuses(resources: readonly RawResource[], world: World): Promise<unknown[]> {
    const { source } = this.#options;
    const due = resources.flatMap((raw) => {
      const status = statusOf(raw, world);
      return status === undefined ? [] : [{ raw, status }];
    });
    const failures: unknown[] = [];
    for (let start = 0; start < due.length; start += WRITES_AT_ONCE) {
      if (this.#queue.hasNew(CONFIGURATION) || this.#isStopping) {
        this.#reportAgain();
        break;
      }
      const writes = due.slice(start, start + WRITES_AT_ONCE).map(({ raw, status }) => source.writeStatus(raw, status));
      // One status that cannot be written must not keep the others from being true.
      for (const outcome of await Promise.allSettled(writes)) {
        if (outcome.status === 'rejected') failures.push(outcome.reason);
        else if (outcome.value === 'outdated') this.#reportAgain();
      }
    }
    return failures;
  }

  /** Soon: what this pass left out, or what changed under it, comes with the next. */
  #reportAgain(): void {
    this.#reported = '';
    this.#queue.add(STATUS, DEBOUNCE_MILLIS);
  }

  #world(desired: Desired, pods: readonly PodReport[] | undefined): World {
    return {
      desired,
      pods,
      published: this.#publisher.published,
      knows: (identity) => this.#publisher.knows(identity),
      consumers: this.#keySet.consumers,
      isOverdue: performance.now() - this.#publishedAtMillis > OVERDUE_MILLIS,
      nowMicros: this.#clock.nowMicros(),
      now: `${new Date().toISOString().slice(0, 19)}Z`,
    };
  }

  /** The pods' acknowledgements; undefined if Redis cannot be asked. Notices on the way when head was displaced. */
  async #askPods(): Promise<readonly PodReport[] | undefined> {
    try {
      const sentAt = this.#clock.monotonicMillis();
      const { pods, redisMicros } = await listPods(this.#redis, this.#names);
      this.#clock.observe(redisMicros, sentAt);
      this.#askedAtMillis = performance.now();
      this.#seenSequence = Math.max(
        this.#seenSequence,
        ...pods.map(({ acknowledgement }) => acknowledgement.keySequence),
      );
      if (this.#isConfigured && ((await this.#publisher.isDisplaced(pods)) || (await this.#keySet.isDisplaced()))) {
        this.#queue.add(CONFIGURATION);
      }
      return pods;
    } catch (error) {
      if (error instanceof StoreError && error.transient) return undefined;
      throw error;
    }
  }

  #scheduleExpiry(resources: readonly RawResource[], world: World): void {
    clearTimeout(this.#expiry);
    const expiries = resources.map((raw) => expiryOf(raw, world)).filter((micros) => micros !== undefined);
    if (expiries.length === 0) return;
    const delayMillis = Math.ceil((Math.min(...expiries) - world.nowMicros) / 1000);
    // Longer delays than setTimeout can count are looked at again on the way.
    this.#expiry = setTimeout(
      () => {
        this.#reported = '';
        this.#queue.add(STATUS);
      },
      Math.min(Math.max(delayMillis, 1), 2_000_000_000),
    );
  }

  #onError(key: string, error: unknown, retryMillis: number): void {
    const { log, onFatal } = this.#options;
    if (error instanceof StoreError && !error.transient && error.code !== 'BAD_REPLY') {
      log.fatal({ event: 'operator_displaced', code: error.code }, error.message);
      onFatal(error);
      return;
    }
    // A lost connection is logged where it is lost.
    const level = error instanceof StoreError && error.code === 'UNAVAILABLE' ? 'debug' : 'error';
    log[level]({ event: 'work_failed', work: key, err: error, retry_ms: Math.round(retryMillis) });
  }
}

/** A text that is equal exactly when every status would be made from equal facts. */
function fingerprintOf(world: World): string {
  const pods = world.pods === undefined ? undefined : readyPods(world.pods, world.nowMicros);
  return JSON.stringify([
    pods
      ?.map(({ acknowledgement }) => [
        acknowledgement.pod,
        acknowledgement.identity,
        acknowledgement.keySequence,
        acknowledgement.problem,
      ])
      .toSorted(),
    world.published?.identity,
    world.isOverdue,
  ]);
}
