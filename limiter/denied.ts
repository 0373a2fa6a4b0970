import { hashOfKey } from '../policy/api-key.ts';
import type { Decision } from '../policy/decision.ts';
import type { CheckRequest } from './check.ts';
import { type DeniedEntry, MostDenied } from './most-denied.ts';

const MAX_DOMAINS = 200;
const MAX_ENTRIES = 100;
const SHOWN_HASH_CHARACTERS = 16;

/** The most denied of each domain since the pod started, in fixed memory. */
export class DeniedList {
  readonly #domains = new Map<string, MostDenied>();

  note(request: CheckRequest, { reason }: Decision): void {
    // Anybody can make up domains, and must not take the places of those that there are. A peek denies nobody anything.
    if (reason === 'UNKNOWN_DOMAIN' || request.isPeek) return;
    let most = this.#domains.get(request.domain);
    if (most === undefined) {
      if (this.#domains.size >= MAX_DOMAINS) return;
      most = new MostDenied(MAX_ENTRIES);
      this.#domains.set(request.domain, most);
    }
    most.note(whoIs(request), reason, Date.now());
  }

  /** The most denied first; undefined if the domain had no denials. */
  top(domain: string): readonly DeniedEntry[] | undefined {
    return this.#domains.get(domain)?.top();
  }
}

/** Keys are secret: what is shown of one is what its owner's resource shows. */
export function whoIs({ apiKey, consumer, isTrusted, peerIP, context }: CheckRequest): string {
  const key = apiKey ?? context.headers?.get('x-api-key');
  if (key !== undefined && key !== '') return `key:sha256:${hashOfKey(key).slice(0, SHOWN_HASH_CHARACTERS)}`;
  if (isTrusted && consumer !== undefined) return `caller:${consumer}`;
  const address = isTrusted ? context.clientIP : peerIP;
  return address === undefined ? 'unknown' : `ip:${address}`;
}
