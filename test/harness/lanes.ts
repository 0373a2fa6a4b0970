import type { Redis } from 'ioredis';
import { type DecideRequest, DecideArguments, decodeVerdict } from '../../store/decide-wire.ts';
import type { TimedVerdict } from '../../store/decide.ts';
import type { Names } from '../../store/names.ts';
import { integerOf, textsOf } from '../../store/reply.ts';
import { Script } from '../../store/script.ts';
import { onVirtualClock, setClock } from './virtual-clock.ts';

const EXPIRE = "redis.call('PEXPIRE', key, string.format('%.0f', ttl))";

/** Times to live pass in real time: on a busy machine a state would be gone although virtual time stands still. */
function withoutExpiry({ text }: Script): Script {
  if (text.split(EXPIRE).length !== 2) throw new Error('decide must set the time to live of a hash exactly once');
  return new Script(text.replace(EXPIRE, "redis.call('PERSIST', key)"));
}

const script = withoutExpiry(onVirtualClock('decide'));

export type TimedRequest = { readonly at: bigint; readonly request: DecideRequest };

/**
 * Decides many requests, each at its own virtual time, without waiting between them: the time of each is set right
 * before it on the same connection. For tests that make hundreds of thousands of decisions.
 */
export async function decideAll(
  redis: Redis,
  names: Names,
  requests: readonly TimedRequest[],
): Promise<readonly TimedVerdict[]> {
  await redis.script('LOAD', script.text);
  return Promise.all(
    requests.map(async ({ at, request }) => {
      const { keys, args } = new DecideArguments(names, [request]);
      const set = setClock(redis, at);
      const answered = script.run(redis, keys, args);
      await set;
      const [micros, verdict] = textsOf(await answered);
      return { ...decodeVerdict(request, verdict ?? ''), redisMicros: integerOf(micros) };
    }),
  );
}
