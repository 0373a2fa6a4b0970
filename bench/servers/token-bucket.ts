// What one would write without Sluice: a script of one's own, called once for each request.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Cluster, Redis } from 'ioredis';
import { parseRedisUrl } from '../../store/redis-target.ts';

const CAPACITY = 6_000_000;
const REFILL_PER_SECOND = 100_000;
const OPTIONS = { enableAutoPipelining: false, noDelay: true } as const;

export type Verdict = { readonly allowed: boolean; readonly remaining: number; readonly retry_after: number };

/** Connects to the Redis, or the Cluster, of $REDIS_URL; the result takes one request from a consumer's bucket. */
export async function tokenBucket(): Promise<(consumer: string) => Promise<Verdict>> {
  const redis = clientOf(process.env['REDIS_URL'] ?? '');
  const script = readFileSync(join(import.meta.dirname, 'token-bucket.lua'), 'utf8');
  const nodes = redis instanceof Cluster ? await mastersOf(redis) : [redis];
  const [sha] = await Promise.all(nodes.map((node) => node.script('LOAD', script)));
  return async (consumer) => {
    const reply: unknown = await redis.evalsha(String(sha), 1, `evalsha:${consumer}`, CAPACITY, REFILL_PER_SECOND, 1);
    if (!Array.isArray(reply)) throw new TypeError('expected a list');
    return { allowed: reply[0] === 1, remaining: Number(reply[1]), retry_after: Number(reply[2]) / 1000 };
  };
}

function clientOf(url: string): Redis | Cluster {
  const target = parseRedisUrl(url);
  if (target?.kind === 'cluster') return new Cluster([...target.nodes], { redisOptions: OPTIONS });
  return new Redis(url, OPTIONS);
}

async function mastersOf(cluster: Cluster): Promise<Redis[]> {
  // Before the first answer it does not know them.
  await cluster.ping();
  return cluster.nodes('master');
}
