import { readFile } from 'node:fs/promises';
import type { RequestOptions } from 'node:https';
import { KubeConfig } from '@kubernetes/client-node';
import { Agent } from 'undici';

/** A kubeconfig, from a file or from the service account of this pod. */
export function loadKubeConfig(path: string | undefined): KubeConfig {
  const config = new KubeConfig();
  if (path !== undefined) config.loadFromFile(path);
  else if (process.env['KUBERNETES_SERVICE_HOST'] !== undefined) config.loadFromCluster();
  else config.loadFromDefault();
  return config;
}

/** What one call needs: where to, over which pool, with which credentials. */
export type Access = {
  readonly server: string;
  readonly agent: Agent;
  readonly headers: Readonly<Record<string, string>>;
};

const CONNECT_MILLIS = 10_000;
const HEADERS_MILLIS = 30_000;
const KEEP_ALIVE_MILLIS = 30_000;
/** A token in a file is replaced minutes before it ends; nobody reads it for every call. */
const TOKEN_MILLIS = 30_000;

/**
 * The one pool of connections to the API server. Credentials come from the kubeconfig for every call, as tokens and
 * certificates rotate; the pool is rebuilt when certificates have.
 */
export class Connection {
  readonly #config: KubeConfig;
  #pool: { readonly key: string; readonly agent: Agent } | undefined;
  #token: { readonly text: string; readonly readAtMillis: number } | undefined;

  constructor(config: KubeConfig) {
    this.#config = config;
  }

  async access(): Promise<Access> {
    const cluster = this.#config.getCurrentCluster();
    if (cluster === null) throw new Error('the kubeconfig names no cluster');
    const auth: RequestOptions = {};
    await this.#config.applyToHTTPSOptions(auth);
    const headers: Record<string, string> = {};
    for (const [name, value] of Object.entries(auth.headers ?? {})) headers[name.toLowerCase()] = String(value);
    if (auth.auth) headers['authorization'] = `Basic ${Buffer.from(auth.auth).toString('base64')}`;
    const token = await this.#tokenFromFile();
    if (token !== undefined) headers['authorization'] = `Bearer ${token}`;
    return { server: cluster.server.replace(/\/$/, ''), agent: this.#agentFor(auth), headers };
  }

  /** The credentials were refused: what may have been replaced is read anew for the next call. */
  refresh(): void {
    this.#token = undefined;
  }

  async close(): Promise<void> {
    await this.#pool?.agent.destroy();
  }

  /** The library reads the file once a minute and does not look again when the token is refused: so we read it. */
  async #tokenFromFile(): Promise<string | undefined> {
    const settings: unknown = this.#config.getCurrentUser()?.authProvider?.config;
    const file: unknown =
      typeof settings === 'object' && settings !== null ? Reflect.get(settings, 'tokenFile') : undefined;
    if (typeof file !== 'string') return undefined;
    const now = performance.now();
    if (this.#token === undefined || now - this.#token.readAtMillis > TOKEN_MILLIS) {
      this.#token = { text: (await readFile(file, 'utf8')).trim(), readAtMillis: now };
    }
    return this.#token.text;
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
      // A watch is silent for minutes: what bounds it is the signal of its caller. One connection for each call under
      // way: on a shared one, a stalled watch would stall everything.
      const agent = new Agent({
        allowH2: false,
        connect: { ...tls, timeout: CONNECT_MILLIS, keepAlive: true, keepAliveInitialDelay: KEEP_ALIVE_MILLIS },
        bodyTimeout: 0,
        headersTimeout: HEADERS_MILLIS,
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
