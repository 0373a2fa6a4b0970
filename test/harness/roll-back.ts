import type { Redis } from 'ioredis';

export type Saved = readonly { readonly name: string; readonly dump: Buffer; readonly expires: number }[];

/** Everything that Redis holds. */
export async function save(redis: Redis): Promise<Saved> {
  const keys = await redis.keys('*');
  return Promise.all(
    keys.map(async (name) => {
      const [dump, expires] = await Promise.all([redis.dumpBuffer(name), redis.pexpiretime(name)]);
      if (dump === null) throw new Error(`${name} has just expired`);
      return { name, dump, expires };
    }),
  );
}

/** To what it held then, as by a fail-over to a replica that lagged, or a restart from an older file. */
export async function rollBack(redis: Redis, saved: Saved): Promise<void> {
  await redis.flushall();
  const pipeline = redis.pipeline();
  for (const { name, dump, expires } of saved) pipeline.restore(name, Math.max(0, expires), dump, 'ABSTTL');
  const failure = (await pipeline.exec())?.find(([error]) => error !== null)?.[0];
  if (failure) throw failure;
}
