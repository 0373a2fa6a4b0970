import type { RedisClient } from '../store/connection.ts';
import type { Logger } from 'pino';
import { FORMAT, UnreadableDocument } from '../policy/documents.ts';
import { type ConfigurationIdentity, isNewer, type Snapshot } from '../policy/snapshot.ts';
import { type Acknowledgement, acknowledge, withdraw } from '../store/acknowledgements.ts';
import type { RedisClock } from '../store/clock.ts';
import { type Head, readDocuments } from '../store/configuration.ts';
import { readKeySetState } from '../store/consumer-keys.ts';
import { StoreError } from '../store/errors.ts';
import type { Names } from '../store/names.ts';
import type { KeyCache } from './key-cache.ts';
import { fetchConfiguration } from './cold-start.ts';
import { type Configuration, loadConfiguration, sizeOf } from './configuration.ts';
import { PodCount } from './pod-count.ts';
import { restOneTurn, type Turns } from './slices.ts';

export type LoaderOptions = {
  readonly redis: RedisClient;
  readonly names: Names;
  readonly clock: RedisClock;
  readonly keys: KeyCache;
  readonly log: Logger;
  /** Whose configuration this pod follows. */
  readonly owner: string;
  readonly pod: string;
  readonly instance: string;
  /** Whether most decisions cannot be had from Redis now. */
  readonly isFailing: () => boolean;
  /** Where the operator hands out the configuration in force, for a start while Redis is away. */
  readonly snapshotUrl?: string | undefined;
  /** For tests: how what takes long shares the event loop. */
  readonly turns?: Turns | undefined;
};

const HEARTBEAT_MILLIS = 2_000;

/** Attempts at a head whose documents are gone before the next heartbeat tries again. */
const ATTEMPTS = 3;

/**
 * Follows the published configuration: loads it aside, swaps it whole, acknowledges it. A configuration that is
 * older, unreadable or somebody else's never replaces the one that is held.
 *
 * Loading goes on in slices between which requests are decided by what is held. A head that moves meanwhile is looked at
 * after the switch: were a load given up for every newer one, a stream of edits would keep all of them from coming
 * into force.
 */
export class SnapshotLoader {
  readonly #options: LoaderOptions;
  #held: Configuration | undefined;
  #sinceMicros: number | undefined;
  #problem: string | undefined;
  /** The manifest that could not be read: it is not tried again. */
  #unreadable: string | undefined;
  #lastAnnounced = '';
  #timer: NodeJS.Timeout | undefined;
  #running: Promise<void> | undefined;
  #isAskedAgain = false;
  #isLoading = false;
  #isStopped = false;
  readonly #turns: Turns;
  readonly #pods: PodCount;
  #isReachable = false;
  #isFromOperator = false;
  #confirmedAtMillis: number | undefined;

  constructor(options: LoaderOptions) {
    this.#options = options;
    const monotonicMillis = (): number => options.clock.monotonicMillis();
    this.#pods = new PodCount(monotonicMillis);
    const { monotonicMillis: sliceMillis, rest } = options.turns ?? { monotonicMillis, rest: restOneTurn };
    const restUnlessStopped = async (): Promise<void> => {
      await rest();
      if (this.#isStopped) throw new Error('stopped while loading');
    };
    this.#turns = { monotonicMillis: sliceMillis, rest: restUnlessStopped };
  }

  /** What is enforced; undefined until the first configuration was loaded. */
  get snapshot(): Snapshot | undefined {
    return this.#held?.snapshot;
  }

  /** Why a newer configuration is not enforced, if so. */
  get problem(): string | undefined {
    return this.#problem;
  }

  /** How many pods share the work, as last agreed through Redis; undefined if it never answered. */
  get pods(): number | undefined {
    return this.#pods.agreed;
  }

  /** Whether what is enforced was handed out by the operator, as Redis could not be reached. */
  get isFromOperator(): boolean {
    return this.#isFromOperator;
  }

  get isRedisReachable(): boolean {
    return this.#isReachable;
  }

  /** Since it was last known that what is enforced is what is published; NaN while nothing is enforced. */
  get ageSeconds(): number {
    const { clock } = this.#options;
    return this.#confirmedAtMillis === undefined ? NaN : (clock.monotonicMillis() - this.#confirmedAtMillis) / 1_000;
  }

  start(): void {
    this.#timer = setInterval(() => {
      // However long a load takes, the pod is alive, and enforces what it acknowledged.
      if (this.#isLoading) void this.#beat().catch(() => undefined);
      this.refresh();
    }, HEARTBEAT_MILLIS);
    this.refresh();
  }

