import { setTimeout as pause } from 'node:timers/promises';
import type { Logger } from 'pino';
import type { Leadership, LeadershipEvents } from '../leadership.ts';
import type { ApiClient } from './api-client.ts';
import { ApiError } from './api-error.ts';
import { type LeaseName, type LeaseRecord, microTime, parseLease, toLease } from './lease.ts';

export type ElectionTimes = {
  /** How long a lease stands that nobody renews. */
  readonly leaseMillis: number;
  /** A leader that could not renew for so long gives up; shorter than the lease. */
  readonly renewMillis: number;
  readonly retryMillis: number;
};

export type ElectionOptions = {
  readonly client: ApiClient;
  readonly lease: LeaseName;
  /** Unique among all processes there ever are: a container that restarts is another candidate, with another term. */
  readonly identity: string;
  readonly log: Logger;
  readonly times?: ElectionTimes;
  readonly observer?: ElectionObserver;
  readonly monotonicMillis?: () => number;
};

export type ElectionObserver = {
  onLeading(isLeading: boolean): void;
  /** A call to the API server for the lease failed. */
  onFailure(): void;
};

const TIMES: ElectionTimes = { leaseMillis: 15_000, renewMillis: 10_000, retryMillis: 2_000 };
const JITTER = 0.2;
const RELEASE_MILLIS = 2_000;

/** Shorter or longer than usual, in the usual proportions. */
export function timesFor(leaseSeconds: number): ElectionTimes {
  const leaseMillis = leaseSeconds * 1000;
  return { leaseMillis, renewMillis: (leaseMillis * 2) / 3, retryMillis: (leaseMillis * 2) / 15 };
}

export class LeadershipLost extends Error {
  override readonly name = 'LeadershipLost';
  readonly code = 'LEADERSHIP_LOST';
  readonly transient = false;
}

/**
 * Leadership by a Lease, as Kubernetes' own controllers do it. Another holder's lease is over when it has stood
 * unchanged for a whole lease duration by our own clock: the times in it are by the clocks of others and are never
 * compared. Every write carries the version that was read, so of two candidates one loses. The number of transitions
 * is the epoch of the term. Whoever loses the lease must end: it never becomes a candidate again.
 */
export class LeaderElection implements Leadership {
  readonly #options: ElectionOptions;
  readonly #times: ElectionTimes;
  readonly #now: () => number;
  readonly #stopping = new AbortController();
  #events: LeadershipEvents | undefined;
  #running: Promise<void> = Promise.resolve();
  /** Writes one after the other: each needs the version that the one before has brought. */
  #turn: Promise<unknown> = Promise.resolve();
  /** The lease as last seen, and since when by our clock it has stood like this. */
  #seen: { readonly record: LeaseRecord; readonly sinceMillis: number } | undefined;
  /** When the last write was begun that made or kept us the holder; undefined if we are not. */
  #renewedAtMillis: number | undefined;

  constructor(options: ElectionOptions) {
    this.#options = options;
    this.#times = options.times ?? TIMES;
    this.#now = options.monotonicMillis ?? (() => performance.now());
  }

  start(events: LeadershipEvents): void {
    this.#events = events;
    this.#running = this.#run();
  }

  isHeld(): boolean {
    return this.#renewedAtMillis !== undefined && this.#now() - this.#renewedAtMillis < this.#times.renewMillis;
  }

