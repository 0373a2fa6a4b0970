import type { Redis } from 'ioredis';

/** How often this server has executed a command since `resetCommandStats`. */
export async function callsOf(redis: Redis, command: string): Promise<number> {
  const stats = await redis.info('commandstats');
  const calls = new RegExp(`^cmdstat_${command}:calls=(\\d+)`, 'm').exec(stats)?.[1];
  return calls === undefined ? 0 : Number(calls);
}

export async function resetCommandStats(redis: Redis): Promise<void> {
  await redis.config('RESETSTAT');
}
