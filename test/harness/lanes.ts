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
async function decideAll(
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

/** One random sequence in play against its model. */
export interface Lane {
  /** What it was drawn as; shown when the model disagrees. */
  readonly drawn: unknown;
  /** The request of a step, or undefined after the last. */
  next(index: number): TimedRequest | undefined;
  /** Throws if the model expects another verdict. */
  check(verdict: TimedVerdict): void;
}

/** Plays sequences side by side, each step of all of them in one go, and empties Redis; returns how many steps there were. */
export async function playLanes(redis: Redis, names: Names, lanes: readonly Lane[]): Promise<number> {
  let steps = 0;
  for (let index = 0; ; index += 1) {
    const asking = lanes.flatMap((lane) => {
      const next = lane.next(index);
      return next === undefined ? [] : [{ lane, next }];
    });
    if (asking.length === 0) break;
    const requests = asking.map(({ next }) => next);
    const verdicts = await decideAll(redis, names, requests);
    asking.forEach(({ lane }, i) => check(lane, index, verdicts[i]));
    steps += asking.length;
  }
  await redis.flushall();
  return steps;
}

function check(lane: Lane, index: number, verdict: TimedVerdict | undefined): void {
  if (verdict === undefined) throw new Error('no verdict');
  try {
    lane.check(verdict);
  } catch (error) {
    throw new Error(`step ${index} of ${shown(lane.drawn)}`, { cause: error });
  }
}

const shown = (drawn: unknown): string =>
  JSON.stringify(drawn, (_key, value: unknown) => (typeof value === 'bigint' ? Number(value) : value));
