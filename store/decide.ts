import type { RedisClient } from './connection.ts';
import type { Verdict } from '../policy/decision.ts';
import { Breaker, type BreakerState } from './breaker.ts';
import type { RedisClock } from './clock.ts';
import { within } from './deadline.ts';
import { DecideArguments, type DecideRequest, decodeVerdict } from './decide-wire.ts';
import { StoreError, toStoreError } from './errors.ts';
import type { Names } from './names.ts';
import { integerOf, textsOf } from './reply.ts';
import { loadScript, type Script } from './script.ts';

/** A verdict, and the time of Redis at which it was reached: microseconds since 1970. */
export type TimedVerdict = Verdict & { readonly redisMicros: number };

export type DeciderOptions = {
  /** Milliseconds after which an answer is not waited for any more. */
  readonly deadlineMillis: number;
  /** Requests in one script call, at most. */
  readonly maxBatch?: number;
  /** Requests in the first script call of a turn, at most. */
  readonly firstBatch?: number;
  /** Requests under way; above it they are refused at once. */
  readonly maxInFlight?: number;
  readonly onBreakerTransition?: (to: BreakerState) => void;
  /** A call of the script was answered after so long. */
  readonly onRoundTrip?: (seconds: number) => void;
  /** For tests only: the script with another clock. */
  readonly script?: Script;
};

/** How late a time-out may be before it says more about this process than about Redis. */
const HEALTHY_LAG_MILLIS = 10;

// Made once: what is refused by the thousand must not cost a stack trace each.
const OVERLOADED = new StoreError('OVERLOADED', 'too many decisions are under way');
const BREAKER_OPEN = new StoreError('BREAKER_OPEN', 'Redis failed too often just now');

/**
 * As soon as there are so many they are sent, without waiting for the end of the turn: Redis decides about them while those
 * after them are read. The next call of the turn has twice as many, as each costs something of its own.
 */
const FIRST_BATCH = 12;
const MAX_BATCH = 100;

type Pending = {
  readonly request: DecideRequest;
  readonly resolve: (verdict: TimedVerdict) => void;
  readonly reject: (error: StoreError) => void;
};

/**
 * Decisions over the counters in Redis. The requests of one turn of the event loop go out in few script calls, several
 * of which may be under way. A decision is never sent twice, as nobody knows whether a lost one was charged. While Redis
 * does not answer, a breaker refuses decisions at once.
 */
export class Decider {
  readonly #redis: RedisClient;
  readonly #names: Names;
  readonly #clock: RedisClock;
  readonly #script: Script;
  readonly #deadlineMillis: number;
  readonly #maxBatch: number;
  readonly #firstBatch: number;
  readonly #maxInFlight: number;
  readonly #onRoundTrip: ((seconds: number) => void) | undefined;
  readonly #breaker: Breaker;
  #waiting: Pending[] = [];
  #nextBatch: number;
  #inFlight = 0;

