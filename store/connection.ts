import { Redis } from 'ioredis';

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
 * A connection to Redis that fails fast: nothing is queued while it is down, nothing is ever sent twice, and it
 * reconnects by itself for ever, with back-off up to a second.
 */
export function connect(
  url: string,
  events: ConnectionEvents,
  { pingMillis, silenceMillis }: Liveness = { silenceMillis: 5_000 },
): Redis {
  const redis = new Redis(url, {
    enableAutoPipelining: false,
    enableOfflineQueue: false,
    autoResendUnfulfilledCommands: false,
    maxRetriesPerRequest: 0,
    connectTimeout: 2_000,
    socketTimeout: silenceMillis,
    keepAlive: 5_000,
    noDelay: true,
    // READONLY means that this is no longer the primary: reconnect, but never send the command again.
    reconnectOnError: (error) => (error.message.startsWith('READONLY') ? 1 : false),
    retryStrategy: (attempt) => Math.min(50 * 2 ** Math.min(attempt, 5), 1_000) * (0.8 + 0.4 * Math.random()),
  });
  if (pingMillis !== undefined) pingEvery(redis, pingMillis);
  let isDown = false;
  const down = (message: string): void => {
    if (isDown) return;
    isDown = true;
    events.onDown(message);
  };
  redis.on('error', (error: Error) => down(error.message));
  redis.on('close', () => down('the connection was closed'));
  redis.on('ready', () => {
    isDown = false;
    events.onReady();
  });
  return redis;
}

/** What becomes of a PING is told by the connection itself. */
function pingEvery(redis: Redis, millis: number): void {
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
export function disconnect(redis: Redis): void {
  redis.removeAllListeners('close');
  redis.disconnect();
}

/** Resolves when the connection is ready; rejects when the signal aborts. Never gives up by itself. */
export function whenReady(redis: Redis, signal: AbortSignal): Promise<void> {
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
