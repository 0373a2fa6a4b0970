import type { RedisClient } from './connection.ts';
import { z } from 'zod';
import { StoreError, toStoreError } from './errors.ts';
import type { Names } from './names.ts';
import { integerOf, textsOf } from './reply.ts';
import { loadScript } from './script.ts';

const recordSchema = z.object({
  /** Id of the consumer, without its source. */
  consumer: z.string(),
  namespace: z.string(),
  /** Of the Consumer object that the record was made from. */
  uid: z.string(),
  /** Of that object. */
  generation: z.int(),
  tier: z.string().optional(),
  tenant: z.string().optional(),
  /** Its keys are as unknown ones. */
  isDisabled: z.literal(true).optional(),
  /** What was agreed with this consumer, by policy (`namespace/name`) and rule. */
  limits: z
    .array(
      z.object({
        policy: z.string(),
        rule: z.string(),
        limits: z.array(z.object({ windowSeconds: z.int(), requests: z.int(), capacity: z.int(), degraded: z.int() })),
      }),
    )
    .optional(),
});

/** What a limiter needs to know of the owner of an API key. */
export type ConsumerRecord = z.output<typeof recordSchema>;

export type KeySetState = {
  readonly incarnation: string;
  readonly epoch: number;
  readonly sequence: number;
  readonly isComplete: boolean;
};

export type KeyWriter = {
  readonly owner: string;
  readonly incarnation: string;
  readonly epoch: number;
  /** The highest sequence number that a pod or this operator has seen. */
  readonly seenSequence: number;
};

/** `undefined` removes the record. */
export type KeyWrite = { readonly name: string; readonly record: ConsumerRecord | undefined };

export type KeyLookup =
  | { readonly kind: 'found'; readonly record: ConsumerRecord }
  | { readonly kind: 'unknown' }
  /** The set is not complete: that the key is not in it means nothing. */
  | { readonly kind: 'unavailable' };

const CHUNK = 500;

const writeScript = loadScript('write-consumer-keys');
const findScript = loadScript('find-consumer-key');

export async function findConsumerKey(
  redis: RedisClient,
  names: Names,
  owner: string,
  name: string,
): Promise<KeyLookup> {
  const reply = textsOf(await findScript.run(redis, [names.consumerKeysMarker, names.consumerKey(name)], [owner]));
  const [complete, text] = reply;
  if (text) {
    const record = recordSchema.safeParse(parseJson(text));
    if (!record.success) throw new StoreError('BAD_REPLY', 'a record of a key cannot be read');
    return { kind: 'found', record: record.data };
  }
  return complete === '1' ? { kind: 'unknown' } : { kind: 'unavailable' };
}

/** The marker of the key set; undefined if there is none. */
export async function readKeySetState(redis: RedisClient, names: Names): Promise<KeySetState | undefined> {
  try {
    const stored = await redis.hmget(names.consumerKeysMarker, 'incarnation', 'epoch', 'sequence', 'complete');
    const [incarnation, epoch, sequence, complete] = stored;
    if (!incarnation || !epoch || !sequence) return undefined;
    return { incarnation, epoch: integerOf(epoch), sequence: integerOf(sequence), isComplete: complete === '1' };
  } catch (error) {
    throw toStoreError(error);
  }
}

/** Those of the named records that exist and can be read. */
export async function readKeyRecords(
  redis: RedisClient,
  names: Names,
  wanted: readonly string[],
): Promise<Map<string, ConsumerRecord>> {
  const records = new Map<string, ConsumerRecord>();
  try {
    for (let start = 0; start < wanted.length; start += CHUNK) {
      const chunk = wanted.slice(start, start + CHUNK);
      const stored = await redis.mget(chunk.map((name) => names.consumerKey(name)));
      chunk.forEach((name, index) => {
        const record = recordSchema.safeParse(parseJson(stored[index] ?? ''));
        if (record.success) records.set(name, record.data);
      });
    }
    return records;
  } catch (error) {
    throw toStoreError(error);
  }
}

/** Names of all records in Redis. */
export async function listKeyNames(redis: RedisClient, names: Names): Promise<Set<string>> {
  try {
    return new Set(await redis.smembers(names.consumerKeysIndex));
  } catch (error) {
    throw toStoreError(error);
  }
}

/**
 * Writes the whole set: first the records, the marker of completeness last, so that until then a key that is not
 * found is not taken for an unknown one. Returns the sequence number of the set.
 * Throws OWNED_BY_OTHER, SUPERSEDED.
 */
export async function writeKeySet(
  redis: RedisClient,
  names: Names,
  writer: KeyWriter,
  writes: readonly KeyWrite[],
): Promise<number> {
  for (let start = 0; start < writes.length; start += CHUNK) {
    await write(redis, names, writer, { writes: writes.slice(start, start + CHUNK), kind: 'partial' });
  }
  return write(redis, names, writer, { writes: [], kind: 'complete' });
}

/** Writes a change of a complete set; throws HEAD_MOVED if the whole set has to be written instead. */
export async function changeKeySet(
  redis: RedisClient,
  names: Names,
  writer: KeyWriter,
  writes: readonly KeyWrite[],
): Promise<number> {
  let sequence = 0;
  for (let start = 0; start < writes.length; start += CHUNK) {
    sequence = await write(redis, names, writer, { writes: writes.slice(start, start + CHUNK), kind: 'change' });
  }
  return sequence;
}

async function write(
  redis: RedisClient,
  names: Names,
  writer: KeyWriter,
  change: { readonly writes: readonly KeyWrite[]; readonly kind: 'partial' | 'complete' | 'change' },
): Promise<number> {
  const keys = [names.consumerKeysMarker, names.consumerKeysIndex];
  const args = [
    writer.owner,
    writer.incarnation,
    String(writer.epoch),
    change.kind,
    names.changes,
    String(writer.seenSequence),
  ];
  for (const { name, record } of change.writes) {
    keys.push(names.consumerKey(name));
    args.push(name, record === undefined ? '' : JSON.stringify(record));
  }
  const [code, detail] = textsOf(await writeScript.run(redis, keys, args));
  switch (code) {
    case '0':
      return integerOf(detail);
    case '1':
      throw new StoreError('OWNED_BY_OTHER', `this Redis holds the keys of "${detail}", not of "${writer.owner}"`);
    case '2':
      throw new StoreError(
        'SUPERSEDED',
        `an operator of epoch ${detail} took over; this one has epoch ${writer.epoch}`,
      );
    case '3':
      throw new StoreError('HEAD_MOVED', 'the set of keys is incomplete or of another incarnation');
    default:
      throw new StoreError('BAD_REPLY', `unknown code ${code}`);
  }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
