import { randomInt } from 'node:crypto';
import { hashOfKey, keyAround, MAX_API_KEY_LENGTH } from '../policy/api-key.ts';

const BASE62 = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz';
const SECRET_LENGTH = 43;

/** A key for a client, and what a Consumer lists of it. */
export type NewKey = { readonly key: string; readonly hash: string };

/** A key that nobody can guess: 43 random characters of base62 hold 256 bits. */
export function newKey(): NewKey {
  const secret = Array.from({ length: SECRET_LENGTH }, () => BASE62.charAt(randomInt(BASE62.length))).join('');
  const key = keyAround(secret);
  return { key, hash: listedHashOf(key) };
}

/** The entry of `apiKeyHashes` for a key. Throws RangeError for a text that cannot be one. */
export function listedHashOf(key: string): string {
  if (key === '' || key.length > MAX_API_KEY_LENGTH || /\s/.test(key)) {
    throw new RangeError(`a key has 1 to ${MAX_API_KEY_LENGTH} characters, and no white space`);
  }
  return `sha256:${hashOfKey(key)}`;
}

/** The first line of what is piped in, without the end of the line. */
export async function firstLineOf(input: AsyncIterable<Buffer | string>): Promise<string> {
  let text = '';
  for await (const chunk of input) {
    text += String(chunk);
    if (text.includes('\n') || text.length > MAX_API_KEY_LENGTH + 2) break;
  }
  return (text.split('\n', 1)[0] ?? '').replace(/\r$/, '');
}
