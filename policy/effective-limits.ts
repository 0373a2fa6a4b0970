import type { LimitNumbers, OverrideDocument } from './documents.ts';
import type { EffectiveHealth } from './health.ts';
import { MAX_LOGGED, MAX_REQUEST_SECONDS } from './schema/limit.ts';
import type { Algorithm } from './schema/rate-limit-policy.ts';

/** The numbers of a limit that hold for one request; before any penalty, which the script applies. */
export type EffectiveLimit = {
  readonly windowSeconds: number;
  /** Most requests at once, now. */
  readonly capacity: number;
  /** Requests per window, now. */
  readonly refill: number;
  /** Capacity and refill while NORMAL. */
  readonly normalCapacity: number;
  readonly normalRefill: number;
};

/** value = override(mode's value): the mode first, then the percentage of an override. */
export function effectiveLimit(
  limit: LimitNumbers,
  algorithm: Algorithm,
  health: EffectiveHealth,
  override: OverrideDocument | undefined,
): EffectiveLimit {
  const { windowSeconds, capacity, requests, degraded } = limit;
  const isDegraded = health.mode === 'DEGRADED';
  if (override?.action !== 'Scale') {
    return {
      windowSeconds,
      capacity: isDegraded ? degraded : capacity,
      refill: isDegraded ? degraded : requests,
      normalCapacity: capacity,
      normalRefill: requests,
    };
  }
  const most = mostOf(algorithm, windowSeconds);
  const scale = (value: number): number => scaled(value, override.percent, most);
  return {
    windowSeconds,
    capacity: scale(isDegraded ? degraded : capacity),
    refill: scale(isDegraded ? degraded : requests),
    normalCapacity: scale(capacity),
    normalRefill: scale(requests),
  };
}

/** At least 1 is left, but of nothing; and no more than the algorithm can hold. */
function scaled(value: number, percent: number, most: number): number {
  return value === 0 ? 0 : Math.min(most, Math.max(1, Math.floor((value * percent) / 100)));
}

function mostOf(algorithm: Algorithm, windowSeconds: number): number {
  return algorithm === 'SlidingWindowLog' ? MAX_LOGGED : Math.floor(MAX_REQUEST_SECONDS / windowSeconds);
}
