import { Cluster, Redis } from 'ioredis';
import { parseRedisUrl, type RedisTarget, REDIS_URL_FORMS } from './redis-target.ts';

/** One Redis, the primary that Sentinels name, or a Cluster. */
export type RedisClient = Redis | Cluster;

export type ConnectionEvents = {
  /** The first failure after a time of health, and no further one until Redis answered again. */
  onDown(message: string): void;
  onReady(): void;
};

/** How soon a Redis that fell silent without closing the connection is given up. */
export type Liveness = {
  /** A PING this often, so that there is always something to answer; without it only calls under way tell. */
  readonly pingMillis?: number;
  /** Calls under way and no byte for so long: the connection is broken. */
  readonly silenceMillis: number;
};

/**
 * A connection that fails fast: nothing is queued while it is down, nothing is ever sent twice, and it reconnects by
 * itself for ever, with back-off up to a second. Throws RangeError if the URL is none (without repeating it: it may hold
 * a password).
 */
export function connect(
  url: string,
  events: ConnectionEvents,
  { pingMillis, silenceMillis }: Liveness = { silenceMillis: 5_000 },
): RedisClient {
  const target = parseRedisUrl(url);
  if (target === undefined) throw new RangeError(`the URL of Redis must be ${REDIS_URL_FORMS}`);
  const redis = clientFor(target, silenceMillis);
  if (pingMillis !== undefined) pingEvery(redis, pingMillis);
  watch(redis, events);
  return redis;
}

function clientFor(target: RedisTarget, silenceMillis: number): RedisClient {
  const options = { ...SETTINGS, socketTimeout: silenceMillis };
  switch (target.kind) {
    case 'single':
      return new Redis(target.url, { ...options, ...OF_ONE });
    case 'sentinel': {
      const { nodes, primary, db, isEncrypted } = target;
      const tls = isEncrypted ? { tls: {}, sentinelTLS: {}, enableTLSForSentinelMode: true } : {};
      const sentinels = { sentinels: [...nodes], name: primary, sentinelRetryStrategy: backOff };
      return new Redis({ ...options, ...OF_ONE, ...credentialsOf(target), ...sentinels, db, ...tls });
    }
    case 'cluster':
      return clusterOf(target, silenceMillis);
  }
}

const backOff = (attempt: number): number =>
  Math.min(50 * 2 ** Math.min(attempt, 5), 1_000) * (0.8 + 0.4 * Math.random());

const SETTINGS = {
  enableAutoPipelining: false,
  autoResendUnfulfilledCommands: false,
  connectTimeout: 2_000,
  keepAlive: 5_000,
  noDelay: true,
};

const OF_ONE = {
  enableOfflineQueue: false,
  // Whoever subscribes does so again. The library would do it as well, and where the connection is gone again by then the
  // failure would be nobody's: an unhandled rejection, which ends the process.
  autoResubscribe: false,
  maxRetriesPerRequest: 0,
  // READONLY means that this is no longer the primary: reconnect, but never send the command again.
  reconnectOnError: (error: Error): 1 | false => (error.message.startsWith('READONLY') ? 1 : false),
  retryStrategy: backOff,
};

/**
 * Nothing is sent again but what a node refused to execute because a slot is elsewhere. A connection that breaks fails what
 * was under way on it.
 */
function clusterOf(target: Extract<RedisTarget, { kind: 'cluster' }>, socketTimeout: number): Cluster {
  const tls = target.isEncrypted ? { tls: {} } : {};
  const cluster = new Cluster([...target.nodes], {
    enableAutoPipelining: false,
    enableOfflineQueue: false,
    // 0: a call on a connection that closed may have been executed, it is not sent to another node.
    retryDelayOnFailover: 0,
    retryDelayOnClusterDown: 0,
    clusterRetryStrategy: backOff,
    redisOptions: { ...SETTINGS, socketTimeout, ...credentialsOf(target), ...tls },
  });
  // By default a node is connected to by the first call for it, which fails, as nothing is queued.
  cluster.on('+node', (node: Redis) => {
    if (node.status === 'wait') node.connect().catch(() => undefined);
  });
  return cluster;
}

function credentialsOf({ username, password }: Exclude<RedisTarget, { kind: 'single' }>): {
  username?: string;
  password?: string;
} {
  return { ...(username === undefined ? {} : { username }), ...(password === undefined ? {} : { password }) };
}

function watch(redis: RedisClient, events: ConnectionEvents): void {
  let isDown = false;
  const down = (message: string): void => {
    if (isDown) return;
    isDown = true;
    events.onDown(message);
  };
  redis.on('error', (error: Error) => down(error.message));
  redis.on('node error', (error: Error) => down(error.message));
  redis.on('close', () => down('the connection was closed'));
  redis.on('ready', () => {
    isDown = false;
    events.onReady();
  });
}

/** What becomes of a PING is told by the connection itself. */
function pingEvery(redis: RedisClient, millis: number): void {
  let timer: NodeJS.Timeout | undefined;
  const stop = (): void => clearInterval(timer);
  redis.on('ready', () => {
    stop();
    timer = setInterval(() => void redis.ping().catch(() => undefined), millis).unref();
  });
  redis.on('close', stop);
  redis.on('end', stop);
}

/** Closes a connection without waiting for what is under way, and without the `close` that looks like a failure. */
export function disconnect(redis: RedisClient): void {
  redis.removeAllListeners('close');
  redis.disconnect();
}

/** Resolves when the connection is ready; rejects when the signal aborts. Never gives up by itself. */
export function whenReady(redis: RedisClient, signal: AbortSignal): Promise<void> {
  if (redis.status === 'ready') return Promise.resolve();
  return new Promise((resolve, reject) => {
    const abort = (): void => {
      redis.off('ready', ready);
      reject(new Error('stopped while waiting for Redis', { cause: signal.reason }));
    };
    const ready = (): void => {
      signal.removeEventListener('abort', abort);
      resolve();
    };
    redis.once('ready', ready);
    signal.addEventListener('abort', abort, { once: true });
  });
}
