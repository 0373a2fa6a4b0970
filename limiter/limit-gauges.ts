import { Gauge, type Registry } from 'prom-client';
import type { IndexedPolicy, IndexedRule, Snapshot } from '../policy/snapshot.ts';
import type { Steps } from '../policy/steps.ts';
import type { MetricsDetail } from './metrics.ts';
import { inSlices, restOneTurn, type Turns } from './slices.ts';

/** Every pod exports the same limits, so there are fewer than of what each counts by itself. */
const MAX_LIMITS: Readonly<Record<MetricsDetail, number>> = { Domain: 0, Policy: 1_000, Rule: 10_000 };

const USUAL_TURNS: Turns = { monotonicMillis: () => performance.now(), rest: restOneTurn };

/**
 * Exports the limits of the configuration that is enforced: the first ones by name, the same on every pod, and how many
 * there are besides. They are looked up when they are scraped, only after the configuration changed, and in slices:
 * whoever waits for a decision must not wait for the scrape.
 */
export function exportLimits(
  registry: Registry,
  snapshot: () => Snapshot | undefined,
  detail: MetricsDetail,
  turns: Turns = USUAL_TURNS,
): void {
  const most = MAX_LIMITS[detail];
  // Not the snapshot itself: a former one would stay in memory until somebody scrapes.
  let exported: Snapshot['identity'] | undefined;
  let refreshing: Promise<void> | undefined;
  // For both metrics, and for all who scrape meanwhile: nobody is told of a part.
  const refresh = (): Promise<void> => {
    refreshing ??= update().finally(() => {
      refreshing = undefined;
    });
    return refreshing;
  };
  const update = async (): Promise<void> => {
    const current = snapshot();
    if (current === undefined || current.identity === exported) return;
    limits.reset();
    const count = await inSlices(setEach(limits, most, current), turns);
    left.set(Math.max(0, count - most));
    exported = current.identity;
  };
  const limits = new Gauge({
    name: 'sluice_limit_requests',
    help: 'Requests per window, as the enforced configuration has them; without bursts, incidents and overrides.',
    labelNames: ['domain', 'policy', 'rule', 'tier', 'window_seconds', 'mode'],
    registers: [registry],
    collect: refresh,
  });
  const left = new Gauge({
    name: 'sluice_limits_not_exported',
    help: 'Limits of the configuration that sluice_limit_requests leaves out, to bound its series.',
    registers: [registry],
    collect: refresh,
  });
}

/** Sets the first limits; the number of all. */
function* setEach(gauge: Gauge, most: number, { domains }: Snapshot): Steps<number> {
  let count = 0;
  // Without a function that compares, which takes three times as long: ten thousand names in a few milliseconds.
  for (const name of [...domains.keys()].toSorted()) {
    for (const policy of domains.get(name)?.policies ?? []) {
      for (const { rule, tier, limit } of limitsOf(policy)) {
        count += 1;
        if (count > most) continue;
        const mode = rule.group === 0 ? 'Enforce' : 'Shadow';
        const window_seconds = String(limit.windowSeconds);
        const labels = { domain: name, policy: policy.id, rule: rule.name, tier, window_seconds, mode };
        gauge.set(labels, limit.requests);
      }
      yield;
    }
  }
  return count;
}

type LimitOf = { readonly rule: IndexedRule; readonly tier: string; readonly limit: CompiledLimits[number] };

function limitsOf({ rules }: IndexedPolicy): LimitOf[] {
  return rules.flatMap((rule) =>
    byTier(rule).flatMap(([tier, limits]) => limits.map((limit) => ({ rule, tier, limit }))),
  );
}

type CompiledLimits = Extract<IndexedRule['limits'], readonly unknown[]>;

function byTier({ limits }: IndexedRule): readonly (readonly [string, CompiledLimits])[] {
  return Array.isArray(limits) ? [['', limits]] : Object.entries(limits);
}
