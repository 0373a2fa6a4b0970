import type { RedisClient } from './connection.ts';
import type { DomainDocument } from '../policy/documents.ts';
import type { Names } from './names.ts';
import { integerOf, textsOf } from './reply.ts';
import { loadScript } from './script.ts';

const script = loadScript('count-invalid-key');

/** Microseconds for which a client is blocked (0 = it is not), and whether this request led to the block. */
export type InvalidKeyCount = { readonly blockedForMicros: number; readonly isNew: boolean };

/**
 * Counts a request with an invalid API key for a client of a domain, on behalf of all pods. Throws StoreError.
 * @param client a hash of domain and client
 */
export async function countInvalidKey(
  redis: RedisClient,
  names: Names,
  client: string,
  { invalidKeys, withinSeconds, forSeconds }: DomainDocument['ipBlock'],
): Promise<InvalidKeyCount> {
  const reply = textsOf(await script.run(redis, [names.invalidKeys(client)], [invalidKeys, withinSeconds, forSeconds]));
  return { blockedForMicros: integerOf(reply[0]), isNew: reply[1] === '1' };
}
