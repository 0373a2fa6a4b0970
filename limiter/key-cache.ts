import { LRUCache } from 'lru-cache';
import type { ConsumerRecord, KeyLookup } from '../store/consumer-keys.ts';

type Found = { readonly record: ConsumerRecord; readonly fetchedAtMillis: number; readonly sequence: number };
type Missed = { readonly fetchedAtMillis: number; readonly sequence: number };

export type KeyCacheOptions = {
  /** Looks a key up in Redis, by the name of its record. Throws StoreError. */
  readonly find: (name: string) => Promise<KeyLookup>;
  readonly monotonicMillis: () => number;
};

const FRESH_MILLIS = 30_000;
const MISSED_MILLIS = 5_000;
/** How long an answer may serve while no new one can be had. */
const STALE_MILLIS = 3_600_000;

/**
 * Records of API keys as this pod last saw them. A change of the key set makes all of them old; an old record still
 * serves while Redis cannot say anything newer, so that losing Redis never turns a valid key away.
 */
export class KeyCache {
  readonly #find: (name: string) => Promise<KeyLookup>;
  readonly #monotonicMillis: () => number;
  readonly #found = new LRUCache<string, Found>({ max: 50_000 });
  /** Apart from the others: a flood of invalid keys must not drive valid ones out. */
  readonly #missed = new LRUCache<string, Missed>({ max: 10_000 });
  #sequence = 0;

  constructor(options: KeyCacheOptions) {
    this.#find = options.find;
    this.#monotonicMillis = options.monotonicMillis;
  }

  /** The state of the key set that lookups from now on reflect. */
  get sequence(): number {
    return this.#sequence;
  }

  /** The key set has this state now; what was learnt of another is old. */
  follow(sequence: number): void {
    this.#sequence = sequence;
  }

  /** Answers at once if it can, which is nearly always; never rejects. */
  lookUp(name: string): KeyLookup | Promise<KeyLookup> {
    const now = this.#monotonicMillis();
    const found = this.#found.get(name);
    if (found !== undefined && found.sequence === this.#sequence && now - found.fetchedAtMillis <= FRESH_MILLIS) {
      return { kind: 'found', record: found.record };
    }
    const missed = this.#missed.get(name);
    if (missed !== undefined && missed.sequence === this.#sequence && now - missed.fetchedAtMillis <= MISSED_MILLIS) {
      return { kind: 'unknown' };
    }
    return this.#fetch(name, now);
  }

  async #fetch(name: string, now: number): Promise<KeyLookup> {
    // Taken before asking: an answer is never newer than what was known then.
    const sequence = this.#sequence;
    const answer = await this.#find(name).catch((): KeyLookup => ({ kind: 'unavailable' }));
    switch (answer.kind) {
      case 'found':
        this.#found.set(name, { record: answer.record, fetchedAtMillis: now, sequence });
        return answer;
      case 'unknown':
        this.#found.delete(name);
        this.#missed.set(name, { fetchedAtMillis: now, sequence });
        return answer;
      case 'unavailable':
        return this.#staleAnswer(name, now) ?? answer;
    }
  }

  #staleAnswer(name: string, now: number): KeyLookup | undefined {
    const found = this.#found.get(name);
    if (found === undefined || now - found.fetchedAtMillis > STALE_MILLIS) return undefined;
    return { kind: 'found', record: found.record };
  }
}
