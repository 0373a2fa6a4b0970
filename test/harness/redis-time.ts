import type { Redis } from 'ioredis';
import { integerOf, textsOf } from '../../store/reply.ts';

/** The time as Redis has it, in microseconds. */
export async function redisMicros(redis: Redis): Promise<number> {
  const [seconds, micros] = textsOf(await redis.call('TIME'));
  return integerOf(seconds) * 1_000_000 + integerOf(micros);
}
