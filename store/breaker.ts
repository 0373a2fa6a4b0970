import type { StoreErrorCode } from './errors.ts';

/** CLOSED: calls go to Redis. OPEN: none does. HALF_OPEN: only probes do. */
export type BreakerState = 'CLOSED' | 'OPEN' | 'HALF_OPEN';

export type BreakerOptions = {
  readonly monotonicMillis: () => number;
  /** Asks Redis for a sign of life, within a deadline; rejects if there is none. Must have no effect there. */
  readonly probe: () => Promise<unknown>;
  readonly onTransition?: (to: BreakerState) => void;
  /** At least 0, less than 1. */
  readonly random?: () => number;
  /** Runs something later, unless what it returns is called before. */
  readonly schedule?: (run: () => void, millis: number) => () => void;
};

const BUCKETS = 10;
const BUCKET_MILLIS = 100;
/** Fewer calls than this in a second prove nothing. */
const MIN_CALLS = 20;
const MAX_CONNECTION_ERRORS = 5;
const FIRST_OPEN_MILLIS = 250;
const MAX_OPEN_MILLIS = 5_000;
/** Pods that lost Redis together must not all come back together. */
const JITTER = 0.2;
const PROBE_MILLIS = 50;
const PROBES_TO_CLOSE = 3;
/** Who stayed closed for this long begins again with the shortest opening; a store that flaps does not. */
const STEADY_MILLIS = MAX_OPEN_MILLIS;

/**
 * Keeps requests from waiting for a Redis that does not answer: one deadline each is what a stall costs without it.
 *
 * It opens when at least half of the calls of the last second failed (of 20 or more), or after 5 losses of the
 * connection in a row. It stays open for 250 ms, twice as long each time up to 5 s, +-20 %; then one PING each 50 ms,
 * never a decision, asks whether Redis is there. Three answers in a row close it. What Redis refuses is an answer: it
 * costs no waiting, and opens nothing.
 */
export class Breaker {
  readonly #options: BreakerOptions;
  readonly #random: () => number;
  readonly #schedule: (run: () => void, millis: number) => () => void;
  readonly #calls = new LastSecond();
  #state: BreakerState = 'CLOSED';
  #closedAtMillis = Number.NEGATIVE_INFINITY;
  #connectionErrors = 0;
  #lastConnectionErrorMillis = Number.NEGATIVE_INFINITY;
  #openings = 0;
  #probesPassed = 0;
  #cancel: () => void = () => undefined;
  /** Counts transitions, so that a probe of an earlier state is not heard in a later one. */
  #round = 0;

  constructor(options: BreakerOptions) {
    this.#options = options;
    this.#random = options.random ?? Math.random;
    this.#schedule = options.schedule ?? scheduleUnreferenced;
  }

  get state(): BreakerState {
    return this.#state;
  }

