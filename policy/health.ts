import type { HealthDocument, PolicyDocument } from './documents.ts';
import { selects } from './schema/label-selector.ts';
import type { HealthMode } from './schema/system-health.ts';

export type EffectiveHealth = {
  readonly mode: HealthMode;
  /** The end of the incident (microseconds, Redis' clock), undefined if it is NORMAL or has no known end. */
  readonly untilMicros: number | undefined;
};

const NORMAL: EffectiveHealth = { mode: 'NORMAL', untilMicros: undefined };

/** Whether this object alone declares DEGRADED at that time. */
export function isActive(health: HealthDocument, nowMicros: number): boolean {
  return health.mode === 'DEGRADED' && (health.expiresAtMicros === undefined || nowMicros < health.expiresAtMicros);
}

/** What of a policy says whether a health object speaks of it. */
type Covered = Pick<PolicyDocument, 'domain' | 'labels'>;

/** Whether it speaks of this policy at all. */
export function covers(health: HealthDocument, policy: Covered): boolean {
  if (health.domains !== undefined && !health.domains.includes(policy.domain)) return false;
  return health.policySelector === undefined || selects(health.policySelector, policy.labels);
}

/** Whether this object alone degrades what a policy has for requests of a tier. */
export function degrades(
  health: HealthDocument,
  policy: Covered,
  tier: string | undefined,
  nowMicros: number,
): boolean {
  // Asked for each policy of each request: what costs least comes first.
  return isActive(health, nowMicros) && coversTier(health, tier) && covers(health, policy);
}

/** A tier that is not known is covered only by an object that names no tiers. */
function coversTier(health: HealthDocument, tier: string | undefined): boolean {
  return health.tiers === undefined || (tier !== undefined && health.tiers.includes(tier));
}

/** The worst of all objects that cover a policy, for one tier: DEGRADED until the last active one ends. */
export function effectiveHealth(
  healths: readonly HealthDocument[],
  policy: Covered,
  tier: string | undefined,
  nowMicros: number,
): EffectiveHealth {
  let until = 0;
  for (const health of healths) {
    if (!degrades(health, policy, tier, nowMicros)) continue;
    until = Math.max(until, health.expiresAtMicros ?? Number.POSITIVE_INFINITY);
  }
  if (until === 0) return NORMAL;
  return { mode: 'DEGRADED', untilMicros: Number.isFinite(until) ? until : undefined };
}
