import { createHash, createHmac } from 'node:crypto';

export const MAX_API_KEY_LENGTH = 512;

/** Lower-case hex of the SHA-256 of a key, as a Consumer lists it after "sha256:". */
export function hashOfKey(key: string): string {
  return createHash('sha256').update(key, 'utf8').digest('hex');
}

/**
 * The name under which the record of a key is kept: HMAC-SHA-256 of the key's hash. Whoever reads Redis without the
 * pepper can neither test guesses of keys nor match records with the hashes in Consumers.
 */
export function recordNameOf(pepper: string, keyHash: string): string {
  return createHmac('sha256', pepper).update(keyHash, 'hex').digest('base64url');
}
