import { setTimeout as pause } from 'node:timers/promises';
import type { Logger } from 'pino';
import { type ApiClient, ApiError } from './api-client.ts';
import { type KubernetesObject, parseList, parseWatchEvent } from './objects.ts';

export type ReflectorEvents = {
  /** The whole of what exists: replaces what was known, deletions included. */
  onList(objects: readonly KubernetesObject[]): void;
  onChange(object: KubernetesObject): void;
  onDelete(object: KubernetesObject): void;
};

export type ReflectorTimes = {
  /** Bounds of the time-out that is asked of the server for each watch, in seconds. */
  readonly watchSeconds: readonly [number, number];
  readonly firstBackOffMillis: number;
  readonly longestBackOffMillis: number;
  /** Everything is listed anew after it, in case the watch missed something. */
  readonly relistMillis: number;
};

const TIMES: ReflectorTimes = {
  watchSeconds: [300, 600],
  firstBackOffMillis: 800,
  longestBackOffMillis: 30_000,
  relistMillis: 600_000,
};

const PAGE = 500;
/** What a watch may take beyond the time-out that the server was asked to keep. */
const GRACE_MILLIS = 30_000;
const SHORTEST_WATCH_MILLIS = 1_000;

/**
 * Follows all objects of one resource: list, then watch from there, for ever. Whatever ends a watch, the next one goes
 * on from the last resourceVersion; when the server has forgotten that (410), everything is listed anew. Failures are
 * repeated with back-off and jitter, or after what the server's Retry-After says.
 */
export class Reflector {
  readonly #client: ApiClient;
  readonly #path: string;
  readonly #events: ReflectorEvents;
  readonly #log: Logger;
  readonly #times: ReflectorTimes;
  readonly #stopping = new AbortController();
  #resourceVersion: string | undefined;
  #listedAtMillis = 0;
  #failures = 0;
  #hasSynced = false;
  #running: Promise<void> | undefined;

  constructor(
    client: ApiClient,
    path: string,
    events: ReflectorEvents,
    options: { log: Logger; times?: Partial<ReflectorTimes> },
  ) {
    this.#client = client;
    this.#path = path;
    this.#events = events;
    this.#log = options.log;
    this.#times = { ...TIMES, ...options.times };
  }

  /** Whether the first complete list has been delivered. */
  get hasSynced(): boolean {
    return this.#hasSynced;
  }

  start(): void {
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
      } catch (error) {
        if (this.#stopping.signal.aborted) return;
        await this.#recover(error);
      }
    }
  }

  async #list(): Promise<void> {
    const objects: KubernetesObject[] = [];
    let next = '';
    let version = '';
    do {
      const query = { limit: String(PAGE), ...(next === '' ? {} : { continue: next }) };
      const page = parseList(await this.#client.call(this.#path, { query, signal: this.#deadline(GRACE_MILLIS) }));
      objects.push(...page.objects);
      next = page.next;
      version = page.resourceVersion;
    } while (next !== '');
    this.#resourceVersion = version;
    this.#listedAtMillis = performance.now();
    this.#deliver(() => this.#events.onList(objects));
    if (!this.#hasSynced) this.#log.info({ event: 'resource_synced', path: this.#path, objects: objects.length });
    this.#hasSynced = true;
  }

  async #watch(): Promise<void> {
    const [shortest, longest] = this.#times.watchSeconds;
    const seconds = Math.round(shortest + (longest - shortest) * Math.random());
    const query = {
      watch: 'true',
      allowWatchBookmarks: 'true',
      timeoutSeconds: String(seconds),
      resourceVersion: this.#resourceVersion ?? '',
    };
    const signal = this.#deadline(seconds * 1000 + GRACE_MILLIS);
    const startedAtMillis = performance.now();
    let events = 0;
    for await (const line of this.#client.lines(this.#path, { query, signal })) {
      this.#accept(line);
      this.#failures = 0;
      events += 1;
    }
    // A server that ends every watch at once must not be asked in a tight loop.
    if (events === 0 && performance.now() - startedAtMillis < SHORTEST_WATCH_MILLIS)
      throw new Error('the watch ended at once');
    this.#failures = 0;
  }

  #accept(line: string): void {
    const event = parseWatchEvent(line);
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
      this.#log.error({ event: 'watch_handler_failed', path: this.#path, err: error });
    }
  }

  async #recover(error: unknown): Promise<void> {
    const isExpired = error instanceof ApiError && (error.status === 410 || error.reason === 'Expired');
    if (isExpired) this.#resourceVersion = undefined;
    this.#failures += 1;
    const { firstBackOffMillis, longestBackOffMillis } = this.#times;
    const backOff =
      Math.min(firstBackOffMillis * 2 ** (this.#failures - 1), longestBackOffMillis) * (1 + Math.random());
    const delay =
      (error instanceof ApiError && error.retryAfterMillis) || (isExpired && this.#failures === 1 ? 0 : backOff);
    this.#log.warn({ event: 'watch_restarted', path: this.#path, err: error, retry_ms: Math.round(delay) });
    await pause(delay, undefined, { signal: this.#stopping.signal }).catch(() => undefined);
  }

  #deadline(millis: number): AbortSignal {
    return AbortSignal.any([this.#stopping.signal, AbortSignal.timeout(millis)]);
  }
}
