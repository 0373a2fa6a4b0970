import type { Condition, PodCounts, Problem } from '../policy/schema/fields.ts';

/** What is known of one object, gathered from its validation, from Redis and from acknowledgements. */
export type StatusFacts = {
  readonly generation: number;
  readonly problems: readonly Problem[];
  /** The generation in force, 0 if none is, and the revision that brought it. */
  readonly activeGeneration: number;
  readonly revision: number;
  /** Ready pods, and those of them that do not acknowledge the active generation. */
  readonly readyPods: number;
  readonly laggingPods: readonly LaggingPod[];
  /** Ready pods that cannot have their decisions from Redis, whatever they have loaded. */
  readonly failingPods: readonly string[];
  /** Whether the pods have had time enough: whoever is behind then is lagging, not propagating. */
  readonly isOverdue: boolean;
  readonly isStoreReachable: boolean;
  /** Why not, as the beginning of a sentence. */
  readonly storeProblem?: string | undefined;
  /** What is to be said of another installation that is in this Redis. */
  readonly otherOwner?: string | undefined;
  /** The object asks to be judged and reported only. */
  readonly isShadow: boolean;
  /** By its own times the object is not in force now, as its author wants it. */
  readonly offTime?: OffTime | undefined;
  /** Whether it is known at all what is in force: not before Redis was read once. */
  readonly isActiveKnown: boolean;
};

/** Before it starts, or after it has expired. */
export type OffTime = 'Pending' | 'Expired';

export type LaggingPod = {
  readonly pod: string;
  readonly problem: string | undefined;
  /** It is just coming or going: that alone takes nothing from what all pods acknowledged before. */
  readonly isPassing: boolean;
};

/** The reasons of conditions; part of the API. */
export type StatusReason =
  | 'Accepted'
  | 'Invalid'
  | 'Enforced'
  | 'Shadow'
  | OffTime
  | 'Propagating'
  | 'PodsLagging'
  | 'NoPods'
  | 'NotPublished'
  | 'RedisUnavailable'
  | 'RedisOwnedByOther'
  | 'LastGoodActive'
  | 'NothingActive';

export type Conditions = { readonly conditions: readonly Condition[]; readonly pods: PodCounts };

type Verdict = { readonly status: Condition['status']; readonly reason: StatusReason; readonly message: string };

/** Not enforced, as the author of the object wants it. */
const INTENDED: ReadonlySet<string> = new Set(['Shadow', 'Pending', 'Expired']);

const UNREACHABLE = 'the operator cannot reach Redis';
const SHOWN_PROBLEMS = 3;
const SHOWN_PODS = 5;
export const MAX_PROBLEMS = 32;

/**
 * The conditions of an object, and how many pods they speak of. `previous` gives the times of what did not change;
 * `now` is an RFC 3339 time.
 */
export function conditionsFor(facts: StatusFacts, previous: Conditions | undefined, now: string): Conditions {
  const accepted = judgeAccepted(facts);
  const before = previous?.conditions.find((condition) => condition.type === 'Enforced');
  const enforced = judgeEnforced(withoutPassing(facts, before));
  const ready = judgeReady(accepted, enforced);
  const verdicts: [string, Verdict][] = [
    ['Accepted', accepted],
    ['Enforced', enforced],
    ['Ready', ready],
  ];
  if (accepted.status === 'False') verdicts.push(['Stalled', { ...accepted, status: 'True' }]);
  else if (ready.status !== 'True') verdicts.push(['Reconciling', { ...ready, status: 'True' }]);
  const conditions = verdicts.map(([type, verdict]) => toCondition(type, verdict, facts.generation, { previous, now }));
  const isSame = before !== undefined && before.status === enforced.status && before.reason === enforced.reason;
  // Scaling alone is no news: only a change of what is enforced, or of who is behind, is written.
  const isCountStable = isSame && before.observedGeneration === facts.generation && enforced.reason !== 'PodsLagging';
  const isKept = isCountStable || !facts.isStoreReachable || facts.otherOwner !== undefined;
  return { conditions, pods: isKept && previous !== undefined ? previous.pods : countsOf(facts) };
}

/** What every pod acknowledged stays enforced while pods come and go; what is new has to be acknowledged by these, too. */
function withoutPassing(facts: StatusFacts, before: Condition | undefined): StatusFacts {
  const wasEverywhere =
    before !== undefined &&
    before.observedGeneration === facts.generation &&
    (before.reason === 'Enforced' || INTENDED.has(before.reason));
  if (!wasEverywhere) return facts;
  return { ...facts, laggingPods: facts.laggingPods.filter(({ isPassing }) => !isPassing) };
}

