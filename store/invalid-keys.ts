import type { RedisClient } from './connection.ts';
import type { DomainDocument } from '../policy/documents.ts';
import type { Names } from './names.ts';
import { integerOf, textsOf } from './reply.ts';
import { loadScript } from './script.ts';

const script = loadScript('count-invalid-key');

/** Microseconds for which a client is blocked (0 = it is not), and whether this request led to the block. */
export type InvalidKeyCount = { readonly blockedForMicros: number; readonly isNew: boolean };

/** How invalid keys are counted. `isPeek`: it is only looked whether the client is blocked. */
export type InvalidKeyCounting = DomainDocument['ipBlock'] & { readonly isPeek?: boolean };

/**
 * Counts a request with an invalid API key for a client of a domain, on behalf of all pods. Throws StoreError.
 * @param client a hash of domain and client
 */
export async function countInvalidKey(
  redis: RedisClient,
  names: Names,
  client: string,
  { invalidKeys, withinSeconds, forSeconds, isPeek }: InvalidKeyCounting,
): Promise<InvalidKeyCount> {
  const args = [invalidKeys, withinSeconds, forSeconds, isPeek === true ? 0 : 1];
  const reply = textsOf(await script.run(redis, [names.invalidKeys(client)], args));
  return { blockedForMicros: integerOf(reply[0]), isNew: reply[1] === '1' };
}