  async stop(): Promise<void> {
    this.#isStopped = true;
    clearInterval(this.#timer);
    await this.#running;
    // Good manners only: the operator notices a silent pod by itself.
    await withdraw(this.#options.redis, this.#options.names, this.#options.pod).catch(() => undefined);
  }

  /** Looks for a new configuration now, and acknowledges; joins a look that is under way, then looks once more. */
  refresh(): void {
    if (this.#isStopped) return;
    if (this.#running !== undefined) {
      this.#isAskedAgain = true;
      return;
    }
    this.#running = this.#refreshUntilQuiet().finally(() => {
      this.#running = undefined;
    });
  }

  async #refreshUntilQuiet(): Promise<void> {
    do {
      this.#isAskedAgain = false;
      try {
        await this.#refreshOnce();
        this.#noteReachable(true);
      } catch (error) {
        if (this.#isStopped) return;
        this.#noteReachable(false, error);
        await this.#startWithoutRedis();
      }
    } while (this.#isAskedAgain && !this.#isStopped);
  }

  /** What is held is never replaced by this: it may be newer. */
  async #startWithoutRedis(): Promise<void> {
    const { snapshotUrl, owner, clock, log } = this.#options;
    if (snapshotUrl === undefined || this.#held !== undefined || this.#isStopped) return;
    try {
      const { snapshot, documents } = await fetchConfiguration(snapshotUrl, owner, this.#turns);
      this.#held = { snapshot, documents };
      this.#sinceMicros = clock.nowMicros();
      this.#isFromOperator = true;
      this.#confirmedAtMillis = clock.monotonicMillis();
      this.#problem = undefined;
      const { revision } = snapshot.identity;
      log.warn({ event: 'snapshot_loaded', source: 'operator', revision, documents: sizeOf(documents) });
    } catch (error) {
      if (this.#isStopped) return;
      const why = error instanceof Error ? error.message : String(error);
      this.#complain('NoConfiguration', `Redis cannot be reached, and the operator gives no configuration: ${why}`);
    }
  }

  async #refreshOnce(): Promise<void> {
    const { redis, names, keys } = this.#options;
    const keySet = await readKeySetState(redis, names);
    if (keySet?.isComplete) keys.follow(keySet.sequence);
    for (let attempt = 1; attempt <= ATTEMPTS; attempt += 1) {
      const head = await this.#beat();
      if (!this.#wants(head)) return;
      try {
        await this.#follow(head);
        await this.#beat();
        return;
      } catch (error) {
        if (!(error instanceof StoreError && error.code === 'MISSING_DOCUMENT')) throw error;
        // Head moved on and what we were reading expired, or data was lost: whichever it is, head says.
        this.#problem = error.message;
      }
    }
  }

  async #beat(): Promise<Head | undefined> {
    const { redis, names, clock, owner } = this.#options;
    const acknowledgement = this.#acknowledgement();
    const announced = JSON.stringify(acknowledgement);
    const sentAt = clock.monotonicMillis();
    const isNew = announced !== this.#lastAnnounced;
    const { head, redisMicros, pods } = await acknowledge(redis, names, owner, { acknowledgement, isNew });
    clock.observe(redisMicros, sentAt);
    this.#lastAnnounced = announced;
    this.#pods.seen(pods);
    if (head?.owner === owner && head.manifest === this.snapshot?.identity.manifest) this.#confirmedAtMillis = sentAt;
    return head;
  }

  #acknowledgement(): Acknowledgement {
    const { pod, instance, keys, isFailing } = this.#options;
    return {
      pod,
      instance,
      ...(this.#held === undefined ? {} : { identity: this.#held.snapshot.identity }),
      ...(this.#sinceMicros === undefined ? {} : { sinceMicros: this.#sinceMicros }),
      formats: [FORMAT],
      keySequence: keys.sequence,
      decisions: isFailing() ? 'failing' : 'ok',
      ...(this.#problem === undefined ? {} : { problem: this.#problem }),
    };
  }

  #wants(head: Head | undefined): head is Head {
    if (head === undefined) return false;
    if (head.owner !== this.#options.owner) {
      this.#complain(
        'RedisOwnedByOther',
        `this Redis is configured by "${head.owner}", not by "${this.#options.owner}"`,
      );
      return false;
    }
    if (head.manifest === this.#unreadable) return false;
    this.#problem = undefined;
    return isNewer(head, this.snapshot?.identity);
  }

  async #follow(head: Head): Promise<void> {
    const { owner: _owner, ...identity } = head;
    if (this.#held?.snapshot.identity.manifest === head.manifest) {
      this.#held = { ...this.#held, snapshot: { ...this.#held.snapshot, identity } };
      return;
    }
    try {
      await this.#load(identity);
    } catch (error) {
      if (!(error instanceof UnreadableDocument)) throw error;
      this.#unreadable = head.manifest;
      this.#complain('UnreadableDocument', `revision ${head.revision} cannot be read: ${error.message}`);
    }
  }

  async #load(identity: ConfigurationIdentity): Promise<void> {
    const { redis, names, clock, log } = this.#options;
    this.#isLoading = true;
    try {
      const textsOf = (wanted: readonly string[]) => readDocuments(redis, names, wanted);
      const source = { textsOf, turns: this.#turns };
      const { snapshot, documents, fetched } = await loadConfiguration(identity, this.#held, source);
      this.#held = { snapshot, documents };
      this.#sinceMicros = clock.nowMicros();
      this.#problem = undefined;
      log.info({ event: 'snapshot_loaded', revision: identity.revision, documents: sizeOf(documents), fetched });
    } finally {
      this.#isLoading = false;
    }
  }

  #complain(event: string, problem: string): void {
    if (this.#problem === problem) return;
    this.#problem = problem;
    this.#options.log.error({ event: 'snapshot_refused', reason: event }, problem);
  }

  #noteReachable(isReachable: boolean, error?: unknown): void {
    const wasReachable = this.#isReachable;
    if (!isReachable) this.#pods.lost();
    this.#isReachable = isReachable;
    // A lost connection is logged where it is lost.
    if (isReachable || !wasReachable || (error instanceof StoreError && error.code === 'UNAVAILABLE')) return;
    this.#options.log.warn(
      { event: 'configuration_unreachable', err: error },
      'the configuration cannot be read; what was loaded stays in force',
    );
  }
}
