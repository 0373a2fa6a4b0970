import type { IndexedPolicy } from './snapshot.ts';
import type { Steps } from './steps.ts';

/** Policies by id. */
type Ordered = readonly IndexedPolicy[];

/** Sorted, or merged, in one step. */
const AT_ONCE = 256;

/** Whether to begin anew costs less than to change what is there, one after the other. */
export function isMostlyNew(held: Ordered, gone: Ordered, fresh: Ordered): boolean {
  return gone.length + fresh.length > held.length / 2;
}

/** The list without those that are gone, which it has, and with those that are fresh. The held one stays as it is. */
export function* replaced(held: Ordered, gone: Ordered, fresh: Ordered): Steps<Ordered> {
  if (gone.length + fresh.length === 0) return held;
  if (held.length === 0) return yield* sortedById(fresh);
  if (isMostlyNew(held, gone, fresh)) {
    const isGone = new Set(gone);
    return yield* sortedById([...held.filter((policy) => !isGone.has(policy)), ...fresh]);
  }
  const policies = [...held];
  for (const { id } of gone) {
    policies.splice(placeOf(policies, id), 1);
    yield;
  }
  for (const policy of fresh) {
    policies.splice(placeOf(policies, policy.id), 0, policy);
    yield;
  }
  return policies;
}

export function findById(policies: Ordered, id: string): IndexedPolicy | undefined {
  const policy = policies[placeOf(policies, id)];
  return policy?.id === id ? policy : undefined;
}

/** Where an id stands, or would. */
function placeOf(policies: Ordered, id: string): number {
  let [first, end] = [0, policies.length];
  while (first < end) {
    const middle = (first + end) >>> 1;
    if ((policies[middle]?.id ?? id) < id) first = middle + 1;
    else end = middle;
  }
  return first;
}

/** Merge sort, as sorting 10,000 names at once keeps everybody waiting. */
function* sortedById(policies: Ordered): Steps<Ordered> {
  if (policies.length < 2) return policies;
  if (policies.length <= AT_ONCE) return policies.toSorted((one, other) => (one.id < other.id ? -1 : 1));
  const middle = Math.ceil(policies.length / 2);
  const left = yield* sortedById(policies.slice(0, middle));
  const right = yield* sortedById(policies.slice(middle));
  const merged: IndexedPolicy[] = [];
  for (let l = 0, r = 0; merged.length < policies.length;) {
    const [one, other] = [left[l], right[r]];
    const isLeft = one !== undefined && (other === undefined || one.id < other.id);
    const next = isLeft ? left[l++] : right[r++];
    if (next !== undefined) merged.push(next);
    if (merged.length % AT_ONCE === 0) yield;
  }
  return merged;
}
