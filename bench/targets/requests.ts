// What callers ask for, as it goes over the wire.
import type { Caller } from '../callers.ts';
import { toRequest } from '../senders/grpc-lane.ts';
import { NAMESPACE } from '../worlds.ts';

export type Ask = (caller: Caller) => string;

const CHECKS_PER_BATCH = 100;

/** A whole HTTP request. Whoever sends it may replace parts of the same length. */
function http(
  method: string,
  path: string,
  { headers = {}, body = '' }: { readonly headers?: Readonly<Record<string, string>>; readonly body?: string },
): string {
  const all = { host: '127.0.0.1', ...headers, ...(body === '' ? {} : { 'content-length': String(body.length) }) };
  const lines = Object.entries(all).map(([name, value]) => `${name}: ${value}\r\n`);
  return `${method} ${path} HTTP/1.1\r\n${lines.join('')}\r\n${body}`;
}

const postJson = (path: string, body: object): string =>
  http('POST', path, { headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) });

export const domainOf = (policy: string): string => `${NAMESPACE}.${policy}`;

/** To the comparison servers. */
export const askFloor: Ask = ({ consumer }) => postJson('/', { consumer });

/** To the Express applications, which know who asks. */
export const askExpress: Ask = ({ consumer, path }) => http('GET', path, { headers: { 'x-consumer': consumer } });

/** POST /v1/decision/check with these fields. */
export const check =
  (policy: string, fieldsOf: (caller: Caller) => object, domain = domainOf(policy)): Ask =>
  (caller) =>
    postJson('/v1/decision/check', { domain, ...fieldsOf(caller) });

export const batchOf = (checks: readonly object[]): string => postJson('/v1/decision/batch', { checks });

/** Every check of a batch is another caller's, from this one on. */
export const batch =
  (domain: string, callers: readonly Caller[]): Ask =>
  (caller) => {
    const first = callers.indexOf(caller);
    const checks = Array.from({ length: CHECKS_PER_BATCH }, (_, index) => {
      const { consumer } = callers[(first + index) % callers.length] ?? caller;
      return { domain, consumer };
    });
    return batchOf(checks);
  };

export const authz =
  (policy: string): Ask =>
  ({ ip, path }) =>
    http('GET', `/authz/${domainOf(policy)}${path}`, { headers: { 'x-forwarded-for': ip } });

export const grpc =
  (policy: string): Ask =>
  ({ consumer }) =>
    toRequest({ domain: domainOf(policy), descriptors: [{ entries: [{ key: 'consumer', value: consumer }] }] });
