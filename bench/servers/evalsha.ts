// What one would write without Sluice: a server that calls a script of its own, once for each request.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Redis } from 'ioredis';
import { type Answer, serve } from './json-server.ts';

const CAPACITY = 6_000_000;
const REFILL_PER_SECOND = 100_000;

const redis = new Redis(process.env['REDIS_URL'] ?? '', { enableAutoPipelining: false, noDelay: true });
const script = readFileSync(join(import.meta.dirname, 'token-bucket.lua'), 'utf8');
const sha = String(await redis.script('LOAD', script));

serve(async ({ consumer }): Promise<Answer> => {
  const reply: unknown = await redis.evalsha(sha, 1, `evalsha:${consumer}`, CAPACITY, REFILL_PER_SECOND, 1);
  if (!Array.isArray(reply)) throw new TypeError('expected a list');
  return { allowed: reply[0] === 1, remaining: Number(reply[1]), retry_after: Number(reply[2]) / 1000 };
});
