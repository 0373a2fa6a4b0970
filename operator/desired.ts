import type { ManifestEntry, StoredDocument } from '../policy/documents.ts';
import type { Problem, RawResource, ValidConsumer, ValidPolicy } from '../policy/resource.ts';
import { ShardedMap } from '../policy/sharded-map.ts';
import { collect } from './collect.ts';
import type { CompileCache, Known } from './compile-cache.ts';
import type { InForce } from './conflicts.ts';
import { type Docket, judgeFrame, judgeGuests } from './judgement.ts';

/** What should be in force, and what is wrong with what was asked for. What has not changed is the same object. */
export type Desired = {
  /** Objects with a document, by identity; `revision` is that of the entry in force, or 0 if it is new. */
  readonly entries: ShardedMap<ManifestEntry>;
  /** Documents of objects whose spec is valid, by name. Those of entries that are kept are in Redis already. */
  readonly documents: ShardedMap<StoredDocument>;
  /** By identity, as they should be in force: the last good state of one whose edit is refused. */
  readonly policies: ShardedMap<ValidPolicy>;
  /** The older before the younger. */
  readonly consumers: readonly ValidConsumer[];
  /** Every Consumer, valid or not. */
  readonly consumerObjects: readonly Known[];
  /** By identity; absent = accepted. */
  readonly problems: ShardedMap<readonly Problem[]>;
};

/**
 * From all resources and what is in force to what should be. An object that is not valid keeps the entry that it has:
 * a bad edit never replaces a good one. Level-triggered: the whole set, every time, but what is as it was in the last
 * pass is not looked at again.
 */
export function computeDesired(resources: readonly RawResource[], inForce: InForce, cache: CompileCache): Desired {
  const entries = ShardedMap.of(inForce.entries);
  const docket: Docket = { ...cache.lookAtAll(resources), cache, inForce: { ...inForce, entries } };
  const frame = judgeFrame(docket);
  const guests = judgeGuests(docket, { frame, kinds: ['RateLimitOverride', 'Consumer'], known: cache.guests });
  const incidents = judgeGuests(docket, { frame, kinds: ['SystemHealth'], known: cache.incidents });
  const verdicts = [frame.verdicts, guests.verdicts, incidents.verdicts];
  const collected = collect(verdicts, entries, cache.collected);
  cache.guests = guests;
  cache.incidents = incidents;
  cache.collected = collected;
  const { documents, policies, problems } = collected;
  return {
    entries: collected.entries,
    documents,
    policies,
    consumers: guests.consumers,
    consumerObjects: guests.consumerObjects,
    problems,
  };
}
