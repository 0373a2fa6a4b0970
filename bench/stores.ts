// The Redis servers of a run: all private, on free ports, without persistence, and stopped with it.
import type { Redis } from 'ioredis';
import { connect, type RedisClient } from '../store/connection.ts';
import { privateRedis } from '../test/harness/redis.ts';
import { privateCluster } from '../test/harness/redis-cluster.ts';

/** `million` is for itself: a million keys of somebody else would be no fair comparison for the others. */
export type StoreName = 'main' | 'million' | 'cluster';

export type Store = {
  /** As settings name it. */
  readonly url: string;
  /** A connection to each server. */
  readonly nodes: readonly [Redis, ...Redis[]];
  /** Finds the server of each key. */
  readonly client: RedisClient;
  stop(): Promise<void>;
};

/** Throws if Redis does not start. */
export function startStore(name: StoreName): Promise<Store> {
  return name === 'cluster' ? startCluster() : startOne();
}

async function startOne(): Promise<Store> {
  const server = await privateRedis();
  return { url: server.url, nodes: [server.redis], client: server.redis, stop: () => server.stop() };
}

async function startCluster(): Promise<Store> {
  const cluster = await privateCluster(3);
  const [first, ...others] = cluster.nodes.map(({ redis }) => redis);
  if (first === undefined) throw new Error('the cluster has no nodes');
  const url = `redis+cluster://${cluster.urls.map((node) => new URL(node).host).join(',')}`;
  const client = await connected(url);
  const stop = (): Promise<void> => {
    client.disconnect();
    return cluster.stop();
  };
  return { url, nodes: [first, ...others], client, stop };
}

async function connected(url: string): Promise<RedisClient> {
  const { promise, resolve } = Promise.withResolvers<undefined>();
  // What the loss of Redis means is seen by those who are measured.
  const client = connect(url, { onDown: () => undefined, onReady: () => resolve(undefined) });
  await promise;
  return client;
}

/** Seconds of processor time that these servers used: all of it, or of the threads that run commands and scripts. */
export async function cpuSecondsOf(nodes: readonly Redis[], thread: 'all' | 'main' = 'all'): Promise<number> {
  const suffix = thread === 'all' ? '' : '_main_thread';
  const pattern = new RegExp(`^used_cpu_(?:sys|user)${suffix}:([\\d.]+)`, 'gm');
  const texts = await Promise.all(nodes.map((redis) => redis.info('cpu')));
  return texts.flatMap((text) => [...text.matchAll(pattern)]).reduce((sum, [, seconds]) => sum + Number(seconds), 0);
}

export async function countKeys(nodes: readonly Redis[]): Promise<number> {
  const counts = await Promise.all(nodes.map((redis) => redis.dbsize()));
  return counts.reduce((sum, count) => sum + count, 0);
}
