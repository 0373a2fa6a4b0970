import { hashOfKey } from '../policy/api-key.ts';
import type { Decision } from '../policy/decision.ts';
import type { CheckRequest } from './check.ts';

/** Who was denied how often, as far as this pod saw it. */
export type DeniedEntry = {
  /** `caller:…`, `key:sha256:…` (the beginning of the hash that a Consumer lists), `ip:…`, or `unknown`. */
  readonly who: string;
  /** At most this often; the true number is at least `denials - uncertainty`. */
  readonly denials: number;
  readonly uncertainty: number;
  readonly lastReason: string;
  readonly lastAtMillis: number;
};

type Entry = { denials: number; uncertainty: number; lastReason: string; lastAtMillis: number };

const MAX_DOMAINS = 200;
const MAX_ENTRIES = 100;
const SHOWN_HASH_CHARACTERS = 16;

/**
 * The most denied of each domain since the pod started, in fixed memory (the "space saving" method): a newcomer takes the
 * place of the least denied and inherits its count, which is kept as the uncertainty. Whoever makes up more than one
 * in MAX_ENTRIES of a domain's denials is always in the list.
 */
export class DeniedList {
  readonly #domains = new Map<string, Map<string, Entry>>();

  note(request: CheckRequest, { reason }: Decision): void {
    // Anybody can make up domains, and must not take the places of those that there are. A peek denies nobody anything.
    if (reason === 'UNKNOWN_DOMAIN' || request.isPeek) return;
    let entries = this.#domains.get(request.domain);
    if (entries === undefined) {
      if (this.#domains.size >= MAX_DOMAINS) return;
      entries = new Map();
      this.#domains.set(request.domain, entries);
    }
    const who = whoIs(request);
    const now = Date.now();
    const known = entries.get(who);
    if (known !== undefined) {
      known.denials += 1;
      known.lastReason = reason;
      known.lastAtMillis = now;
      return;
    }
    const inherited = entries.size < MAX_ENTRIES ? 0 : dropLeast(entries);
    entries.set(who, { denials: inherited + 1, uncertainty: inherited, lastReason: reason, lastAtMillis: now });
  }

  /** The most denied first; undefined if the domain had no denials. */
  top(domain: string): readonly DeniedEntry[] | undefined {
    const entries = this.#domains.get(domain);
    if (entries === undefined) return undefined;
    return [...entries]
      .map(([who, entry]) => ({ who, ...entry }))
      .toSorted((one, other) => other.denials - one.denials);
  }
}

/** Makes room; returns the count of the one that had to go. */
function dropLeast(entries: Map<string, Entry>): number {
  let least: string | undefined;
  let fewest = Number.POSITIVE_INFINITY;
  for (const [who, { denials }] of entries) {
    if (denials >= fewest) continue;
    least = who;
    fewest = denials;
  }
  if (least === undefined) return 0;
  entries.delete(least);
  return fewest;
}

/** Keys are secret: what is shown of one is what its owner's resource shows. */
export function whoIs({ apiKey, consumer, isTrusted, peerIP, context }: CheckRequest): string {
  const key = apiKey ?? context.headers?.get('x-api-key');
  if (key !== undefined && key !== '') return `key:sha256:${hashOfKey(key).slice(0, SHOWN_HASH_CHARACTERS)}`;
  if (isTrusted && consumer !== undefined) return `caller:${consumer}`;
  const address = isTrusted ? context.clientIP : peerIP;
  return address === undefined ? 'unknown' : `ip:${address}`;
}
