export type WorkQueueOptions = {
  /** Does the work of one key; a rejection is tried again later. */
  readonly work: (key: string) => Promise<void>;
  readonly onError: (key: string, error: unknown, retryMillis: number) => void;
  readonly random?: () => number;
  readonly observer?: QueueObserver;
};

/** Told of what happens to keys, for metrics. */
export type QueueObserver = {
  /** A key was queued that was not. */
  onAdd(key: string): void;
  onStart(key: string, queuedSeconds: number): void;
  onDone(key: string, seconds: number, isSuccess: boolean): void;
};

const FIRST_RETRY_MILLIS = 50;
const LONGEST_RETRY_MILLIS = 30_000;

/**
 * A queue of keys: a key that is queued is not queued again, a key in work is done once more afterwards, and only one
 * is in work at a time. Failures are repeated with back-off, doubled from 50 ms to 30 s, with jitter.
 */
export class WorkQueue {
  readonly #options: WorkQueueOptions;
  readonly #due = new Map<string, { readonly timer: NodeJS.Timeout; readonly atMillis: number }>();
  /** Keys whose turn it is, with the time since when. */
  readonly #ready = new Map<string, number>();
  readonly #failures = new Map<string, number>();
  #running: Promise<void> | undefined;
  #isStopped = false;

  constructor(options: WorkQueueOptions) {
    this.#options = options;
  }

  /** Queues a key after a delay; of several times that are set for it, the earliest counts. */
  add(key: string, delayMillis = 0): void {
    if (this.#isStopped || this.#ready.has(key)) return;
    const atMillis = performance.now() + delayMillis;
    const due = this.#due.get(key);
    if (due !== undefined && due.atMillis <= atMillis) return;
    clearTimeout(due?.timer);
    const timer = setTimeout(() => {
      this.#due.delete(key);
      this.#ready.set(key, performance.now());
      this.#options.observer?.onAdd(key);
      this.#drain();
    }, delayMillis);
    this.#due.set(key, { timer, atMillis });
  }

  /** Whether new work waits under a key: not the key in work, and not one that waits to be tried again. */
  hasNew(key: string): boolean {
    return !this.#failures.has(key) && (this.#ready.has(key) || this.#due.has(key));
  }

  /** Lets the work under way finish and takes up no other. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    for (const { timer } of this.#due.values()) clearTimeout(timer);
    this.#due.clear();
    this.#ready.clear();
    await this.#running;
  }

  #drain(): void {
    this.#running ??= this.#workOff().finally(() => {
      this.#running = undefined;
    });
  }

  async #workOff(): Promise<void> {
    for (;;) {
      const [first] = this.#ready;
      if (first === undefined || this.#isStopped) return;
      const [key, sinceMillis] = first;
      this.#ready.delete(key);
      const startedAtMillis = performance.now();
      this.#options.observer?.onStart(key, (startedAtMillis - sinceMillis) / 1000);
      const isSuccess = await this.#work(key);
      this.#options.observer?.onDone(key, (performance.now() - startedAtMillis) / 1000, isSuccess);
    }
  }

  async #work(key: string): Promise<boolean> {
    try {
      await this.#options.work(key);
      this.#failures.delete(key);
      return true;
    } catch (error) {
      this.#retry(key, error);
      return false;
    }
  }

  #retry(key: string, error: unknown): void {
    const failures = this.#failures.get(key) ?? 0;
    this.#failures.set(key, failures + 1);
    const random = this.#options.random ?? Math.random;
    const delay =
      Math.min(FIRST_RETRY_MILLIS * 2 ** Math.min(failures, 20), LONGEST_RETRY_MILLIS) * (0.75 + 0.5 * random());
    this.#options.onError(key, error, delay);
    this.add(key, delay);
  }
}
