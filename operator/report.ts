import { isDeepStrictEqual } from 'node:util';
import type { Document, ManifestEntry } from '../policy/documents.ts';
import { covers, isActive } from '../policy/health.ts';
import { domainOf, idOf, type Problem, type RawResource } from '../policy/resource.ts';
import type { Condition, PodCounts } from '../policy/schema/fields.ts';
import type { ShardedMap } from '../policy/sharded-map.ts';
import type { Desired } from './desired.ts';
import type { WrittenConsumer } from './key-set.ts';
import { documentIn } from './last-good.ts';
import { withChange } from './mode-history.ts';
import type { Published } from './published.ts';
import type { Publisher } from './publisher.ts';
import type { ReadyPod } from './ready-pods.ts';
import { type Conditions, conditionsFor, type LaggingPod, MAX_PROBLEMS, type OffTime } from './status.ts';

/** Everything that statuses are made from, at one moment. */
export type World = {
  readonly desired: Desired;
  readonly published: Published | undefined;
  readonly knows: Publisher['knows'];
  readonly consumers: ShardedMap<WrittenConsumer>;
  /** The pods that have to enforce; undefined = Redis could not be asked. */
  readonly pods: readonly ReadyPod[] | undefined;
  /** Why they could not be asked. */
  readonly storeProblem?: string;
  /** What is to be said of another installation that is in this Redis. */
  readonly otherOwner?: string | undefined;
  readonly isOverdue: boolean;
  /** Time of Redis, microseconds. */
  readonly nowMicros: number;
  /** Time for people, RFC 3339. */
  readonly now: string;
};

/** What is in force of one object, and whether a pod has it. */
type Active = {
  readonly generation: number;
  readonly revision: number;
  readonly isHeldBy: (pod: ReadyPod) => boolean;
};

/**
 * What all statuses have in common: what they say of the pods, and what every pod has. Where every pod has what is in
 * force of an object, its status is made from the object, the text, its entry and its problems alone.
 */
export type Common = { readonly text: string; readonly revision: number; readonly keySequence: number };

export function commonOf(world: World): Common {
  const { pods, published, otherOwner, storeProblem } = world;
  const ready = pods ?? [];
  const failing = ready.filter(({ isFailing }) => isFailing).map(({ acknowledgement }) => acknowledgement.pod);
  return {
    text: JSON.stringify([pods?.length, failing, published !== undefined, otherOwner, storeProblem]),
    revision: Math.min(...ready.map((pod) => heldBy(pod, world))),
    keySequence: Math.min(...ready.map(({ acknowledgement }) => acknowledgement.keySequence)),
  };
}

/** The status that an object should have; undefined if it has it already. */
export function statusOf(raw: RawResource, world: World): unknown {
  const problems = world.desired.problems.get(idOf(raw)) ?? [];
  const active = activeOf(raw, world);
  const ready = world.pods ?? [];
  const previous = parsePrevious(raw.status);
  const { conditions, pods } = conditionsFor(
    {
      generation: raw.metadata.generation,
      problems,
      activeGeneration: active?.generation ?? 0,
      revision: active?.revision ?? 0,
      readyPods: ready.length,
      laggingPods: active === undefined ? [] : ready.filter((pod) => !active.isHeldBy(pod)).map(toLagging),
      failingPods: ready.filter(({ isFailing }) => isFailing).map(({ acknowledgement }) => acknowledgement.pod),
      isOverdue: world.isOverdue,
      isStoreReachable: world.pods !== undefined,
      storeProblem: world.storeProblem,
      otherOwner: world.otherOwner,
      isShadow: isShadow(raw),
      offTime: offTimeOf(raw, world),
      isActiveKnown: world.published !== undefined,
    },
    previous,
    world.now,
  );
  const status = {
    observedGeneration: raw.metadata.generation,
    ...details(raw, world, { active, pods }),
    ...(problems.length === 0 ? {} : { problems: problems.slice(0, MAX_PROBLEMS).map(bounded) }),
    conditions,
  };
  return isDeepStrictEqual(comparable(status), comparable(raw.status)) ? undefined : status;
}

function isShadow({ kind, spec }: RawResource): boolean {
  return kind === 'RateLimitPolicy' && isRecord(spec) && spec['mode'] === 'Shadow';
}

function activeOf(raw: RawResource, world: World): Active | undefined {
  if (raw.kind === 'Consumer') {
    const written = world.consumers.get(idOf(raw));
    if (written === undefined || written.uid !== raw.metadata.uid) return undefined;
    return {
      generation: written.generation,
      revision: 0,
      isHeldBy: ({ acknowledgement }) => acknowledgement.keySequence >= written.sequence,
    };
  }
  const entry = entryOf(raw, world);
  if (entry === undefined) return undefined;
  return { generation: entry.generation, revision: entry.revision, isHeldBy: (pod) => holds(pod, entry, world) };
}

function entryOf(raw: RawResource, world: World): ManifestEntry | undefined {
  const entry = world.published?.entries.get(idOf(raw));
  return entry?.uid === raw.metadata.uid ? entry : undefined;
}

/**
 * A pod enforces an entry if it holds the very manifest that is published, or one that this operator knows to have
 * published at or after the revision that brought the entry.
 */
const holds = (pod: ReadyPod, entry: ManifestEntry, world: World): boolean => heldBy(pod, world) >= entry.revision;