  async epochAbove(floor: number): Promise<number> {
    return this.#inTurn(async () => {
      if (!this.isHeld() || this.#seen === undefined) throw new LeadershipLost('this operator does not lead');
      const { record } = this.#seen;
      if (record.transitions > floor) return record.transitions;
      const startedAtMillis = this.#now();
      await this.#write({ ...record, transitions: floor + 1 }, this.#deadline());
      this.#renewedAtMillis = startedAtMillis;
      return floor + 1;
    });
  }

  async release(): Promise<void> {
    this.#stopping.abort();
    await this.#running;
    await this.#turn;
    if (!this.isHeld()) return;
    this.#resign();
    try {
      // Read first: a renewal that was cut off may or may not have been written.
      const signal = AbortSignal.timeout(RELEASE_MILLIS);
      const found = await this.#read(signal);
      if (found?.holder !== this.#options.identity) return;
      await this.#write({ ...found, holder: '' }, signal);
      this.#options.log.info({ event: 'lease_released' });
    } catch (error) {
      // It ends by itself, a little later.
      this.#options.log.warn({ event: 'lease_not_released', err: error });
    }
  }

  async #run(): Promise<void> {
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      await this.#inTurn(() => this.#step());
      const jitter = this.#renewedAtMillis === undefined ? JITTER * Math.random() : 0;
      await pause(this.#times.retryMillis * (1 + jitter), undefined, { signal }).catch(() => undefined);
    }
  }

  /** One attempt to become the leader, or to stay it. */
  async #step(): Promise<void> {
    if (this.#stopping.signal.aborted) return;
    const wasLeading = this.#renewedAtMillis !== undefined;
    try {
      // A process that was stopped for long finds its time over before it does anything else.
      if (!wasLeading) await this.#tryAcquire();
      else if (this.isHeld()) await this.#renew();
    } catch (error) {
      if (this.#stopping.signal.aborted) return;
      this.#options.observer?.onFailure();
      this.#options.log.warn({ event: 'lease_failed', err: error });
    }
    if (wasLeading && !this.isHeld()) this.#lose('the lease could not be renewed in time');
  }

  async #tryAcquire(): Promise<void> {
    const startedAtMillis = this.#now();
    const found = await this.#read(this.#deadline());
    const { identity, log } = this.#options;
    const now = microTime(new Date());
    const term = { holder: identity, acquireTime: now, renewTime: now };
    // From 1: epoch 0 is what nobody has published with.
    if (found === undefined) await this.#write({ ...term, transitions: 1 }, this.#deadline());
    else if (this.#mayTake(found))
      await this.#write({ ...found, ...term, transitions: found.transitions + 1 }, this.#deadline());
    else return;
    this.#renewedAtMillis = startedAtMillis;
    log.info({ event: 'leader_elected', identity, epoch: this.#seen?.record.transitions });
    this.#options.observer?.onLeading(true);
    this.#events?.onElected();
  }

  #mayTake(found: LeaseRecord): boolean {
    if (found.holder === '') return true;
    const since = this.#seen?.sinceMillis ?? this.#now();
    return this.#now() - since >= this.#times.leaseMillis;
  }

  async #renew(): Promise<void> {
    const startedAtMillis = this.#now();
    const known = this.#seen?.record;
    if (known === undefined) return;
    const renewed = { ...known, renewTime: microTime(new Date()) };
    try {
      await this.#write(renewed, this.#deadline());
    } catch (error) {
      if (!(error instanceof ApiError) || (error.status !== 409 && error.status !== 404)) throw error;
      if (!(await this.#renewAnew(renewed))) return;
    }
    this.#renewedAtMillis = startedAtMillis;
  }

  /** The lease is not what we left: somebody edited it, deleted it, or took it. */
  async #renewAnew(renewed: LeaseRecord): Promise<boolean> {
    const found = await this.#read(this.#deadline());
    const { resourceVersion: _gone, ...anew } = renewed;
    if (found === undefined) await this.#write(anew, this.#deadline());
    else if (found.holder !== this.#options.identity) {
      this.#lose(`the lease was taken by "${found.holder}"`);
      return false;
    } else await this.#write({ ...renewed, resourceVersion: found.resourceVersion }, this.#deadline());
    return true;
  }

  #lose(why: string): void {
    if (this.#renewedAtMillis === undefined || this.#stopping.signal.aborted) return;
    this.#resign();
    this.#stopping.abort();
    this.#events?.onLost(new LeadershipLost(why));
  }

  #resign(): void {
    this.#renewedAtMillis = undefined;
    this.#options.observer?.onLeading(false);
  }

  async #read(signal: AbortSignal): Promise<LeaseRecord | undefined> {
    try {
      return this.#observe(await this.#call('GET', this.#path(), undefined, signal));
    } catch (error) {
      if (error instanceof ApiError && error.status === 404) return undefined;
      throw error;
    }
  }

  async #write(
    record: Omit<LeaseRecord, 'resourceVersion'> & { readonly resourceVersion?: string },
    signal: AbortSignal,
  ): Promise<void> {
    const body = toLease(this.#options.lease, record, Math.ceil(this.#times.leaseMillis / 1000));
    const isNew = record.resourceVersion === undefined;
    this.#observe(await this.#call(isNew ? 'POST' : 'PUT', isNew ? this.#collection() : this.#path(), body, signal));
  }

  #observe(answer: unknown): LeaseRecord {
    const record = parseLease(answer);
    const before = this.#seen?.record;
    const isSame =
      before?.holder === record.holder &&
      before.renewTime === record.renewTime &&
      before.transitions === record.transitions;
    this.#seen = { record, sinceMillis: isSame && this.#seen !== undefined ? this.#seen.sinceMillis : this.#now() };
    return record;
  }

  #call(method: 'GET' | 'POST' | 'PUT', path: string, body: unknown, signal: AbortSignal): Promise<unknown> {
    return this.#options.client.call(path, { method, signal, isUrgent: true, ...(body === undefined ? {} : { body }) });
  }

  /** What remains until our time is over; a candidate may take as long as a leader. */
  #deadline(): AbortSignal {
    const since = this.#renewedAtMillis ?? this.#now();
    const millis = Math.max(1, Math.ceil(since + this.#times.renewMillis - this.#now()));
    return AbortSignal.any([this.#stopping.signal, AbortSignal.timeout(millis)]);
  }

  #collection(): string {
    return `/apis/coordination.k8s.io/v1/namespaces/${encodeURIComponent(this.#options.lease.namespace)}/leases`;
  }

  #path(): string {
    return `${this.#collection()}/${encodeURIComponent(this.#options.lease.name)}`;
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#turn.then(work);
    this.#turn = result.catch(() => undefined);
    return result;
  }
}
