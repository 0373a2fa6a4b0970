// Checks of the published bounds, by what was admitted when. Slow and plain: BigInt, and nothing of the product.

import type { SelectedLimit } from '../../policy/selection.ts';

/** Time in microseconds; in order of time. */
export type Admission = { readonly at: bigint; readonly cost: bigint };

/** The most that was admitted of what the limit bounds; its published bound is that this is at most its capacity. */
export function mostOf(limit: SelectedLimit, admissions: readonly Admission[]): bigint {
  const window = BigInt(limit.windowSeconds) * 1_000_000n;
  return limit.algorithm === 'SlidingWindow'
    ? mostInWindow(admissions, window)
    : mostAboveBucket(admissions, { requests: BigInt(limit.refill), micros: window });
}

/** The most that was admitted in any trailing window, both ends included. */
function mostInWindow(admissions: readonly Admission[], windowMicros: bigint): bigint {
  let most = 0n;
  let inside = 0n;
  let left = 0;
  for (const { at, cost } of admissions) {
    inside += cost;
    let oldest = admissions[left];
    while (oldest !== undefined && oldest.at < at - windowMicros) {
      inside -= oldest.cost;
      left += 1;
      oldest = admissions[left];
    }
    if (inside > most) most = inside;
  }
  return most;
}

/**
 * The most that was admitted in any interval above what flows into a bucket during it, rounded up: at most the depth of
 * the bucket. Over all intervals in one pass, by the least value so far of (admitted before) - (flowed in).
 */
function mostAboveBucket(
  admissions: readonly Admission[],
  refill: { readonly requests: bigint; readonly micros: bigint },
): bigint {
  let most = 0n;
  let admitted = 0n;
  let least: bigint | undefined;
  for (const { at, cost } of admissions) {
    const before = admitted * refill.micros - at * refill.requests;
    if (least === undefined || before < least) least = before;
    admitted += cost;
    const above = admitted * refill.micros - at * refill.requests - least;
    if (above > most) most = above;
  }
  return (most + refill.micros - 1n) / refill.micros;
}
