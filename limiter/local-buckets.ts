import type { SelectedLimit } from '../policy/selection.ts';

export type Bucket = {
  /** Tokens times the milliseconds of the window: whole as long as the clock gives whole milliseconds. */
  level: number;
  /** When the level was that. */
  atMillis: number;
  /** From then on it is full, as if it had never been used, unless it is used again. */
  fullAtMillis: number;
};

/** Buckets for whoever finds no room of their own, for each limit of the configuration. */
const SHARED_BUCKETS = 16;

/**
 * The buckets of a pod, one for each subject and limit. Of a bounded number: a bucket is forgotten only when it is full
 * again, as forgetting it earlier would hand out its share twice. While none is, new subjects share a few.
 */
export class LocalBuckets {
  readonly #max: number;
  /** By the seconds of their window; in each the one that was not used for longest comes first, and is full first. */
  readonly #byWindow = new Map<number, Map<string, Bucket>>();
  #size = 0;

  constructor(max: number) {
    this.#max = max;
  }

  get size(): number {
    return this.#size;
  }

  /** The bucket of a limit; one that is not remembered was not used lately, and is as it is at first. */
  find({ subject, field, windowSeconds }: SelectedLimit, nowMillis: number, makeFirst: () => Bucket): Bucket {
    const buckets = this.#ofWindow(windowSeconds);
    let key = `${subject} ${field}`;
    if (!buckets.has(key) && !this.#makeRoom(nowMillis)) {
      key = `shared-${(subject.codePointAt(0) ?? 0) % SHARED_BUCKETS} ${field}`;
    }
    const known = buckets.get(key);
    const bucket = known ?? makeFirst();
    if (known === undefined) this.#size += 1;
    else buckets.delete(key);
    buckets.set(key, bucket);
    return bucket;
  }

  #ofWindow(windowSeconds: number): Map<string, Bucket> {
    const known = this.#byWindow.get(windowSeconds);
    if (known !== undefined) return known;
    const buckets = new Map<string, Bucket>();
    this.#byWindow.set(windowSeconds, buckets);
    return buckets;
  }

  #makeRoom(nowMillis: number): boolean {
    for (const buckets of this.#byWindow.values()) {
      for (const [key, { fullAtMillis }] of buckets) {
        if (this.#size < this.#max) return true;
        if (fullAtMillis > nowMillis) break;
        buckets.delete(key);
        this.#size -= 1;
      }
    }
    return this.#size < this.#max;
  }
}