/** The revision up to which a pod has every entry; -1 if that is not known. */
function heldBy({ acknowledgement }: ReadyPod, { published, knows }: Pick<World, 'published' | 'knows'>): number {
  const held = acknowledgement.identity;
  const current = published?.identity;
  if (held === undefined || current === undefined) return -1;
  if (held.manifest === current.manifest) return Number.MAX_SAFE_INTEGER;
  return held.incarnation === current.incarnation && knows(held) ? held.revision : -1;
}

function toLagging({ acknowledgement, isPassing }: ReadyPod): LaggingPod {
  return { pod: acknowledgement.pod, problem: acknowledgement.problem, isPassing };
}

/** What one kind's status says besides conditions. */
function details(raw: RawResource, world: World, known: { active: Active | undefined; pods: PodCounts }): object {
  // While nothing is known of what is in force, what was said of it last stands.
  if (world.published === undefined) return lastSaid(raw);
  const inForce = {
    activeGeneration: known.active?.generation ?? 0,
    revision: known.active?.revision ?? 0,
    pods: known.pods,
  };
  switch (raw.kind) {
    case 'RateLimitPolicy':
    case 'RateLimitDomain':
    case 'RateLimitOverride':
      return inForce;
    case 'SystemHealth':
      return { ...healthDetails(raw, world), ...inForce };
    case 'Consumer':
      return {};
  }
}

const SAID_OF_FORCE = ['activeGeneration', 'revision', 'pods', 'effectiveMode', 'since', 'history', 'affectedPolicies'];

function lastSaid({ status }: RawResource): object {
  const said = isRecord(status) ? status : {};
  return Object.fromEntries(SAID_OF_FORCE.filter((name) => name in said).map((name) => [name, said[name]]));
}

function healthDetails(raw: RawResource, world: World): object {
  const found = documentOf(raw, world);
  // What a later version has published is not known here.
  if (found === undefined && entryOf(raw, world) !== undefined) return lastSaid(raw);
  const document = found?.kind === 'SystemHealth' ? found : undefined;
  const isDegraded = document !== undefined && isActive(document, world.nowMicros);
  const effectiveMode = isDegraded ? 'DEGRADED' : 'NORMAL';
  const reason = isDegraded ? document.reason : undefined;
  const { since, history } = withChange(raw.status, { mode: effectiveMode, at: world.now, reason });
  const affected = isDegraded
    ? [...world.desired.policies.values()].filter(
        (policy) =>
          covers(document, { domain: domainOf(policy), labels: policy.metadata.labels ?? {} }) &&
          (document.tiers === undefined || policy.spec.tiers?.some((tier) => document.tiers?.includes(tier.name))),
      )
    : [];
  return { effectiveMode, since, history, affectedPolicies: affected.length };
}

/** When the status of an object changes by itself, by the time of Redis. */
export function expiryOf(raw: RawResource, world: World): number | undefined {
  if (raw.kind !== 'SystemHealth' && raw.kind !== 'RateLimitOverride') return undefined;
  const document = documentOf(raw, world);
  switch (document?.kind) {
    case 'SystemHealth':
      return isActive(document, world.nowMicros) ? document.expiresAtMicros : undefined;
    case 'RateLimitOverride':
      return [document.startsAtMicros, document.expiresAtMicros].find((micros) => micros > world.nowMicros);
    default:
      return undefined;
  }
}

function offTimeOf(raw: RawResource, world: World): OffTime | undefined {
  const document = raw.kind === 'RateLimitOverride' ? documentOf(raw, world) : undefined;
  if (document?.kind !== 'RateLimitOverride') return undefined;
  if (world.nowMicros < document.startsAtMicros) return 'Pending';
  return world.nowMicros < document.expiresAtMicros ? undefined : 'Expired';
}

/** What is in force of an object, as far as this process has seen it and can read it. */
function documentOf(raw: RawResource, world: World): Document | undefined {
  const entry = entryOf(raw, world);
  const stored = entry === undefined ? undefined : world.published?.documents.get(entry.document);
  return documentIn(stored);
}

/** The schema of the status bounds its texts. */
function bounded(problem: Problem): Problem {
  return {
    path: problem.path.slice(0, 1024),
    reason: problem.reason.slice(0, 128),
    message: problem.message.slice(0, 2048),
  };
}

/** The conditions that a stored status holds. */
export function conditionsOf(status: unknown): Condition[] {
  return isRecord(status) && Array.isArray(status['conditions']) ? status['conditions'].filter(isCondition) : [];
}

function parsePrevious(status: unknown): Conditions | undefined {
  if (!isRecord(status) || !Array.isArray(status['conditions'])) return undefined;
  const pods = isRecord(status['pods']) ? status['pods'] : {};
  return {
    conditions: conditionsOf(status),
    pods: { ready: Number(pods['ready'] ?? 0), acknowledged: Number(pods['acknowledged'] ?? 0) },
  };
}

function isCondition(value: unknown): value is Condition {
  return isRecord(value) && typeof value['type'] === 'string' && typeof value['lastTransitionTime'] === 'string';
}

/** Conditions are a map; their order in the list says nothing. */
function comparable(status: unknown): unknown {
  if (!isRecord(status) || !Array.isArray(status['conditions'])) return status;
  const conditions = status['conditions']
    .filter(isCondition)
    .toSorted((one, other) => (one.type < other.type ? -1 : 1));
  return { ...status, conditions };
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
