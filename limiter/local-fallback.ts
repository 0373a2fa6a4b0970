import type { FailurePolicy } from '../policy/schema/rate-limit-policy.ts';
import { type Decision, deniedByFailurePolicy, FAIL_OPEN, LOCAL_FALLBACK } from '../policy/decision.ts';
import type { SelectedLimit, SelectedRule } from '../policy/selection.ts';
import { type Bucket, LocalBuckets } from './local-buckets.ts';

export type LocalFallbackOptions = {
  /** Pods that share the work, as of the last heartbeat; undefined if none ever succeeded. */
  readonly pods: () => number | undefined;
  readonly monotonicMillis: () => number;
  /** For tests: how many subjects and limits have a bucket of their own. */
  readonly maxBuckets?: number;
};

export type FallbackRequest = {
  /** The same answer, and nothing is taken. */
  readonly isPeek: boolean;
  /** False: a rule that says Open is taken for LocalFallback. For failures that clients can bring about. */
  readonly mayOpen?: boolean;
};

/** What one rule says while Redis cannot decide. */
type Word =
  | { readonly kind: 'admits' }
  | { readonly kind: 'denies'; readonly waitMillis: number }
  | { readonly kind: 'closed' };

const ADMITS: Word = { kind: 'admits' };

/** What is told to clients of a rule that is closed: nobody knows when Redis comes back. */
const CLOSED_RETRY_MICROS = 1_000_000;
const MAX_BUCKETS = 50_000;

/**
 * Decisions without Redis, by the failure policies of the rules. A rule with LocalFallback admits this pod's share of
 * its limits: a bucket of ceil(limit / pods), at least 1, in this process. The buckets outlive the recovery, so that a
 * Redis that comes and goes does not fill them anew each time. With P pods an outage of any length adds at most
 * limit + P in each window to what was admitted before, and one share for each pod at its start.
 *
 * Of 50,000 subjects and limits at once; beyond that further subjects share a few buckets.
 */
export class LocalFallback {
  readonly #options: LocalFallbackOptions;
  readonly #buckets: LocalBuckets;

  constructor(options: LocalFallbackOptions) {
    this.#options = options;
    this.#buckets = new LocalBuckets(options.maxBuckets ?? MAX_BUCKETS);
  }

  /** Buckets that are remembered. */
  get size(): number {
    return this.#buckets.size;
  }

  /** The strictest rule wins; a rule that is closed cannot be forgiven. A peek is answered alike and takes nothing. */
  decide(rules: readonly SelectedRule[], request: FallbackRequest): Decision {
    const words = new Map<number, Word>();
    rules.forEach((rule, index) => {
      if (rule.group === 0 && this.#runs(rule, words)) words.set(index, this.#ask(rule, request));
    });
    if ([...words.values()].some((word) => word.kind === 'closed'))
      return deniedByFailurePolicy('FAIL_CLOSED', CLOSED_RETRY_MICROS);
    const waits = [...words]
      .filter(([index]) => !isForgiven(index, rules, words))
      .map(([, word]) => (word.kind === 'denies' ? word.waitMillis : 0));
    const longest = Math.max(0, ...waits);
    if (longest > 0) {
      return deniedByFailurePolicy(
        'LOCAL_FALLBACK_EXCEEDED',
        Number.isFinite(longest) ? Math.ceil(longest * 1000) : undefined,
      );
    }
    if (!request.isPeek) {
      for (const [index, word] of words) if (word.kind === 'admits') this.#charge(rules[index], request);
    }
    const isOpen =
      [...words.keys()].some((index) => rules[index]?.failurePolicy === 'Open') && request.mayOpen !== false;
    return isOpen || words.size === 0 ? FAIL_OPEN : LOCAL_FALLBACK;
  }

  #runs(rule: SelectedRule, words: ReadonlyMap<number, Word>): boolean {
    if (rule.after.length === 0) return true;
    return rule.after.some(({ rule: index, outcome }) => {
      const word = words.get(index);
      if (word === undefined) return outcome === 'NotRun';
      return outcome === (word.kind === 'admits' ? 'Admitted' : 'Denied');
    });
  }

  #ask(rule: SelectedRule, request: FallbackRequest): Word {
    switch (policyOf(rule, request)) {
      case 'Open':
        return ADMITS;
      case 'Closed':
        return { kind: 'closed' };
      case 'LocalFallback': {
        const waitMillis = Math.max(...rule.limits.map((limit) => this.#wait(limit, rule.cost)));
        return waitMillis > 0 ? { kind: 'denies', waitMillis } : ADMITS;
      }
    }
  }

  /** Milliseconds until this pod's share admits the cost; 0 = now, Infinity = never. */
  #wait(limit: SelectedLimit, cost: number): number {
    const capacity = this.#share(limit.capacity);
    if (cost > capacity) return Number.POSITIVE_INFINITY;
    const missing = cost * millisOf(limit) - this.#bucketOf(limit).level;
    return Math.max(0, missing / this.#share(limit.refill));
  }

  #charge(rule: SelectedRule | undefined, request: FallbackRequest): void {
    if (rule === undefined || policyOf(rule, request) !== 'LocalFallback') return;
    for (const limit of rule.limits) this.#bucketOf(limit).level -= rule.cost * millisOf(limit);
  }

  /** The bucket of a limit as it is now. */
  #bucketOf(limit: SelectedLimit): Bucket {
    const now = this.#options.monotonicMillis();
    const [capacity, refill] = [this.#share(limit.capacity), this.#share(limit.refill)];
    const full = capacity * millisOf(limit);
    const bucket = this.#buckets.find(limit, now, () => ({ level: full, atMillis: now, fullAtMillis: now }));
    bucket.level = Math.min(full, bucket.level + (now - bucket.atMillis) * refill);
    bucket.atMillis = now;
    bucket.fullAtMillis = now + millisOf(limit) * Math.max(1, capacity / Math.max(1, refill));
    return bucket;
  }

  /** A limit that is shed has no share; a pod that never heard how many share the work takes the least. */
  #share(value: number): number {
    if (value === 0) return 0;
    const pods = this.#options.pods();
    return pods === undefined ? 1 : Math.max(1, Math.ceil(value / Math.max(1, pods)));
  }
}

/** What a rule says while Redis cannot decide this request. */
function policyOf({ failurePolicy }: SelectedRule, { mayOpen }: FallbackRequest): FailurePolicy {
  return failurePolicy === 'Open' && mayOpen === false ? 'LocalFallback' : failurePolicy;
}

const millisOf = (limit: SelectedLimit): number => limit.windowSeconds * 1_000;

/** As in the decision script: by a rule that waits for this denial and admits, or is forgiven itself. */
function isForgiven(index: number, rules: readonly SelectedRule[], words: ReadonlyMap<number, Word>): boolean {
  return rules.some((rule, waiter) => {
    const word = words.get(waiter);
    if (
      word === undefined ||
      !rule.after.some((condition) => condition.rule === index && condition.outcome === 'Denied')
    )
      return false;
    return word.kind === 'admits' || (word.kind === 'denies' && isForgiven(waiter, rules, words));
  });
}
