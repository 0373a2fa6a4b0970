import type { Condition } from '../policy/schema/fields.ts';

/** A change of state of one object that people are told of. */
export type Transition = {
  readonly type: 'Normal' | 'Warning';
  /** What was judged: Accepted, or Enforced. */
  readonly action: string;
  readonly reason: string;
  readonly note: string;
};

/** Conditions whose changes are told; the others are made from these. */
const TOLD = ['Accepted', 'Enforced'];

/** States that a person has to look at, unless they pass. */
const WARNINGS: ReadonlySet<string> = new Set([
  'Invalid',
  'LastGoodActive',
  'NothingActive',
  'PodsLagging',
  'NoPods',
  'RedisUnavailable',
  'RedisOwnedByOther',
]);

export function transitionsBetween(before: readonly Condition[], after: readonly Condition[]): Transition[] {
  return TOLD.flatMap((type) => {
    const was = before.find((condition) => condition.type === type);
    const is = after.find((condition) => condition.type === type);
    if (is === undefined) return [];
    const isSame = was?.status === is.status && was.reason === is.reason;
    // Enforced again is news when it is another generation.
    if (isSame && (was.observedGeneration === is.observedGeneration || type === 'Accepted')) return [];
    const severity = WARNINGS.has(is.reason) ? 'Warning' : 'Normal';
    return [{ type: severity, action: type, reason: is.reason, note: is.message }];
  });
}
