import { LRUCache } from 'lru-cache';
import { blockedIP, type Decision, INVALID_API_KEY } from '../policy/decision.ts';
import type { DomainDocument } from '../policy/documents.ts';
import { subjectOf } from '../policy/hash.ts';
import type { InvalidKeyCount, InvalidKeyCounting } from '../store/invalid-keys.ts';

export type IPBlocksOptions = {
  /** Counts one invalid key for a client, for all pods together. Throws StoreError. */
  readonly count: (client: string, settings: InvalidKeyCounting) => Promise<InvalidKeyCount>;
  readonly monotonicMillis: () => number;
  /** Told once for each block that this pod brought about. */
  readonly onBlock: (domain: string, clientIP: string, forSeconds: number) => void;
};

const MAX_BLOCKS = 50_000;

/** How long a pod relies on what it was told of a block: a block that is lifted in Redis ends here soon after. */
const RELIED_ON_MILLIS = 5_000;

type Block = { readonly endsAtMillis: number; readonly askAgainAtMillis: number };

/**
 * Clients that try API keys. Every request with an invalid key is counted by domain and client; too many, and their
 * further ones are denied on all pods, without asking Redis each time. Requests with a valid key never come here.
 */
export class IPBlocks {
  readonly #options: IPBlocksOptions;
  readonly #blocks = new LRUCache<string, Block>({ max: MAX_BLOCKS });

  constructor(options: IPBlocksOptions) {
    this.#options = options;
  }

  /**
   * The answer to a request with an invalid key; a peek is answered alike, and not counted. While Redis cannot count, known
   * blocks hold until their end.
   */
  async judge(settings: DomainDocument, clientIP: string | undefined, isPeek: boolean): Promise<Decision> {
    // Who is not known cannot be blocked; nor is a trusted caller that says nothing about its clients.
    if (clientIP === undefined) return INVALID_API_KEY;
    const client = subjectOf(['domain', settings.domain, 'clientIP', clientIP]);
    const now = this.#options.monotonicMillis();
    const known = this.#blocks.get(client);
    if (known !== undefined && now < known.askAgainAtMillis) return blockedUntil(known, now);
    try {
      const { blockedForMicros, isNew } = await this.#options.count(client, { ...settings.ipBlock, isPeek });
      if (isNew) this.#options.onBlock(settings.domain, clientIP, settings.ipBlock.forSeconds);
      if (blockedForMicros === 0 || !settings.ipBlock.enforced) return INVALID_API_KEY;
      const endsAtMillis = now + blockedForMicros / 1000;
      this.#blocks.set(client, {
        endsAtMillis,
        askAgainAtMillis: Math.min(endsAtMillis, now + RELIED_ON_MILLIS),
      });
      return blockedIP(blockedForMicros);
    } catch {
      return known !== undefined && now < known.endsAtMillis ? blockedUntil(known, now) : INVALID_API_KEY;
    }
  }
}

function blockedUntil(block: Block, nowMillis: number): Decision {
  return blockedIP(Math.max(1, Math.ceil((block.endsAtMillis - nowMillis) * 1000)));
}
