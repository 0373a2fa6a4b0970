import { Redis } from 'ioredis';
import { findRedisServer, type RedisProcess, startRedis } from './find-redis.ts';

export type OpenRedisOptions = {
  /** A Redis that is there already. */
  readonly url: string | undefined;
  /** Where to start one otherwise. */
  readonly port: number;
  readonly say: (text: string) => void;
};

const USUAL_URL = 'redis://127.0.0.1:6379';
const OLDEST_MAJOR = 7;

/** The named Redis; else the one on the usual port, if it is recent enough; else a private one, which stops with us. */
export async function openRedis({ url, port, say }: OpenRedisOptions): Promise<RedisProcess> {
  if (url !== undefined && url !== '') return { url, stop: () => Promise.resolve() };
  const major = await majorVersionAt(USUAL_URL);
  if (major !== undefined && major >= OLDEST_MAJOR) {
    say(`using the Redis at ${USUAL_URL}`);
    return { url: USUAL_URL, stop: () => Promise.resolve() };
  }
  const started = await startRedis(await findRedisServer({ mayInstall: true, tell: say }), { port });
  say(`started a Redis at ${started.url}`);
  return started;
}

/** Undefined if nothing answers there, or not to us. */
async function majorVersionAt(url: string): Promise<number | undefined> {
  const redis = new Redis(url, {
    lazyConnect: true,
    retryStrategy: null,
    connectTimeout: 500,
    maxRetriesPerRequest: 0,
  });
  redis.on('error', () => undefined);
  try {
    await redis.connect();
    const version = /^redis_version:(\d+)\./m.exec(await redis.info('server'))?.[1];
    return version === undefined ? undefined : Number(version);
  } catch {
    return undefined;
  } finally {
    redis.disconnect();
  }
}
