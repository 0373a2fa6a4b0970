import type { SelectedLimit } from '../../policy/selection.ts';
import type { ModelLimit } from './model.ts';

/** A limit of the model as the product has it; its id is `subject/field`. */
export function toSelected(limit: ModelLimit): SelectedLimit {
  return {
    policy: 'test/model',
    rule: limit.id,
    algorithm: limit.algorithm,
    subject: limit.id.slice(0, limit.id.indexOf('/')),
    field: limit.id,
    windowSeconds: Number(limit.windowMicros / 1_000_000n),
    capacity: Number(limit.capacity),
    refill: Number(limit.refill),
    normalCapacity: Number(limit.capacity),
    normalRefill: Number(limit.refill),
    tier: undefined,
    mode: 'NORMAL',
    modeUntilMicros: undefined,
  };
}
