import { Gauge, type Registry } from 'prom-client';
import type { DomainIndex, IndexedRule, Snapshot } from '../policy/snapshot.ts';
import type { MetricsDetail } from './metrics.ts';

/** Every pod exports the same limits, so there are fewer than of what each counts by itself. */
const MAX_LIMITS: Readonly<Record<MetricsDetail, number>> = { Domain: 0, Policy: 1_000, Rule: 10_000 };

type LimitSeries = { readonly labels: Record<string, string>; readonly requests: number };

/**
 * Exports the limits of the configuration that is enforced: the first ones by name, the same on every pod, and how many
 * there are besides. They are looked up when they are scraped, and only after the configuration changed.
 */
export function exportLimits(registry: Registry, snapshot: () => Snapshot | undefined, detail: MetricsDetail): void {
  const most = MAX_LIMITS[detail];
  // Not the snapshot itself: a former one would stay in memory until somebody scrapes.
  let exported: Snapshot['identity'] | undefined;
  // Whichever is read first.
  const refresh = (): void => {
    const current = snapshot();
    if (current === undefined || current.identity === exported) return;
    exported = current.identity;
    limits.reset();
    let count = 0;
    for (const { labels, requests } of limitsOf(current)) {
      count += 1;
      if (count <= most) limits.set(labels, requests);
    }
    left.set(Math.max(0, count - most));
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

function* limitsOf({ domains }: Snapshot): Generator<LimitSeries> {
  const byName = [...domains.values()].toSorted((one, other) => (one.domain < other.domain ? -1 : 1));
  for (const domain of byName) yield* limitsOfDomain(domain);
}

function* limitsOfDomain({ domain, policies }: DomainIndex): Generator<LimitSeries> {
  for (const { id: policy, rules } of policies) {
    for (const rule of rules) {
      for (const [tier, limits] of byTier(rule)) {
        for (const { windowSeconds, requests } of limits) {
          const mode = rule.group === 0 ? 'Enforce' : 'Shadow';
          const labels = { domain, policy, rule: rule.name, tier, window_seconds: String(windowSeconds), mode };
          yield { labels, requests };
        }
      }
    }
  }
}

type CompiledLimits = Extract<IndexedRule['limits'], readonly unknown[]>;

function byTier({ limits }: IndexedRule): readonly (readonly [string, CompiledLimits])[] {
  return Array.isArray(limits) ? [['', limits]] : Object.entries(limits);
}
