import type { RedisClient } from '../store/connection.ts';
import { within } from '../store/deadline.ts';
import type { Names } from '../store/names.ts';
import { chargeOf, refund, refundAnonymously, rememberCharge, toCharged } from '../store/refund.ts';
import { type Checker, type CheckTrace, partitionFor } from './check.ts';
import type { Refunds } from './door.ts';

/** What admitted requests were charged, for those who may want it back. */
export class Charges {
  readonly #redis: RedisClient;
  readonly #names: Names;
  readonly #deadlineMillis: number;
  readonly #onGivenBack: (subject: string) => void;

  /** `onGivenBack`: a subject has more left than was last heard. Who is refunded by id is found out within a second. */
  constructor(redis: RedisClient, names: Names, deadlineMillis: number, onGivenBack: (subject: string) => void) {
    this.#redis = redis;
    this.#names = names;
    this.#deadlineMillis = deadlineMillis;
    this.#onGivenBack = onGivenBack;
  }

  /** Whether what this decision was charged can be given back under the id. Never rejects. */
  async remember(refundId: string, { domain, context, selection, verdict }: CheckTrace): Promise<boolean> {
    if (domain === undefined || context === undefined || selection === undefined || verdict === undefined) return false;
    const charge = chargeOf({ partition: partitionFor(domain, context), selection }, verdict);
    const remembering = rememberCharge(this.#redis, this.#names, refundId, charge);
    return within(this.#deadlineMillis, remembering).catch(() => false);
  }

  /** Throws StoreError. */
  refund(refundId: string): Promise<'refunded' | 'unknown'> {
    return within(this.#deadlineMillis, refund(this.#redis, this.#names, refundId));
  }

  /** Gives the cost of the rules that spoke back to their limits, whether they admit now or not. Throws StoreError. */
  async giveBack({ domain, context, selection, verdict }: CheckTrace): Promise<void> {
    if (domain === undefined || context === undefined || selection === undefined || verdict === undefined) return;
    const limits = selection.rules.flatMap((rule, index) =>
      verdict.rules[index]?.outcome === 'NotRun' ? [] : rule.limits.map((limit) => toCharged(limit, rule.cost)),
    );
    const partition = partitionFor(domain, context);
    await within(this.#deadlineMillis, refundAnonymously(this.#redis, this.#names, { partition, limits }));
    for (const { subject } of limits) this.#onGivenBack(subject);
  }
}

/** Giving back, for the doors. */
export function refundsOf(checker: Checker, charges: Charges): Refunds {
  return {
    byId: (refundId) => charges.refund(refundId),
    async anonymously(snapshot, asked) {
      const trace: CheckTrace = { onRule: () => undefined };
      await checker.check(snapshot, { ...asked, isPeek: true }, trace);
      await charges.giveBack(trace);
    },
  };
}