  constructor(redis: RedisClient, names: Names, clock: RedisClock, options: DeciderOptions) {
    this.#redis = redis;
    this.#names = names;
    this.#clock = clock;
    this.#script = options.script ?? loadScript('decide');
    this.#deadlineMillis = options.deadlineMillis;
    this.#maxBatch = options.maxBatch ?? MAX_BATCH;
    this.#firstBatch = Math.min(options.firstBatch ?? FIRST_BATCH, this.#maxBatch);
    this.#nextBatch = this.#firstBatch;
    this.#maxInFlight = options.maxInFlight ?? 10_000;
    this.#onRoundTrip = options.onRoundTrip;
    this.#breaker = new Breaker({
      monotonicMillis: () => clock.monotonicMillis(),
      probe: () => within(options.deadlineMillis, redis.ping()),
      ...(options.onBreakerTransition === undefined ? {} : { onTransition: options.onBreakerTransition }),
    });
    redis.on('ready', this.#wake);
  }

  get breakerState(): BreakerState {
    return this.#breaker.state;
  }

  /** Whether most decisions of the last second could not be had. */
  get isFailing(): boolean {
    return this.#breaker.isFailing;
  }

  /** Lets go of the connection; decisions under way end as they would. */
  stop(): void {
    this.#redis.off('ready', this.#wake);
    this.#breaker.stop();
  }

  readonly #wake = (): void => this.#breaker.wake();

  get inFlight(): number {
    return this.#inFlight;
  }

  /** Rejects with StoreError: UNAVAILABLE, TIMEOUT, OVERLOADED, BREAKER_OPEN, REFUSED, WRONG_TYPE or BAD_REPLY. */
  decide(request: DecideRequest): Promise<TimedVerdict> {
    if (this.#breaker.state !== 'CLOSED') return Promise.reject(BREAKER_OPEN);
    if (this.#inFlight >= this.#maxInFlight) return Promise.reject(OVERLOADED);
    this.#inFlight += 1;
    // The check phase follows the poll phase: by then every request that arrived with this turn has joined.
    if (this.#waiting.length === 0) setImmediate(this.#endTurn);
    return new Promise((resolve, reject) => {
      const waiting = this.#waiting.push({ request, resolve, reject });
      // With a cluster they are for different slots: the more there are, the more of them share one.
      if (waiting >= this.#nextBatch && !this.#redis.isCluster) this.#sendEarly();
    });
  }

  #sendEarly(): void {
    this.#nextBatch = Math.min(this.#nextBatch * 2, this.#maxBatch);
    this.#flush();
  }

  readonly #endTurn = (): void => {
    this.#nextBatch = this.#firstBatch;
    this.#flush();
  };

  #flush(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    if (!this.#redis.isCluster) {
      this.#sendInBatches(waiting);
      return;
    }
    // One call is for one slot.
    for (const members of Map.groupBy(waiting, ({ request }) => request.partition).values()) {
      this.#sendInBatches(members);
    }
  }

  #sendInBatches(waiting: readonly Pending[]): void {
    for (let start = 0; start < waiting.length; start += this.#maxBatch) {
      void this.#send(waiting.slice(start, start + this.#maxBatch));
    }
  }

  async #send(batch: readonly Pending[]): Promise<void> {
    const { keys, args } = new DecideArguments(
      this.#names,
      batch.map(({ request }) => request),
    );
    const sentAt = this.#clock.monotonicMillis();
    try {
      const reply = textsOf(await within(this.#deadlineMillis, this.#script.run(this.#redis, keys, args)));
      if (reply.length !== batch.length + 1)
        throw new StoreError('BAD_REPLY', 'the reply has another length than the batch');
      const redisMicros = integerOf(reply[0]);
      this.#clock.observe(redisMicros, sentAt);
      this.#breaker.succeeded(sentAt, batch.length);
      this.#onRoundTrip?.((this.#clock.monotonicMillis() - sentAt) / 1_000);
      batch.forEach((pending, index) => settle(pending, reply[index + 1], redisMicros));
    } catch (error) {
      const storeError = toStoreError(error);
      this.#noteFailure(storeError, sentAt, batch.length);
      for (const pending of batch) pending.reject(storeError);
    } finally {
      this.#inFlight -= batch.length;
    }
  }

  /** A time-out that came late itself shows that this process was busy, and nothing about Redis. */
  #noteFailure({ code }: StoreError, sentAt: number, decisions: number): void {
    const waited = this.#clock.monotonicMillis() - sentAt;
    if (code === 'TIMEOUT' && waited > this.#deadlineMillis + HEALTHY_LAG_MILLIS) return;
    this.#breaker.failed(code, sentAt, decisions);
  }
}

/** Each member of a batch has its own fate: a broken reply or key of one does not touch the others. */
function settle(pending: Pending, text: string | undefined, redisMicros: number): void {
  try {
    pending.resolve({ ...decodeVerdict(pending.request, text ?? ''), redisMicros });
  } catch (error) {
    pending.reject(toStoreError(error));
  }
}
