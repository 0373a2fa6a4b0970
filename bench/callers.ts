/** Somebody who sends requests; each target takes from it what it needs. */
export type Caller = {
  readonly consumer: string;
  readonly tenant: string;
  readonly ip: string;
  readonly path: string;
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
  }));
}

/**
 * The callers in an order that is the connection's own and the same in every run. Connections that walk one order
 * together would ask for one subject at a time, which flatters whoever decides in batches.
 */
export function orderFor<T>(connection: number, items: readonly T[]): T[] {
  const order = [...items];
  const random = xorshift(connection + 1);
  for (let last = order.length - 1; last > 0; last -= 1) {
    const other = random() % (last + 1);
    const [one, two] = [order[last], order[other]];
    if (one === undefined || two === undefined) continue;
    order[last] = two;
    order[other] = one;
  }
  return order;
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
