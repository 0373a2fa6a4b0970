import type { Redis } from 'ioredis';
import { readScript, Script } from '../../store/script.ts';

const TIME = "redis.call('TIME')";
const KEY = 'virtual-clock';

/** A script of the product with only its clock replaced: it reads the time from a key that the test sets. */
export function onVirtualClock(name: string): Script {
  const text = readScript(name);
  if (text.split(TIME).length !== 2) throw new Error(`${name} must read the time exactly once`);
  return new Script(text.replace(TIME, `redis.call('HMGET', '${KEY}', 'seconds', 'micros')`));
}

export async function setClock(redis: Redis, micros: bigint): Promise<void> {
  await redis.hset(KEY, { seconds: String(micros / 1_000_000n), micros: String(micros % 1_000_000n) });
}
