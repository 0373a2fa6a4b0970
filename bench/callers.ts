import { keyAround } from '../policy/api-key.ts';

/** Somebody who sends requests; each target takes from it what it needs. */
export type Caller = {
  readonly consumer: string;
  readonly tenant: string;
  readonly ip: string;
  readonly path: string;
  readonly apiKey: string;
};

/** Asks once, before anything is measured. */
export const STRANGER: Caller = {
  consumer: 'stranger',
  tenant: 'stranger',
  ip: '203.0.113.9',
  path: '/v1/orders',
  apiKey: keyAround('stranger'.padStart(43, 'k')),
};

const CALLERS = 240;
const TENANTS = 20;
const PATHS = ['/v1/orders', '/v1/orders/1842/items', '/v1/customers?page=2', '/v1/search'];

/** The same callers in every run. */
export function callers(): Caller[] {
  return Array.from({ length: CALLERS }, (_, index) => ({
    consumer: `customer-${index}`,
    tenant: `tenant-${index % TENANTS}`,
    ip: `198.51.100.${index}`,
    path: PATHS[index % PATHS.length] ?? '/',
    apiKey: keyAround(String(index).padStart(43, 'k')),
  }));
}

/**
 * The same in an order that looks random and is the same in every run: neighbours in a batch are then not neighbours in
 * anything else.
 */
export function shuffled<T>(items: readonly T[]): T[] {
  const random = xorshift(1);
  return items
    .map((item) => ({ item, at: random() }))
    .toSorted((one, other) => one.at - other.at)
    .map(({ item }) => item);
}

/** Marsaglia's xorshift32: unsigned numbers, reproducible. */
function xorshift(seed: number): () => number {
  let state = Math.imul(seed, 0x9e3779b1) >>> 0 || 1;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    state >>>= 0;
    return state;
  };
}
