import type { Logger } from 'pino';
import type { CheckRequest, CheckResult } from './check.ts';
import { whoIs } from './denied.ts';

export type DecisionLogOptions = {
  readonly log: Logger;
  readonly monotonicMillis: () => number;
  /** Lines a second; 0 = none. */
  readonly allowedPerSecond: number;
  readonly deniedPerSecond: number;
};

/** So many lines a second, after a pause those of one second at once. */
type Budget = { readonly perSecond: number; left: number; atMillis: number; skipped: number };

/**
 * Lines about decisions, a few of many. They say who asked as resources and operators know it, and nothing that a
 * client wrote: no key, no header, no path.
 */
export class DecisionLog {
  readonly #options: DecisionLogOptions;
  readonly #allowed: Budget;
  readonly #denied: Budget;

  constructor(options: DecisionLogOptions) {
    this.#options = options;
    const atMillis = options.monotonicMillis();
    const budget = (perSecond: number): Budget => ({ perSecond, left: perSecond, atMillis, skipped: 0 });
    this.#allowed = budget(options.allowedPerSecond);
    this.#denied = budget(options.deniedPerSecond);
  }

  note(request: CheckRequest, { decision, tier, revision }: CheckResult): void {
    const budget = decision.action === 'ALLOW' ? this.#allowed : this.#denied;
    if (budget.perSecond === 0 || !take(budget, this.#options.monotonicMillis())) return;
    const { action, reason, triggeredBy, penalty, retryAfterMicros, reported } = decision;
    this.#options.log.info({
      event: 'rate_limit_decision',
      domain: request.domain,
      who: whoIs(request),
      action,
      reason,
      triggered_by: triggeredBy,
      policy: reported?.policy,
      rule: reported?.rule,
      tier: reported?.tier ?? tier,
      penalty,
      retry_after: retryAfterMicros === undefined ? undefined : retryAfterMicros / 1_000_000,
      revision,
      skipped: budget.skipped,
    });
    budget.skipped = 0;
  }
}

function take(budget: Budget, nowMillis: number): boolean {
  const { perSecond } = budget;
  budget.left = Math.min(perSecond, budget.left + ((nowMillis - budget.atMillis) * perSecond) / 1_000);
  budget.atMillis = nowMillis;
  if (budget.left < 1) {
    budget.skipped += 1;
    return false;
  }
  budget.left -= 1;
  return true;
}
