import type { RedisCommander } from 'ioredis';
import { z } from 'zod';
import { cut, percentLeft } from '../policy/decide-over.ts';
import { digest } from '../policy/hash.ts';
import type { Verdict } from '../policy/decision.ts';
import type { SelectedLimit } from '../policy/selection.ts';
import { ALGORITHM_CODES, type DecideRequest } from './decide-wire.ts';
import { StoreError, toStoreError } from './errors.ts';
import type { Names } from './names.ts';
import { textsOf } from './reply.ts';
import { loadScript, type Script } from './script.ts';

/** How long a request can be refunded. */
const REFUNDABLE_MILLIS = 60_000;

const chargedLimit = z.object({
  subject: z.string(),
  field: z.string(),
  algorithm: z.enum(['TokenBucket', 'SlidingWindow', 'SlidingWindowLog']),
  windowSeconds: z.int().min(1),
  /** Requests per window at the charge. */
  refill: z.int().min(0),
  /** What the request took from this limit. */
  cost: z.int().min(1),
});

const chargeSchema = z.object({
  partition: z.string(),
  /** When it was charged, by the clock of Redis. */
  redisMicros: z.int(),
  limits: z.array(chargedLimit).max(64),
});

/** One limit that a request was charged to. */
export type ChargedLimit = Readonly<z.output<typeof chargedLimit>>;

/** What one request was charged, and when: all that a refund needs to know. */
export type Charge = {
  readonly partition: string;
  readonly redisMicros: number;
  readonly limits: readonly ChargedLimit[];
};

const refundScript = loadScript('refund');
const UNKNOWN_TIME = -1;

/** What the decision script charged for a request: the rules that admitted it, and of shadow rules the groups that passed. */
export function chargeOf(
  { partition, selection, isPeek }: DecideRequest,
  verdict: Verdict & { readonly redisMicros: number },
): Charge {
  const wasCharged = verdict.code === 'admitted' && isPeek !== true;
  const denying = new Set(selection.rules.map((rule, i) => (outcomeOf(verdict, i) === 'Denied' ? rule.group : -1)));
  const limits = selection.rules.flatMap((rule, i) => {
    const isCharged = wasCharged && outcomeOf(verdict, i) === 'Admitted' && !denying.has(rule.group);
    if (!isCharged) return [];
    const percent = percentLeft(rule, selection, verdict);
    return rule.limits.map((limit) => toCharged({ ...limit, refill: cut(limit.refill, percent) }, rule.cost));
  });
  return { partition, redisMicros: verdict.redisMicros, limits };
}

const outcomeOf = (verdict: Verdict, rule: number): string | undefined => verdict.rules[rule]?.outcome;

/** The part of a limit that a refund needs. */
export function toCharged(limit: SelectedLimit, cost: number): ChargedLimit {
  const { subject, field, algorithm, windowSeconds, refill } = limit;
  return { subject, field, algorithm, windowSeconds, refill, cost };
}

/**
 * Remembers a charge for a minute, so that it can be given back. Ids of different callers must not meet: whoever calls
 * this makes them so. Returns false if the id is in use: then this request cannot be refunded. Throws StoreError.
 */
export async function rememberCharge(
  redis: RedisCommander,
  names: Names,
  requestId: string,
  charge: Charge,
): Promise<boolean> {
  const key = names.charge(digest(requestId));
  try {
    return (await redis.set(key, JSON.stringify(charge), 'PX', REFUNDABLE_MILLIS, 'NX')) === 'OK';
  } catch (error) {
    throw toStoreError(error);
  }
}

/**
 * Gives back what a request was charged, to the limits as they are by now and never above full. Of several refunds of one
 * request exactly one finds it. It is forgotten first: a failure after that loses the refund, and nothing is given back
 * twice. Throws StoreError.
 */
export async function refund(
  redis: RedisCommander,
  names: Names,
  requestId: string,
  script: Script = refundScript,
): Promise<'refunded' | 'unknown'> {
  const charge = await takeCharge(redis, names.charge(digest(requestId)));
  if (charge === undefined) return 'unknown';
  await giveBack(redis, names, charge, script);
  return 'refunded';
}

/**
 * Gives back cost that no remembered request took, such as Envoy's negative hits: windows give back what would leave them
 * first. Throws RangeError for a cost below 1, and StoreError.
 */
export async function refundAnonymously(
  redis: RedisCommander,
  names: Names,
  { partition, limits }: Omit<Charge, 'redisMicros'>,
  script: Script = refundScript,
): Promise<void> {
  for (const { cost, field } of limits) {
    if (!Number.isSafeInteger(cost) || cost < 1) {
      throw new RangeError(
        `cost ${cost} of limit ${field} must be a whole number from 1 to ${Number.MAX_SAFE_INTEGER}`,
      );
    }
  }
  await giveBack(redis, names, { partition, limits, redisMicros: UNKNOWN_TIME }, script);
}

async function takeCharge(redis: RedisCommander, key: string): Promise<Charge | undefined> {
  let text: string | null;
  try {
    text = await redis.getdel(key);
  } catch (error) {
    throw toStoreError(error);
  }
  if (text === null) return undefined;
  try {
    return chargeSchema.parse(JSON.parse(text));
  } catch {
    throw new StoreError('BAD_REPLY', 'the record of a charge cannot be read');
  }
}

async function giveBack(
  redis: RedisCommander,
  names: Names,
  { partition, redisMicros, limits }: Charge,
  script: Script,
): Promise<void> {
  if (limits.length === 0) return;
  const keys = [...new Set(limits.map(({ subject }) => names.counters(partition, subject)))];
  const args = limits.flatMap(({ subject, field, algorithm, refill, windowSeconds, cost }) => [
    keys.indexOf(names.counters(partition, subject)) + 1,
    field,
    ALGORITHM_CODES[algorithm],
    refill,
    windowSeconds,
    cost,
  ]);
  const [code] = textsOf(await script.run(redis, keys, [redisMicros, ...args]));
  if (code === '1') throw new StoreError('WRONG_TYPE', 'a key of the counters holds something else');
  if (code !== '0') throw new StoreError('BAD_REPLY', `unknown code ${code}`);
}
