import { createHmac, hash, timingSafeEqual } from 'node:crypto';
import { digest } from './hash.ts';

export const MAX_API_KEY_LENGTH = 512;

/** Keys that `sluice key new` makes: this, the secret, and a checksum of both. */
const PREFIX = 'slk_';
const SECRET_LENGTH = 43;
const CHECKSUM_LENGTH = 6;

/** Lower-case hex of the SHA-256 of a key, as a Consumer lists it after "sha256:". */
export function hashOfKey(key: string): string {
  return hash('sha256', key, 'hex');
}

/** A key of our own format around a secret: 43 characters of base62, which hold 256 bits. */
export function keyAround(secret: string): string {
  if (!/^[0-9A-Za-z]{43}$/.test(secret)) throw new RangeError(`a secret is ${SECRET_LENGTH} characters of base62`);
  return `${PREFIX}${secret}${checksumOf(secret)}`;
}

/**
 * Whether a key can be one at all. Those of our own format carry a checksum: a mistyped or made-up one is told without
 * asking anybody. Keys of any other format may be anything.
 */
export function isPossibleKey(key: string): boolean {
  if (key === '' || key.length > MAX_API_KEY_LENGTH) return false;
  if (!key.startsWith(PREFIX)) return true;
  const secret = key.slice(PREFIX.length, -CHECKSUM_LENGTH);
  if (!/^[0-9A-Za-z]{43}$/.test(secret)) return false;
  const given = Buffer.from(key.slice(-CHECKSUM_LENGTH));
  const expected = Buffer.from(checksumOf(secret));
  return given.length === expected.length && timingSafeEqual(given, expected);
}

/** The first letters and digits of the SHA-256 of prefix and secret. */
function checksumOf(secret: string): string {
  return digest(`${PREFIX}${secret}`).replaceAll(/[-_]/g, '').slice(0, CHECKSUM_LENGTH);
}

/**
 * The name under which the record of a key is kept: HMAC-SHA-256 of the key's hash. Whoever reads Redis without the
 * pepper can neither test guesses of keys nor match records with the hashes in Consumers.
 */
export function recordNameOf(pepper: string, keyHash: string): string {
  return createHmac('sha256', pepper).update(keyHash, 'hex').digest('base64url');
}
