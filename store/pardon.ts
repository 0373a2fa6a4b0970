import type { RedisCommander } from 'ioredis';
import type { PenaltyState } from '../policy/decision.ts';
import { STATES } from './decide-wire.ts';
import { StoreError, toStoreError } from './errors.ts';
import type { Names } from './names.ts';
import { integerOf, textsOf } from './reply.ts';
import { loadScript, type Script } from './script.ts';

/** One subject above NORMAL. */
export type ListedPenalty = {
  readonly subject: string;
  /** Who it is, for people. */
  readonly text: string;
  readonly state: PenaltyState;
  /** When that state ends, by the clock of Redis; undefined = never by itself. */
  readonly endsAtMicros: number | undefined;
};

const pardonScript = loadScript('pardon');
const CHUNK = 500;

/**
 * Lifts the penalty of a subject: the next decision finds it NORMAL, with nothing counted. Announced, so that pods forget
 * what they remember. Returns the state that it was in. Throws StoreError.
 */
export async function pardon(
  redis: RedisCommander,
  names: Names,
  { partition, subject }: { readonly partition: string; readonly subject: string },
  script: Script = pardonScript,
): Promise<{ before: PenaltyState }> {
  const keys = [names.penalty(partition, subject), names.penaltyIndex(partition)];
  const announcement = `pardon ${partition} ${subject}`;
  const [code, detail] = textsOf(await script.run(redis, keys, [subject, names.changes, announcement]));
  switch (code) {
    case '0':
      return { before: stateOf(detail) };
    case '1':
      throw new StoreError('WRONG_TYPE', 'a key of the penalties holds something else');
    default:
      throw new StoreError('BAD_REPLY', `unknown code ${code}`);
  }
}

type ListPenalties = (redis: RedisCommander, names: Names, partition: string, most: number) => Promise<ListedPenalty[]>;

/** For tests only: `listPenalties` by a script with another clock. */
export const listPenaltiesWith =
  (script: Script): ListPenalties =>
  async (redis, names, partition, most) => {
    const listed: ListedPenalty[] = [];
    // Of those in the index some may be NORMAL by now: they are dropped at the next write only.
    for (let start = 0; listed.length < most; start += CHUNK) {
      const subjects = await readIndex(redis, names.penaltyIndex(partition), start);
      if (subjects.length === 0) break;
      const keys = subjects.map((subject) => names.penalty(partition, subject));
      const reply = textsOf(await script.run(redis, keys, []));
      subjects.forEach((subject, i) => {
        const state = stateOf(reply[i * 3]);
        const ends = integerOf(reply[i * 3 + 1]);
        if (state === 'NORMAL') return;
        listed.push({ subject, text: reply[i * 3 + 2] ?? '', state, endsAtMicros: ends < 0 ? undefined : ends });
      });
    }
    return listed.slice(0, most);
  };

/**
 * The subjects of a partition that are above NORMAL, those that stay so longest first, at most `most`. An edit of the
 * policy shows at the subject's next violation. Throws StoreError.
 */
export const listPenalties: ListPenalties = listPenaltiesWith(loadScript('list-penalties'));

async function readIndex(redis: RedisCommander, key: string, start: number): Promise<string[]> {
  try {
    return await redis.zrevrange(key, start, start + CHUNK - 1);
  } catch (error) {
    throw toStoreError(error);
  }
}

function stateOf(text: string | undefined): PenaltyState {
  const state = STATES[integerOf(text)];
  if (state === undefined) throw new StoreError('BAD_REPLY', `unknown state ${text}`);
  return state;
}
