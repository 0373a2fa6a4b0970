import type { ManifestEntry, StoredDocument } from '../policy/documents.ts';
import type { Problem, ValidPolicy } from '../policy/resource.ts';
import { ShardedMap } from '../policy/sharded-map.ts';
import { isExpelled } from './conflicts.ts';
import { occupantOf, type Verdict } from './judgement.ts';

/** What all verdicts come to, and what they are. */
export type Collected = {
  /** By identity, each kind in one of them. */
  readonly verdicts: readonly ShardedMap<Verdict>[];
  readonly inForce: ShardedMap<ManifestEntry>;
  readonly entries: ShardedMap<ManifestEntry>;
  readonly documents: ShardedMap<StoredDocument>;
  readonly policies: ShardedMap<ValidPolicy>;
  readonly problems: ShardedMap<readonly Problem[]>;
};

/** Collects verdicts beside what is in force; from what was collected before, only where one or the other differs. */
export function collect(
  verdicts: readonly ShardedMap<Verdict>[],
  inForce: ShardedMap<ManifestEntry>,
  before: Collected = nothing(verdicts),
): Collected {
  const ids = new Set([
    ...inForce.differenceTo(before.inForce),
    ...verdicts.flatMap((some, number) => some.differenceTo(before.verdicts[number] ?? some)),
  ]);
  const changed = [...ids].map((id) => ({ id, was: find(before.verdicts, id), is: find(verdicts, id) }));
  return {
    verdicts,
    inForce,
    entries: before.entries.with(changed.map(({ id, is }) => [id, is && entryOf(is, inForce.get(id))])),
    documents: before.documents.with([
      // No two objects have the same document: it holds the name of its object.
      ...changed.flatMap(({ was }) => (was?.accepted?.stored ? [[was.accepted.stored.name, undefined] as const] : [])),
      ...changed.flatMap(({ is }) =>
        is?.accepted?.stored ? [[is.accepted.stored.name, is.accepted.stored] as const] : [],
      ),
    ]),
    policies: before.policies.with(changed.map(({ id, is }) => [id, policyOf(is)])),
    problems: before.problems.with(changed.map(({ id, is }) => [id, is?.problems.length ? is.problems : undefined])),
  };
}

function nothing(verdicts: readonly unknown[]): Collected {
  const none = ShardedMap.of<never>([]);
  return {
    verdicts: verdicts.map(() => none),
    inForce: none,
    entries: none,
    documents: none,
    policies: none,
    problems: none,
  };
}

function find(verdicts: readonly ShardedMap<Verdict>[], id: string): Verdict | undefined {
  for (const some of verdicts) {
    const verdict = some.get(id);
    if (verdict !== undefined) return verdict;
  }
  return undefined;
}

function policyOf(verdict: Verdict | undefined): ValidPolicy | undefined {
  const resource = occupantOf(verdict)?.resource;
  return resource?.kind === 'RateLimitPolicy' ? resource : undefined;
}

/** The very entry that is in force, if nothing has changed: what is the same object need not be compared. */
function entryOf(
  { known, accepted, problems }: Verdict,
  inForce: ManifestEntry | undefined,
): ManifestEntry | undefined {
  const { kind } = known;
  const { namespace, name, uid, generation } = known.metadata;
  // Deleted and made again under its old name, it is another object: what was in force is not its own.
  const own = inForce?.uid === uid ? inForce : undefined;
  if (accepted === undefined) return isExpelled(problems) ? undefined : own;
  if (accepted.stored === undefined) return undefined;
  const document = accepted.stored.name;
  if (own?.generation === generation && own.document === document) return own;
  return { kind, namespace, name, uid, generation, document, revision: 0 };
}
