import { fieldOf } from '../../policy/hash.ts';
import type { Algorithm } from '../../policy/schema/rate-limit-policy.ts';
import type { SelectedLimit } from '../../policy/selection.ts';

/** What tells one limit from another; the rest follows. */
export type LimitShape = {
  readonly algorithm?: Algorithm;
  readonly subject?: string;
  readonly windowSeconds?: number;
  /** Most requests at once. */
  readonly capacity?: number;
  /** Requests per window; the capacity if it is not given. */
  readonly refill?: number;
};

/** A limit as `selectRules` hands it out. One algorithm and window is one field, as in the compiler. */
export function aLimit(shape: LimitShape = {}): SelectedLimit {
  const { algorithm = 'TokenBucket', subject = 'alice', windowSeconds = 60, capacity = 10 } = shape;
  return {
    policy: 'test/policy',
    rule: 'rule',
    algorithm,
    subject,
    field: fieldOf(['test', 'policy', 'rule', String(windowSeconds), algorithm]),
    windowSeconds,
    capacity,
    refill: shape.refill ?? capacity,
    normalCapacity: capacity,
    normalRefill: shape.refill ?? capacity,
    tier: undefined,
    mode: 'NORMAL',
    modeUntilMicros: undefined,
  };
}

export const aBucket = (shape: Omit<LimitShape, 'algorithm'> = {}): SelectedLimit => aLimit(shape);

export const aWindow = (shape: Omit<LimitShape, 'algorithm' | 'refill'> = {}): SelectedLimit =>
  aLimit({ ...shape, algorithm: 'SlidingWindow' });
