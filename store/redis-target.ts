/** Where Redis is, as one text: how settings name it. */
export type RedisTarget =
  | { readonly kind: 'single'; readonly url: string }
  | ({ readonly kind: 'sentinel'; readonly primary: string } & Several)
  | ({ readonly kind: 'cluster' } & Several);

type Several = {
  readonly nodes: readonly { readonly host: string; readonly port: number }[];
  readonly username: string | undefined;
  readonly password: string | undefined;
  readonly db: number;
  readonly isEncrypted: boolean;
};

const DEFAULT_PORTS = { sentinel: 26_379, cluster: 6_379 } as const;

export const REDIS_URL_FORMS =
  'redis://[user:password@]host[:port][/db], redis+sentinel://[user:password@]host[:port],.../primary[/db], or redis+cluster://[user:password@]host[:port],...; rediss for TLS';

/**
 * Reads the URL of one Redis, of the Sentinels that know a primary, or of some nodes of a Cluster; `rediss` encrypts.
 * User and password are those of Redis. Undefined if the text is none of these; never throws, as the text may hold a
 * password.
 */
export function parseRedisUrl(text: string): RedisTarget | undefined {
  const match = /^redis(?<tls>s?)(?:\+(?<kind>sentinel|cluster))?:\/\/(?<rest>.+)$/.exec(text);
  const { tls = '', kind, rest = '' } = match?.groups ?? {};
  if (match === null) return undefined;
  if (kind === undefined) return URL.canParse(text) ? { kind: 'single', url: text } : undefined;
  const at = rest.lastIndexOf('@');
  const credentials = at === -1 ? undefined : credentialsOf(rest.slice(0, at));
  const [hosts = '', ...path] = rest.slice(at + 1).split('/');
  const port = kind === 'sentinel' ? DEFAULT_PORTS.sentinel : DEFAULT_PORTS.cluster;
  const nodes = hosts.split(',').map((host) => nodeOf(host, port));
  if (nodes.some((node) => node === undefined) || (at !== -1 && credentials === undefined)) return undefined;
  const several = {
    nodes: nodes.filter((node) => node !== undefined),
    username: credentials?.username,
    password: credentials?.password,
    isEncrypted: tls === 's',
  };
  if (kind === 'cluster') return path.join('') === '' ? { kind, ...several, db: 0 } : undefined;
  const [primary = '', db = '0', ...more] = path;
  if (!/^[\w.-]+$/.test(primary) || !/^\d{1,4}$/.test(db) || more.length > 0) return undefined;
  return { kind: 'sentinel', primary, ...several, db: Number(db) };
}

function nodeOf(text: string, defaultPort: number): { host: string; port: number } | undefined {
  const match = /^(?<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::(?<port>\d{1,5}))?$/.exec(text);
  const host = match?.groups?.['host'];
  const port = Number(match?.groups?.['port'] ?? defaultPort);
  if (host === undefined || port < 1 || port > 65_535) return undefined;
  return { host: host.replace(/^\[|\]$/g, ''), port };
}

function credentialsOf(text: string): { username: string | undefined; password: string | undefined } | undefined {
  const colon = text.indexOf(':');
  try {
    const [user, password] = colon === -1 ? [text, ''] : [text.slice(0, colon), text.slice(colon + 1)];
    return {
      username: user === '' ? undefined : decodeURIComponent(user),
      password: password === '' ? undefined : decodeURIComponent(password),
    };
  } catch {
    return undefined;
  }
}
