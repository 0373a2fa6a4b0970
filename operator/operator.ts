// The operator: reads all resources, publishes what they say, and writes back what the pods acknowledge. Imports
// policy/ and store/; hands out one running operator to cli/.
import type { Logger } from 'pino';
import type { RawResource } from '../policy/resource.ts';
import { allKinds } from '../policy/schema/kinds.ts';
import { subscribeToChanges, type Subscription } from '../store/changes.ts';
import { connect, disconnect, type RedisClient } from '../store/connection.ts';
import { StoreError } from '../store/errors.ts';
import { createNames, type Names } from '../store/names.ts';
import { Configurer, type Peppers } from './configurer.ts';
import { alone, type Leadership } from './leadership.ts';
import type { OperatorMetrics } from './metrics/metrics.ts';
import { Mirror } from './mirror.ts';
import { LOOK_MILLIS, Outlook } from './outlook.ts';
import { Propagation } from './propagation.ts';
import type { Published } from './published.ts';
import { type Snapshot, toSnapshot } from './snapshot.ts';
import type { KeySecrets } from './secret-keys.ts';
import type { ResourceSource, SourceChange } from './source.ts';
import { StatusKeeper } from './status-keeper.ts';
import type { Transition } from './transitions.ts';
import { WorkQueue } from './work-queue.ts';

/** Who requests are sent to, if that is known. */
export type PodEndpoints = {
  readonly hasSynced: boolean;
  start(onChange: () => void): void;
  stop(): Promise<void>;
  pods(): ReadonlySet<string>;
};

export type OperatorOptions = {
  readonly redisUrl: string;
  readonly installation: string;
  readonly owner: string;
  /** The secret with which API keys are hashed, or where those that are in use can be read from. */
  readonly pepper: string | Peppers;
  readonly source: ResourceSource;
  readonly log: Logger;
  /** Called once when this operator must not go on: another one took over. */
  readonly onFatal: (error: Error) => void;
  /** Default: there is no other operator. */
  readonly leadership?: Leadership;
  /** Default: the pods heard of lately are the ready ones. */
  readonly endpoints?: PodEndpoints;
  /** Default: API keys are in Consumers only. */
  readonly keySecrets?: KeySecrets;
  readonly metrics?: OperatorMetrics;
  /** Told of every change of state that was recorded. */
  readonly onTransitions?: (resource: RawResource, transitions: readonly Transition[]) => void;
  /** How often everything that is published is compared with what Redis holds. */
  readonly auditMillis?: number;
};

export const CONFIGURATION = 'configuration';
export const STATUS = 'status';
export const AUDIT = 'audit';
export const CONTROLLERS = [CONFIGURATION, STATUS, AUDIT];

const AUDIT_MILLIS = 180_000;
/** How often a standby looks at what is in force, which it hands out while Redis is away: so old that may be. */
const MIRROR_MILLIS = 1_000;

/** Edits that come together are published together. */
const DEBOUNCE_MILLIS = 50;
/** What the work under way may take when the operator stops. */
const DRAIN_MILLIS = 5_000;

export class Operator {
  readonly #options: OperatorOptions;
  readonly #leadership: Leadership;
  readonly #names: Names;
  readonly #redis: RedisClient;
  readonly #configurer: Configurer;
  readonly #mirror: Mirror;
  readonly #queue: WorkQueue;
  readonly #outlook: Outlook;
  readonly #statuses: StatusKeeper;
  readonly #propagation = new Propagation();
  /** One text of megabytes, however many limiters ask for it; it goes with what it was made from. */
  readonly #snapshots = new WeakMap<Published, Snapshot>();
  readonly #subscription: Subscription;
  /** The first change that is not yet part of a pass over the configuration. */
  #changedAtMillis: number | undefined;
  #mirroredAtMillis = -MIRROR_MILLIS;
  #isStopping = false;
  #hasFailed = false;
  /** Whether Redis answered or failed once; before that nothing can be said of it. */
  #isSettled = false;
  #ticker: NodeJS.Timeout | undefined;
  #auditor: NodeJS.Timeout | undefined;

