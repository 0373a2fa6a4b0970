import type { Redis } from 'ioredis';

/** Everything that Redis holds: the value of each key byte for byte, and when it expires (-1 = never). */
export async function contentsOf(redis: Redis): Promise<Readonly<Record<string, unknown>>> {
  const contents: Record<string, unknown> = {};
  for (const key of (await redis.keys('*')).toSorted()) {
    const dump = await redis.dumpBuffer(key);
    contents[key] = { dump: dump?.toString('hex'), expires: await redis.pexpiretime(key) };
  }
  return contents;
}