  /** Whether most decisions of the last second could not be had, be it that Redis refused them. */
  get isFailing(): boolean {
    if (this.#state !== 'CLOSED') return true;
    const { all, failed, refused } = this.#calls.read(this.#options.monotonicMillis());
    return failed + refused > 0 && (failed + refused) * 2 >= all;
  }

  /** A call for so many decisions was answered. */
  succeeded(sentAtMillis: number, decisions: number): void {
    if (!this.#isHeard(sentAtMillis)) return;
    this.#connectionErrors = 0;
    this.#calls.add(this.#options.monotonicMillis(), 'succeeded', decisions);
  }

  /** A call for so many decisions failed. What says nothing about Redis' health is not counted. */
  failed(code: StoreErrorCode, sentAtMillis: number, decisions: number): void {
    if (!this.#isHeard(sentAtMillis)) return;
    const now = this.#options.monotonicMillis();
    if (code === 'REFUSED') {
      this.#connectionErrors = 0;
      this.#calls.add(now, 'refused', decisions);
    }
    if (code !== 'UNAVAILABLE' && code !== 'TIMEOUT') return;
    this.#calls.add(now, 'failed', decisions);
    // Calls that were under way when the connection broke are one loss, however many they are.
    if (code === 'UNAVAILABLE' && sentAtMillis > this.#lastConnectionErrorMillis) {
      this.#connectionErrors += 1;
      this.#lastConnectionErrorMillis = now;
    }
    const { all, failed } = this.#calls.read(now);
    if (this.#connectionErrors >= MAX_CONNECTION_ERRORS || (all >= MIN_CALLS && failed * 2 >= all)) this.#open();
  }

  /** The connection is there again: its own back-off has waited already, so ask at once. */
  wake(): void {
    if (this.#state === 'OPEN') this.#halfOpen();
  }

  stop(): void {
    this.#round += 1;
    this.#cancel();
  }

  /** What was sent before it opened says nothing about Redis after it closed. */
  #isHeard(sentAtMillis: number): boolean {
    return this.#state === 'CLOSED' && sentAtMillis >= this.#closedAtMillis;
  }

  #open(): void {
    const wasSteady = this.#options.monotonicMillis() - this.#closedAtMillis >= STEADY_MILLIS;
    if (this.#state === 'CLOSED' && wasSteady) this.#openings = 0;
    const millis = Math.min(FIRST_OPEN_MILLIS * 2 ** this.#openings, MAX_OPEN_MILLIS);
    if (millis < MAX_OPEN_MILLIS) this.#openings += 1;
    this.#enter('OPEN');
    this.#cancel = this.#schedule(() => this.#halfOpen(), millis * (1 - JITTER + 2 * JITTER * this.#random()));
  }

  #halfOpen(): void {
    this.#probesPassed = 0;
    this.#enter('HALF_OPEN');
    this.#probe();
  }

  #probe(): void {
    const round = this.#round;
    this.#options.probe().then(
      () => this.#probed(round, true),
      () => this.#probed(round, false),
    );
  }

  #probed(round: number, isAlive: boolean): void {
    if (round !== this.#round) return;
    if (!isAlive) {
      this.#open();
      return;
    }
    this.#probesPassed += 1;
    if (this.#probesPassed < PROBES_TO_CLOSE) {
      this.#cancel = this.#schedule(() => this.#probe(), PROBE_MILLIS);
      return;
    }
    this.#closedAtMillis = this.#options.monotonicMillis();
    this.#connectionErrors = 0;
    this.#calls.clear();
    this.#enter('CLOSED');
  }

  #enter(state: BreakerState): void {
    this.#cancel();
    this.#round += 1;
    this.#state = state;
    this.#options.onTransition?.(state);
  }
}

/** Never keeps the process alive. */
function scheduleUnreferenced(run: () => void, millis: number): () => void {
  const timer = setTimeout(run, millis).unref();
  return () => clearTimeout(timer);
}

type Outcome = 'succeeded' | 'failed' | 'refused';

type Bucket = { index: number; succeeded: number; failed: number; refused: number };

/** Outcomes of the last second, in tenths of it. */
class LastSecond {
  readonly #buckets: readonly Bucket[] = Array.from({ length: BUCKETS }, emptyBucket);

  add(nowMillis: number, outcome: Outcome, decisions: number): void {
    const index = Math.floor(nowMillis / BUCKET_MILLIS);
    const bucket = this.#buckets[index % BUCKETS];
    if (bucket === undefined) return;
    if (bucket.index !== index) Object.assign(bucket, emptyBucket(), { index });
    bucket[outcome] += decisions;
  }

  read(nowMillis: number): { all: number; failed: number; refused: number } {
    const newest = Math.floor(nowMillis / BUCKET_MILLIS);
    const sum = { all: 0, failed: 0, refused: 0 };
    for (const { index, succeeded, failed, refused } of this.#buckets) {
      if (newest - index >= BUCKETS) continue;
      sum.all += succeeded + failed + refused;
      sum.failed += failed;
      sum.refused += refused;
    }
    return sum;
  }

  clear(): void {
    for (const bucket of this.#buckets) Object.assign(bucket, emptyBucket());
  }
}

function emptyBucket(): Bucket {
  return { index: Number.NEGATIVE_INFINITY, succeeded: 0, failed: 0, refused: 0 };
}
