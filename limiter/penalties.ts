import type { RedisClient } from '../store/connection.ts';
import { partitionOf, subjectOf } from '../policy/hash.ts';
import type { PenaltyState } from '../policy/decision.ts';
import type { DomainIndex, Snapshot } from '../policy/snapshot.ts';
import { within } from '../store/deadline.ts';
import type { Names } from '../store/names.ts';
import { type ListedPenalty, listPenalties, pardon } from '../store/pardon.ts';

/** Whose penalty: the policy, and the values of what its penalty counts by. */
export type PenaltySubject = {
  readonly domain: string;
  /** `namespace/name` */
  readonly policy: string;
  readonly subject: Readonly<Record<string, string>>;
};

/** A subject that cannot have a penalty. */
export class NoSuchPenalty extends Error {
  override readonly name = 'NoSuchPenalty';
  readonly transient = false;
  readonly code = 'NO_SUCH_PENALTY';
  readonly field: string;

  constructor(field: string, message: string) {
    super(message);
    this.field = field;
  }
}

/** Looking at penalties, and lifting them. */
export class Penalties {
  readonly #redis: RedisClient;
  readonly #names: Names;
  readonly #deadlineMillis: number;

  constructor(redis: RedisClient, names: Names, deadlineMillis: number) {
    this.#redis = redis;
    this.#names = names;
    this.#deadlineMillis = deadlineMillis;
  }

  /** Throws NoSuchPenalty and StoreError. */
  pardon(snapshot: Snapshot, asked: PenaltySubject): Promise<{ before: PenaltyState }> {
    const place = placeOf(snapshot, asked);
    return within(this.#deadlineMillis, pardon(this.#redis, this.#names, place));
  }

  /** Those above NORMAL, longest first. `value` names the partition of a domain that has several. Throws as pardon. */
  list(snapshot: Snapshot, domain: string, value: string | undefined, most: number): Promise<ListedPenalty[]> {
    const index = domainOf(snapshot, domain);
    const { partitionBy } = index.settings;
    if (partitionBy !== undefined && value === undefined) {
      throw new NoSuchPenalty('value', `is required: the domain is partitioned by ${partitionBy}`);
    }
    const partition = partitionBy === undefined ? index.partition : partitionOf(domain, partitionBy, value ?? '');
    return within(this.#deadlineMillis, listPenalties(this.#redis, this.#names, partition, most));
  }
}

function domainOf(snapshot: Snapshot, domain: string): DomainIndex {
  const index = snapshot.domains.get(domain);
  if (index === undefined) throw new NoSuchPenalty('domain', `${JSON.stringify(domain)} has no policy`);
  return index;
}

function placeOf(snapshot: Snapshot, asked: PenaltySubject): { readonly partition: string; readonly subject: string } {
  const index = domainOf(snapshot, asked.domain);
  const policy = index.policies.find(({ id }) => id === asked.policy);
  if (policy?.penalty === undefined) {
    const having = index.policies.filter(({ penalty }) => penalty !== undefined).map(({ id }) => id);
    const allowed = having.length === 0 ? 'the domain has no penalties' : `must be ${having.join(' or ')}`;
    throw new NoSuchPenalty('policy', `${JSON.stringify(asked.policy)} is not allowed: ${allowed}`);
  }
  const { countBy } = policy.penalty;
  const given = Object.keys(asked.subject).toSorted();
  if (given.join() !== countBy.toSorted().join()) {
    throw new NoSuchPenalty('subject', `must say exactly ${countBy.join(', ')}, not ${given.join(', ') || 'nothing'}`);
  }
  const parts = countBy.flatMap((axis) => [axis, asked.subject[axis] ?? '']);
  const { partitionBy } = index.settings;
  const partition =
    partitionBy === undefined
      ? index.partition
      : partitionOf(asked.domain, partitionBy, asked.subject[partitionBy] ?? '');
  return { partition, subject: subjectOf([policy.id, ...parts]) };
}
