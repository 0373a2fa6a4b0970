import { setTimeout as pause } from 'node:timers/promises';
import type { Logger } from 'pino';
import type { ApiClient } from './api-client.ts';
import { ApiError } from './api-error.ts';
import { type KubernetesObject, parseList, parseWatchEvent } from './objects.ts';

/** What to follow: all objects under a path, or those that have labels. */
export type Followed = {
  /** For people and metrics. */
  readonly name: string;
  readonly path: string;
  readonly labelSelector?: string;
};

export type ReflectorEvents = {
  /** The whole of what exists: replaces what was known, deletions included. */
  onList(objects: readonly KubernetesObject[]): void;
  onChange(object: KubernetesObject): void;
  onDelete(object: KubernetesObject): void;
};

export type ReflectorTimes = {
  /** Bounds of the time-out that is asked of the server for each watch, in seconds. */
  readonly watchSeconds: readonly [number, number];
  /** A watch that brings nothing for so long, not even a bookmark, is begun anew: it may be dead. */
  readonly silenceMillis: number;
  readonly listMillis: number;
  readonly firstBackOffMillis: number;
  readonly longestBackOffMillis: number;
  /** Everything is listed anew after it, in case the watch missed something. */
  readonly relistMillis: number;
};

/** Told of what happens, for metrics. */
export type ReflectorObserver = {
  onStart(resource: string): void;
  onList(resource: string): void;
  onEvent(resource: string): void;
  onRestart(resource: string, reason: RestartReason): void;
  onHandlerError(resource: string): void;
};

export const RESTART_REASONS = [
  'ended',
  'silence',
  'expired',
  'unauthorized',
  'forbidden',
  'throttled',
  'server',
  'connection',
  'other',
] as const;
export type RestartReason = (typeof RESTART_REASONS)[number];

export type ReflectorOptions = {
  readonly log: Logger;
  readonly times?: Partial<ReflectorTimes>;
  readonly observer?: ReflectorObserver;
};

const TIMES: ReflectorTimes = {
  watchSeconds: [300, 600],
  // Bookmarks come about once a minute.
  silenceMillis: 150_000,
  listMillis: 30_000,
  firstBackOffMillis: 800,
  longestBackOffMillis: 30_000,
  relistMillis: 600_000,
};

const PAGE = 500;
/** What a watch may take beyond the time-out that the server was asked to keep. */
const GRACE_MILLIS = 30_000;
const SHORTEST_WATCH_MILLIS = 1_000;

/** The watch brought nothing for so long that it may be dead. */
class Silence extends Error {
  override readonly name = 'Silence';
}

/**
 * Follows all objects of one resource: list, then watch from there, for ever. Whatever ends a watch, the next one goes
 * on from the last resourceVersion; when the server has forgotten that (410), everything is listed anew. Failures are
 * repeated with back-off and jitter, or after what the server's Retry-After says.
 */
export class Reflector {
  readonly #client: ApiClient;
  readonly #followed: Followed;
  readonly #events: ReflectorEvents;
  readonly #options: ReflectorOptions;
  readonly #times: ReflectorTimes;
  readonly #stopping = new AbortController();
  #resourceVersion: string | undefined;
  #listedAtMillis = 0;
  #failures = 0;
  #hasSynced = false;
  #running: Promise<void> | undefined;

  constructor(client: ApiClient, followed: Followed, events: ReflectorEvents, options: ReflectorOptions) {
    this.#client = client;
    this.#followed = followed;
    this.#events = events;
    this.#options = options;
    this.#times = { ...TIMES, ...options.times };
  }

  /** Whether the first complete list has been delivered. */
  get hasSynced(): boolean {
    return this.#hasSynced;
  }

  start(): void {
    this.#options.observer?.onStart(this.#followed.name);
    this.#running = this.#follow();
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#running;
  }

  async #follow(): Promise<void> {
    while (!this.#stopping.signal.aborted) {
      try {
        if (
          this.#resourceVersion === undefined ||
          performance.now() - this.#listedAtMillis > this.#times.relistMillis
        ) {
          await this.#list();
        }
        await this.#watch();
        this.#options.observer?.onRestart(this.#followed.name, 'ended');
      } catch (error) {
        if (this.#stopping.signal.aborted) return;
        await this.#recover(error);
      }
    }
  }

