import type { RequestOptions } from 'node:https';
import { KubeConfig } from '@kubernetes/client-node';
import { Agent, type Dispatcher, request } from 'undici';

export type ApiRequest = {
  readonly method?: 'GET' | 'PATCH';
  readonly query?: Readonly<Record<string, string>>;
  readonly body?: unknown;
  readonly contentType?: string;
  /** Ends the call when it aborts; a call without one ends after 30 s. */
  readonly signal?: AbortSignal;
};

const DEADLINE_MILLIS = 30_000;

/** What the API server answered instead of success. `reason` is that of its Status object, if it sent one. */
export class ApiError extends Error {
  override readonly name = 'ApiError';
  readonly code = 'API_ERROR';
  readonly status: number;
  readonly reason: string;
  readonly retryAfterMillis: number | undefined;
  readonly transient: boolean;

  constructor(status: number, reason: string, message: string, retryAfterMillis: number | undefined) {
    super(`the API server answered ${status} ${reason}: ${message}`);
    this.status = status;
    this.reason = reason;
    this.retryAfterMillis = retryAfterMillis;
    this.transient = status === 429 || status >= 500;
  }
}

/** A kubeconfig, from a file or from the service account of this pod. */
export function loadKubeConfig(path: string | undefined): KubeConfig {
  const config = new KubeConfig();
  if (path !== undefined) config.loadFromFile(path);
  else if (process.env['KUBERNETES_SERVICE_HOST'] !== undefined) config.loadFromCluster();
  else config.loadFromDefault();
  return config;
}

/**
 * Calls to the API server over one pool of connections. Credentials come from the kubeconfig for every call, as
 * tokens and certificates rotate; the pool is rebuilt when certificates have.
 */
export class ApiClient {
  readonly #config: KubeConfig;
  #pool: { readonly key: string; readonly agent: Agent } | undefined;

  constructor(config: KubeConfig) {
    this.#config = config;
  }

  /** The body of a successful answer. Throws ApiError, or what the connection threw. */
  async call(path: string, options: ApiRequest = {}): Promise<unknown> {
    const response = await this.#send(path, {
      ...options,
      signal: options.signal ?? AbortSignal.timeout(DEADLINE_MILLIS),
    });
    return response.body.json();
  }

  /** The lines of an answer that goes on until the server or the signal ends it. */
  async *lines(path: string, options: ApiRequest & { readonly signal: AbortSignal }): AsyncGenerator<string> {
    const response = await this.#send(path, options);
    let rest = '';
    response.body.setEncoding('utf8');
    for await (const chunk of response.body) {
      const parts = (rest + String(chunk)).split('\n');
      rest = parts.pop() ?? '';
      yield* parts.filter((line) => line !== '');
    }
  }

  async close(): Promise<void> {
    await this.#pool?.agent.destroy();
  }

  async #send(path: string, options: ApiRequest & { readonly signal: AbortSignal }): Promise<Dispatcher.ResponseData> {
    const cluster = this.#config.getCurrentCluster();
    if (cluster === null) throw new Error('the kubeconfig names no cluster');
    const auth: RequestOptions = {};
    await this.#config.applyToHTTPSOptions(auth);
    const url = new URL(`${cluster.server.replace(/\/$/, '')}${path}`);
    for (const [name, value] of Object.entries(options.query ?? {})) url.searchParams.set(name, value);
    const response = await request(url, {
      method: options.method ?? 'GET',
      dispatcher: this.#agentFor(auth),
      signal: options.signal,
      headers: headersOf(auth, options.contentType),
      body: options.body === undefined ? null : JSON.stringify(options.body),
    });
    if (response.statusCode >= 200 && response.statusCode < 300) return response;
    throw await toApiError(response);
  }

  #agentFor({ ca, cert, key, rejectUnauthorized, servername }: RequestOptions): Agent {
    const text = (part: unknown): string | undefined =>
      Buffer.isBuffer(part) || typeof part === 'string' ? part.toString() : undefined;
    const tls = {
      ...optional('ca', text(ca)),
      ...optional('cert', text(cert)),
      ...optional('key', text(key)),
      ...optional('servername', servername),
      ...optional('rejectUnauthorized', rejectUnauthorized),
    };
    const identity = JSON.stringify(tls);
    if (this.#pool?.key !== identity) {
      // The old pool ends when the calls on it have.
      void this.#pool?.agent.close();
      // A watch is silent for minutes: what bounds it is the signal of its caller.
      const agent = new Agent({
        connect: { ...tls, timeout: 10_000, keepAlive: true, keepAliveInitialDelay: 30_000 },
        bodyTimeout: 0,
        headersTimeout: 30_000,
      });
      this.#pool = { key: identity, agent };
    }
    return this.#pool.agent;
  }
}

function optional<K extends string, V>(key: K, value: V | undefined): { [P in K]?: V } {
  const result: { [P in K]?: V } = {};
  if (value !== undefined) result[key] = value;
  return result;
}

function headersOf(auth: RequestOptions, contentType: string | undefined): Record<string, string> {
  const headers: Record<string, string> = { accept: 'application/json' };
  for (const [name, value] of Object.entries(auth.headers ?? {})) headers[name] = String(value);
  if (auth.auth) headers['authorization'] = `Basic ${Buffer.from(auth.auth).toString('base64')}`;
  if (contentType !== undefined) headers['content-type'] = contentType;
  return headers;
}

async function toApiError(response: Dispatcher.ResponseData): Promise<ApiError> {
  const text = await response.body.text();
  const retryAfter = Number(response.headers['retry-after']);
  const { reason, message } = parseStatus(text);
  return new ApiError(response.statusCode, reason, message, retryAfter > 0 ? retryAfter * 1000 : undefined);
}

/** Only what the server means for people; never headers, which hold credentials. */
function parseStatus(text: string): { reason: string; message: string } {
  try {
    const status: unknown = JSON.parse(text);
    if (typeof status !== 'object' || status === null) return { reason: '', message: '' };
    return {
      reason: String(Reflect.get(status, 'reason') ?? ''),
      message: String(Reflect.get(status, 'message') ?? ''),
    };
  } catch {
    return { reason: '', message: text.slice(0, 200) };
  }
}