function countsOf(facts: StatusFacts): PodCounts {
  return { ready: facts.readyPods, acknowledged: facts.readyPods - facts.laggingPods.length };
}

function judgeAccepted({ problems }: StatusFacts): Verdict {
  if (problems.length === 0) return { status: 'True', reason: 'Accepted', message: 'the spec is valid' };
  const shown = problems.slice(0, SHOWN_PROBLEMS).map((problem) => `${problem.path}: ${problem.message}`);
  const more = problems.length > SHOWN_PROBLEMS ? [`and ${problems.length - SHOWN_PROBLEMS} more`] : [];
  return { status: 'False', reason: 'Invalid', message: [...shown, ...more].join('; ') };
}

function judgeEnforced(facts: StatusFacts): Verdict {
  if (facts.otherOwner !== undefined) {
    return {
      status: 'Unknown',
      reason: 'RedisOwnedByOther',
      message: `${facts.otherOwner}: nothing can be published there, and nothing is known of the pods`,
    };
  }
  if (!facts.isActiveKnown) {
    return {
      status: 'Unknown',
      reason: 'RedisUnavailable',
      message: `${facts.storeProblem ?? UNREACHABLE}, so it is not known what is in force`,
    };
  }
  if (facts.problems.length > 0) {
    return facts.activeGeneration > 0
      ? { status: 'False', reason: 'LastGoodActive', message: `generation ${facts.activeGeneration} stays in force` }
      : { status: 'False', reason: 'NothingActive', message: 'no generation of this object is in force' };
  }
  if (!facts.isStoreReachable) {
    return {
      status: 'Unknown',
      reason: 'RedisUnavailable',
      message: `${facts.storeProblem ?? UNREACHABLE}, so nothing is known of the pods`,
    };
  }
  if (facts.activeGeneration !== facts.generation) {
    return { status: 'False', reason: 'NotPublished', message: `generation ${facts.generation} is not published yet` };
  }
  // Every pod honours the time by itself, whatever else it has loaded.
  if (facts.offTime === 'Expired') return { status: 'False', reason: 'Expired', message: 'expiresAt has passed' };
  return judgePods(facts);
}

function judgePods({ readyPods, laggingPods, failingPods, isOverdue, isShadow, offTime }: StatusFacts): Verdict {
  if (readyPods === 0) return { status: 'False', reason: 'NoPods', message: 'no limiter pod is ready' };
  if (failingPods.length > 0) {
    const message = `Redis fails the decisions of ${named(failingPods)}: failure policies decide there`;
    return { status: 'Unknown', reason: 'RedisUnavailable', message };
  }
  if (laggingPods.length === 0 && isShadow) {
    return {
      status: 'False',
      reason: 'Shadow',
      message: 'every ready limiter pod judges by it, and changes no answer',
    };
  }
  if (laggingPods.length === 0 && offTime === 'Pending') {
    return { status: 'False', reason: 'Pending', message: 'every ready limiter pod waits for startsAt' };
  }
  if (laggingPods.length === 0) {
    return { status: 'True', reason: 'Enforced', message: 'every ready limiter pod acknowledged it' };
  }
  if (!isOverdue) return { status: 'False', reason: 'Propagating', message: 'limiter pods are loading it' };
  const lagging = laggingPods.map(({ pod, problem }) => (problem === undefined ? pod : `${pod} (${problem})`));
  return { status: 'False', reason: 'PodsLagging', message: `not acknowledged by ${named(lagging)}` };
}

/** The first of them by name. */
function named(pods: readonly string[]): string {
  const more = pods.length > SHOWN_PODS ? ` and ${pods.length - SHOWN_PODS} more` : '';
  return `${pods.toSorted().slice(0, SHOWN_PODS).join(', ')}${more}`;
}

function judgeReady(accepted: Verdict, enforced: Verdict): Verdict {
  if (accepted.status === 'False') return accepted;
  return INTENDED.has(enforced.reason) ? { ...enforced, status: 'True' } : enforced;
}

function toCondition(
  type: string,
  verdict: Verdict,
  generation: number,
  { previous, now }: { previous: Conditions | undefined; now: string },
): Condition {
  const before = previous?.conditions.find((condition) => condition.type === type);
  return {
    type,
    status: verdict.status,
    observedGeneration: generation,
    lastTransitionTime: before?.status === verdict.status ? before.lastTransitionTime : now,
    reason: verdict.reason,
    message: verdict.message,
  };
}