  constructor(options: OperatorOptions) {
    this.#options = options;
    this.#leadership = options.leadership ?? alone();
    this.#names = createNames(options.installation);
    this.#redis = this.#connect();
    this.#configurer = new Configurer({
      redis: this.#redis,
      names: this.#names,
      owner: options.owner,
      pepper: options.pepper,
      leadership: this.#leadership,
      keySecrets: options.keySecrets,
      log: options.log,
      ...(options.metrics === undefined ? {} : { observer: options.metrics }),
    });
    this.#mirror = new Mirror(this.#redis, this.#names, options.owner);
    this.#outlook = new Outlook({
      redis: this.#redis,
      names: this.#names,
      configurer: this.#configurer,
      endpoints: () => options.endpoints?.pods(),
    });
    this.#queue = new WorkQueue({
      work: (key) => this.#work(key),
      onError: (key, error, retryMillis) => this.#onError(key, error, retryMillis),
      ...(options.metrics === undefined ? {} : { observer: options.metrics.work }),
    });
    this.#statuses = new StatusKeeper({
      source: options.source,
      isInterrupted: () => this.#queue.hasNew(CONFIGURATION) || this.#isStopping || !this.#leadership.isHeld(),
      again: () => this.#queue.add(STATUS, DEBOUNCE_MILLIS),
      onTransitions: (resource, transitions) => this.#onTransitions(resource, transitions),
    });
    options.metrics?.follow(() => (this.#leadership.isHeld() ? this.#resources() : []));
    this.#subscription = subscribeToChanges(options.redisUrl, this.#names, ['ack'], () => this.#queue.add(STATUS));
  }

  /** Whether everything that is followed has been read once: what a standby needs to take over at once. */
  hasSynced(): boolean {
    const { source, endpoints, keySecrets } = this.#options;
    return source.hasSynced() && (endpoints?.hasSynced ?? true) && (keySecrets?.hasSynced ?? true);
  }

  start(): void {
    const { source, endpoints, keySecrets } = this.#options;
    source.start((change) => this.#onChange(change));
    endpoints?.start(() => this.#queue.add(STATUS));
    keySecrets?.start(() => this.#onChange('spec'));
    this.#leadership.start({
      onElected: () => this.#queue.add(CONFIGURATION),
      onLost: (error) => this.#fail(error),
    });
    this.#ticker = setInterval(() => this.#queue.add(STATUS), LOOK_MILLIS);
    this.#auditor = setInterval(() => this.#queue.add(AUDIT), this.#options.auditMillis ?? AUDIT_MILLIS);
  }

  /** What is in force, complete; undefined if it is not known. */
  snapshot(): Snapshot | undefined {
    const published = this.#configurer.isConfigured ? this.#configurer.publisher.published : this.#mirror.copy;
    if (published === undefined) return undefined;
    const known = this.#snapshots.get(published);
    if (known !== undefined) return known;
    const snapshot = toSnapshot(this.#options.owner, published);
    if (snapshot !== undefined) this.#snapshots.set(published, snapshot);
    return snapshot;
  }

  /** Finishes the work under way, then gives up leadership and lets go of everything. */
  async stop(): Promise<void> {
    this.#isStopping = true;
    clearInterval(this.#ticker);
    clearInterval(this.#auditor);
    await Promise.all([
      this.#options.source.stop(),
      this.#options.endpoints?.stop(),
      this.#options.keySecrets?.stop(),
      Promise.race([this.#queue.stop(), new Promise((resolve) => setTimeout(resolve, DRAIN_MILLIS).unref())]),
    ]);
    // The work that was finished last may have set its timer.
    this.#statuses.stop();
    await this.#leadership.release();
    this.#subscription.close();
    disconnect(this.#redis);
  }

  #onChange(change: SourceChange): void {
    if (change === 'status') {
      this.#statuses.invalidate();
      this.#queue.add(STATUS, DEBOUNCE_MILLIS);
      return;
    }
    this.#changedAtMillis ??= performance.now();
    // An incident waits for nothing: nobody declares them in bulk.
    this.#queue.add(CONFIGURATION, change === 'health' ? 0 : DEBOUNCE_MILLIS);
  }

  #connect(): RedisClient {
    const { redisUrl, log } = this.#options;
    const settle = (): void => {
      this.#isSettled = true;
      this.#queue.add(CONFIGURATION);
    };
    return connect(redisUrl, {
      onDown: (message) => {
        log.warn({ event: 'redis_down' }, `Redis cannot be reached, trying again: ${message}`);
        settle();
      },
      onReady: () => {
        log.info({ event: 'redis_ready' });
        settle();
      },
    });
  }

  #resources(): RawResource[] {
    return allKinds.flatMap((kind) => this.#options.source.list(kind));
  }

  #work(key: string): Promise<void> {
    switch (key) {
      case CONFIGURATION:
        return this.#configure();
      case AUDIT:
        return this.#leadership.isHeld() ? this.#audit() : Promise.resolve();
      default:
        return this.#leadership.isHeld() ? this.#report() : this.#lookOn();
    }
  }

  /** Puts in force what all resources say now. */
  async #configure(): Promise<void> {
    if (!this.hasSynced() || !this.#isSettled || !this.#leadership.isHeld()) return;
    const resources = this.#resources();
    this.#propagation.note(resources, this.#changedAtMillis ?? performance.now());
    this.#changedAtMillis = undefined;
    try {
      await this.#configurer.pass(resources);
    } finally {
      this.#statuses.invalidate();
      this.#queue.add(STATUS);
    }
  }

  async #audit(): Promise<void> {
    await this.#configurer.audit();
    this.#queue.add(CONFIGURATION);
  }

  /** A standby keeps what is in force at hand. */
  async #lookOn(): Promise<void> {
    if (!this.#isSettled || performance.now() - this.#mirroredAtMillis < MIRROR_MILLIS) return;
    this.#mirroredAtMillis = performance.now();
    try {
      await this.#mirror.refresh();
    } catch (error) {
      if (!(error instanceof StoreError && error.transient)) throw error;
    }
  }

  /** Writes the statuses that differ from what is so. */
  async #report(): Promise<void> {
    if (!this.hasSynced()) return;
    const { world, isDisplaced, failure } = await this.#outlook.look();
    if (isDisplaced) this.#queue.add(CONFIGURATION);
    if (world === undefined) return;
    this.#options.metrics?.onPods(world.pods ?? []);
    await this.#statuses.pass(this.#resources(), world);
    // Said in every status now; for the log and the metrics it is a failure none the less.
    if (failure !== undefined && !failure.transient) throw failure;
  }

  #onTransitions(resource: RawResource, transitions: readonly Transition[]): void {
    this.#options.onTransitions?.(resource, transitions);
    if (!transitions.some(({ reason }) => reason === 'Enforced')) return;
    const seconds = this.#propagation.finish(resource, performance.now());
    if (seconds !== undefined) this.#options.metrics?.onPropagated(seconds);
  }

  #onError(key: string, error: unknown, retryMillis: number): void {
    const { log, metrics } = this.#options;
    if (key === CONFIGURATION) metrics?.onPublishFailed();
    const code = error instanceof StoreError ? error.code : undefined;
    if (error instanceof StoreError && code === 'SUPERSEDED') {
      this.#fail(error);
      return;
    }
    // A lost connection is logged where it is lost, and another owner where it is found.
    const level = code === 'UNAVAILABLE' || code === 'OWNED_BY_OTHER' ? 'debug' : 'error';
    log[level]({ event: 'work_failed', work: key, err: error, retry_ms: Math.round(retryMillis) });
  }

  #fail(error: Error): void {
    if (this.#hasFailed) return;
    this.#hasFailed = true;
    const code: unknown = Reflect.get(error, 'code');
    this.#options.log.fatal({ event: 'operator_displaced', code }, error.message);
    this.#options.onFatal(error);
  }
}