  async #list(): Promise<void> {
    const { name, path } = this.#followed;
    const objects: KubernetesObject[] = [];
    let next = '';
    let version = '';
    do {
      const query = { ...this.#selector(), limit: String(PAGE), ...(next === '' ? {} : { continue: next }) };
      const signal = AbortSignal.any([this.#stopping.signal, AbortSignal.timeout(this.#times.listMillis)]);
      const page = parseList(await this.#client.call(path, { query, signal }));
      objects.push(...page.objects);
      next = page.next;
      version = page.resourceVersion;
    } while (next !== '');
    this.#resourceVersion = version;
    this.#listedAtMillis = performance.now();
    this.#options.observer?.onList(name);
    this.#deliver(() => this.#events.onList(objects));
    if (!this.#hasSynced) this.#options.log.info({ event: 'resource_synced', resource: name, objects: objects.length });
    this.#hasSynced = true;
  }

  async #watch(): Promise<void> {
    const [shortest, longest] = this.#times.watchSeconds;
    const seconds = Math.round(shortest + (longest - shortest) * Math.random());
    const query = {
      ...this.#selector(),
      watch: 'true',
      allowWatchBookmarks: 'true',
      timeoutSeconds: String(seconds),
      resourceVersion: this.#resourceVersion ?? '',
    };
    using silence = new Deadline(this.#times.silenceMillis);
    const signal = AbortSignal.any([
      this.#stopping.signal,
      AbortSignal.timeout(seconds * 1000 + GRACE_MILLIS),
      silence.signal,
    ]);
    const startedAtMillis = performance.now();
    let events = 0;
    for await (const line of this.#client.lines(this.#followed.path, { query, signal })) {
      silence.postpone();
      this.#accept(line);
      this.#failures = 0;
      events += 1;
    }
    // A server that ends every watch at once must not be asked in a tight loop.
    if (events === 0 && performance.now() - startedAtMillis < SHORTEST_WATCH_MILLIS)
      throw new Error('the watch ended at once');
    this.#failures = 0;
  }

  #selector(): Record<string, string> {
    const { labelSelector } = this.#followed;
    return labelSelector === undefined ? {} : { labelSelector };
  }

  #accept(line: string): void {
    const event = parseWatchEvent(line);
    this.#options.observer?.onEvent(this.#followed.name);
    switch (event.type) {
      case 'ADDED':
      case 'MODIFIED':
        this.#deliver(() => this.#events.onChange(event.object));
        break;
      case 'DELETED':
        this.#deliver(() => this.#events.onDelete(event.object));
        break;
      case 'BOOKMARK':
        break;
      case 'ERROR':
        throw new ApiError(event.status, event.reason, event.message, undefined);
    }
    this.#resourceVersion = event.resourceVersion;
  }

  /** A handler that throws is a mistake of ours; it must not end the watch. */
  #deliver(handler: () => void): void {
    try {
      handler();
    } catch (error) {
      this.#options.observer?.onHandlerError(this.#followed.name);
      this.#options.log.error({ event: 'watch_handler_failed', resource: this.#followed.name, err: error });
    }
  }

  async #recover(error: unknown): Promise<void> {
    const reason = reasonOf(error);
    const { name } = this.#followed;
    this.#options.observer?.onRestart(name, reason);
    // Silence is no failure: on a quiet resource it is what there is to hear.
    if (reason === 'silence') return;
    if (error instanceof ApiError && !error.transient && reason !== 'unauthorized' && reason !== 'forbidden') {
      // Whatever the server makes of the version that we asked from: a list needs none.
      this.#resourceVersion = undefined;
    }
    this.#failures += 1;
    const { firstBackOffMillis, longestBackOffMillis } = this.#times;
    const backOff =
      Math.min(firstBackOffMillis * 2 ** Math.min(this.#failures - 1, 20), longestBackOffMillis) * (1 + Math.random());
    const delay =
      (error instanceof ApiError && error.retryAfterMillis) ||
      (reason === 'expired' && this.#failures === 1 ? 0 : backOff);
    this.#options.log.warn({
      event: 'watch_restarted',
      resource: name,
      reason,
      err: error,
      retry_ms: Math.round(delay),
    });
    await pause(delay, undefined, { signal: this.#stopping.signal }).catch(() => undefined);
  }
}

/** A time that can be put off, as a signal. */
class Deadline {
  readonly #controller = new AbortController();
  readonly #millis: number;
  readonly #timer: NodeJS.Timeout;

  constructor(millis: number) {
    this.#millis = millis;
    this.#timer = setTimeout(() => this.#controller.abort(new Silence(`nothing came for ${this.#millis} ms`)), millis);
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  postpone(): void {
    this.#timer.refresh();
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
  }
}

function reasonOf(error: unknown): RestartReason {
  if (error instanceof Silence) return 'silence';
  if (!(error instanceof ApiError)) return isOfConnection(error) ? 'connection' : 'other';
  if (error.status === 410 || error.reason === 'Expired') return 'expired';
  if (error.status === 401) return 'unauthorized';
  if (error.status === 403) return 'forbidden';
  if (error.status === 429) return 'throttled';
  return error.status >= 500 ? 'server' : 'other';
}

/** What the system and the HTTP library call their errors: codes, and names of those without one. */
function isOfConnection(error: unknown): boolean {
  return error instanceof Error && ('code' in error || error.name === 'TimeoutError' || error.message === 'terminated');
}
