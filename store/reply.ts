import { StoreError } from './errors.ts';

/** A reply as a list of texts; numbers become their digits. Throws BAD_REPLY for anything else. */
export function textsOf(reply: unknown): string[] {
  if (!Array.isArray(reply)) throw new StoreError('BAD_REPLY', 'expected a list');
  return reply.map((item: unknown) => {
    if (typeof item === 'string') return item;
    if (typeof item === 'number') return String(item);
    throw new StoreError('BAD_REPLY', 'expected texts or numbers in the list');
  });
}

export function integerOf(text: string | undefined): number {
  const value = Number(text);
  if (text === undefined || text === '' || !Number.isSafeInteger(value)) {
    throw new StoreError('BAD_REPLY', `expected a whole number, not ${JSON.stringify(text)}`);
  }
  return value;
}
