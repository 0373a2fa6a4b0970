import { setTimeout as pause } from 'node:timers/promises';
import type { KubeConfig } from '@kubernetes/client-node';
import { type Dispatcher, request } from 'undici';
import { ApiError, toApiError } from './api-error.ts';
import { Connection } from './connection.ts';
import { RateLimit } from './rate-limit.ts';

export type ApiRequest = {
  readonly method?: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  readonly query?: Readonly<Record<string, string>>;
  readonly body?: unknown;
  readonly contentType?: string;
  /** Ends the call when it aborts; a call without one ends after 30 s. */
  readonly signal?: AbortSignal;
  /** Neither waits for its turn nor is sent again: for calls that are useless when they are late. */
  readonly isUrgent?: boolean;
};

/** Told of every request, for metrics. `code` is the status, or `<error>` if there was no answer. */
export type ClientObserver = {
  onRequest(request: {
    readonly method: string;
    readonly host: string;
    readonly code: string;
    readonly seconds: number;
  }): void;
  onRateLimited(method: string, host: string, seconds: number): void;
  onRetry(method: string, host: string, code: string): void;
};

export type ApiClientOptions = {
  /** Calls a second, and how many may be sent at once after a pause. */
  readonly perSecond?: number;
  readonly burst?: number;
  readonly deadlineMillis?: number;
  readonly observer?: ClientObserver;
};

type Bounded = ApiRequest & { readonly signal: AbortSignal };

const DEADLINE_MILLIS = 30_000;
const PER_SECOND = 50;
const BURST = 100;
const MAX_RETRIES = 5;

/** Calls to the API server: each has a deadline, waits for its turn, and is sent again when the server says when. */
export class ApiClient {
  readonly #connection: Connection;
  readonly #rateLimit: RateLimit;
  readonly #deadlineMillis: number;
  readonly #observer: ClientObserver | undefined;
  #host = '';

  constructor(config: KubeConfig, options: ApiClientOptions = {}) {
    this.#connection = new Connection(config);
    this.#rateLimit = new RateLimit(options.perSecond ?? PER_SECOND, options.burst ?? BURST);
    this.#deadlineMillis = options.deadlineMillis ?? DEADLINE_MILLIS;
    this.#observer = options.observer;
  }

  /**
   * The body of a successful answer. Throws ApiError, or what the connection threw. Waits and asks again when the
   * server is too busy and says for how long: it has done nothing then.
   */
  async call(path: string, options: ApiRequest = {}): Promise<unknown> {
    const bounded = { ...options, signal: options.signal ?? AbortSignal.timeout(this.#deadlineMillis) };
    for (let attempt = 1; ; attempt += 1) {
      try {
        const response = await this.#send(path, bounded);
        return await response.body.json();
      } catch (error) {
        if (!(error instanceof ApiError) || !isBusy(error) || attempt > MAX_RETRIES || options.isUrgent) throw error;
        this.#observer?.onRetry(options.method ?? 'GET', this.#host, String(error.status));
        await pause(error.retryAfterMillis, undefined, { signal: bounded.signal });
      }
    }
  }

  /** The lines of an answer that goes on until the server or the signal ends it. */
  async *lines(path: string, options: Bounded): AsyncGenerator<string> {
    const response = await this.#send(path, options);
    let rest = '';
    response.body.setEncoding('utf8');
    for await (const chunk of response.body) {
      const parts = (rest + String(chunk)).split('\n');
      rest = parts.pop() ?? '';
      yield* parts.filter((line) => line !== '');
    }
  }

  close(): Promise<void> {
    return this.#connection.close();
  }

  /** Sends it, and once more with credentials read anew if those were refused: they may just have been replaced. */
  async #send(path: string, options: Bounded): Promise<Dispatcher.ResponseData> {
    const first = await this.#sendOnce(path, options);
    if (first.statusCode !== 401) return succeeded(first);
    await first.body.dump();
    this.#connection.refresh();
    return succeeded(await this.#sendOnce(path, options));
  }

  async #sendOnce(path: string, options: Bounded): Promise<Dispatcher.ResponseData> {
    const { server, agent, headers } = await this.#connection.access();
    const url = new URL(`${server}${path}`);
    for (const [name, value] of Object.entries(options.query ?? {})) url.searchParams.set(name, value);
    const method = options.method ?? 'GET';
    const { host } = url;
    this.#host = host;
    const waitedSeconds = options.isUrgent ? 0 : await this.#rateLimit.take(options.signal);
    this.#observer?.onRateLimited(method, host, waitedSeconds);
    const startedAtMillis = performance.now();
    const done = (code: string): void =>
      this.#observer?.onRequest({ method, host, code, seconds: (performance.now() - startedAtMillis) / 1000 });
    try {
      const response = await request(url, {
        method,
        dispatcher: agent,
        signal: options.signal,
        headers: { accept: 'application/json', ...headers, ...contentType(options) },
        body: options.body === undefined ? null : JSON.stringify(options.body),
      });
      done(String(response.statusCode));
      return response;
    } catch (error) {
      done('<error>');
      throw error;
    }
  }
}

const isBusy = ({ status, retryAfterMillis }: ApiError): boolean =>
  retryAfterMillis !== undefined && (status === 429 || status >= 500);

async function succeeded(response: Dispatcher.ResponseData): Promise<Dispatcher.ResponseData> {
  if (response.statusCode >= 200 && response.statusCode < 300) return response;
  throw await toApiError(response);
}

function contentType({ body, contentType: type = 'application/json' }: ApiRequest): Record<string, string> {
  return body === undefined ? {} : { 'content-type': type };
}
