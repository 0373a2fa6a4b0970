import { createHash } from 'node:crypto';
import type { Logger } from 'pino';
import type { RawResource } from '../../policy/resource.ts';
import { GROUP, VERSION } from '../../policy/schema/to-crd.ts';
import type { Transition } from '../transitions.ts';
import type { ApiClient } from './api-client.ts';
import { ApiError } from './api-error.ts';
import { microTime } from './lease.ts';
import { RateLimit } from './rate-limit.ts';

export type EventRecorderOptions = {
  readonly client: ApiClient;
  /** Name of this pod. */
  readonly instance: string;
  readonly log: Logger;
  readonly observer?: EventObserver;
  readonly times?: Partial<EventTimes>;
};

export type EventTimes = {
  /** The same again within it is one series, not another event. */
  readonly seriesMillis: number;
  /** How often the count of a series is written. */
  readonly refreshMillis: number;
};

/** Told what became of each event, for metrics. */
export type EventObserver = { onEvent(result: 'written' | 'dropped' | 'failed'): void };

type Series = {
  /** Of all events of the namespace. */
  readonly path: string;
  readonly name: string;
  readonly body: object;
  readonly startedAtMillis: number;
  count: number;
  lastObserved: Date;
  writtenCount: number;
};

const CONTROLLER = `${GROUP}/operator`;
const TIMES: EventTimes = { seriesMillis: 360_000, refreshMillis: 10_000 };
const MAX_WAITING = 1_000;
const MAX_SERIES = 10_000;
const PER_SECOND = 10;
const BURST = 50;
const MAX_ATTEMPTS = 3;
const MAX_NOTE = 1_024;
const DEADLINE_MILLIS = 10_000;

/**
 * Tells people of changes of state by Events. The same change of the same object within six minutes is counted in one
 * Event. Events are the least important thing there is: they have a slow rate of their own, and what is too much is
 * dropped and counted.
 */
export class EventRecorder {
  readonly #options: EventRecorderOptions;
  readonly #times: EventTimes;
  readonly #series = new Map<string, Series>();
  readonly #waiting = new Set<Series>();
  readonly #rate = new RateLimit(PER_SECOND, BURST);
  readonly #stopping = new AbortController();
  #running: Promise<void> | undefined;
  #refresh: NodeJS.Timeout | undefined;

  constructor(options: EventRecorderOptions) {
    this.#options = options;
    this.#times = { ...TIMES, ...options.times };
  }

  start(): void {
    this.#refresh = setInterval(() => this.#refreshSeries(), this.#times.refreshMillis);
  }

  /** Drops what waits. */
  async stop(): Promise<void> {
    clearInterval(this.#refresh);
    this.#stopping.abort();
    await this.#running;
  }

  record(resource: RawResource, transition: Transition): void {
    const now = new Date();
    const key = keyOf(resource, transition);
    const known = this.#series.get(key);
    if (known !== undefined && now.getTime() - known.startedAtMillis < this.#times.seriesMillis) {
      known.count += 1;
      known.lastObserved = now;
      return;
    }
    if (this.#waiting.size >= MAX_WAITING || this.#series.size >= MAX_SERIES) {
      this.#options.observer?.onEvent('dropped');
      return;
    }
    const series = this.#begin(resource, transition, now);
    this.#series.set(key, series);
    this.#write(series);
  }

  #begin(resource: RawResource, { type, action, reason, note }: Transition, now: Date): Series {
    const { name, uid } = resource.metadata;
    // An event of what belongs to no namespace is put where Kubernetes puts its own.
    const namespace = resource.metadata.namespace || 'default';
    const unique = createHash('sha256').update(`${uid} ${action} ${reason} ${now.getTime()}`).digest('hex');
    const eventName = `${name.slice(0, 200)}.${unique.slice(0, 16)}`;
    const body = {
      apiVersion: 'events.k8s.io/v1',
      kind: 'Event',
      metadata: { namespace, name: eventName },
      eventTime: microTime(now),
      type,
      reportingController: CONTROLLER,
      reportingInstance: this.#options.instance.slice(0, 128),
      action,
      reason,
      note: note.slice(0, MAX_NOTE),
      regarding: {
        apiVersion: `${GROUP}/${VERSION}`,
        kind: resource.kind,
        name,
        uid,
        ...(resource.metadata.namespace === '' ? {} : { namespace }),
      },
    };
    const path = `/apis/events.k8s.io/v1/namespaces/${encodeURIComponent(namespace)}/events`;
    return {
      path,
      name: eventName,
      body,
      startedAtMillis: now.getTime(),
      count: 1,
      lastObserved: now,
      writtenCount: 0,
    };
  }

  /** Writes the counts that have grown, and forgets what is over. */
  #refreshSeries(): void {
    const now = Date.now();
    for (const [key, series] of this.#series) {
      if (series.writtenCount > 0 && series.count > series.writtenCount) this.#write(series);
      else if (now - series.startedAtMillis >= this.#times.seriesMillis) this.#series.delete(key);
    }
  }

  #write(series: Series): void {
    this.#waiting.add(series);
    this.#running ??= this.#workOff().finally(() => {
      this.#running = undefined;
    });
  }

  async #workOff(): Promise<void> {
    for (const series of this.#waiting) {
      if (this.#stopping.signal.aborted) return;
      this.#waiting.delete(series);
      const isWritten = await this.#tryToSend(series);
      this.#options.observer?.onEvent(isWritten ? 'written' : 'failed');
    }
  }

  async #tryToSend(series: Series): Promise<boolean> {
    for (let attempt = 1; attempt <= MAX_ATTEMPTS; attempt += 1) {
      try {
        await this.#rate.take(this.#stopping.signal);
        await this.#send(series);
        return true;
      } catch (error) {
        if (this.#stopping.signal.aborted) return false;
        this.#options.log.debug({ event: 'event_failed', attempt, err: error });
        if (error instanceof ApiError && !error.transient) return false;
      }
    }
    return false;
  }

  async #send(series: Series): Promise<void> {
    const { path, name, body, count, lastObserved } = series;
    const signal = AbortSignal.any([this.#stopping.signal, AbortSignal.timeout(DEADLINE_MILLIS)]);
    if (series.writtenCount === 0) await this.#options.client.call(path, { method: 'POST', body, signal });
    else {
      await this.#options.client.call(`${path}/${encodeURIComponent(name)}`, {
        method: 'PATCH',
        contentType: 'application/merge-patch+json',
        body: { series: { count, lastObservedTime: microTime(lastObserved) } },
        signal,
      });
    }
    series.writtenCount = series.writtenCount === 0 ? 1 : count;
  }
}

function keyOf({ kind, metadata }: RawResource, { type, action, reason }: Transition): string {
  return [kind, metadata.uid, type, action, reason].join('/');
}
