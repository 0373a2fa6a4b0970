import type { ManifestEntry } from '../policy/documents.ts';
import { idOf, type Problem, type RawResource, type ValidPolicy } from '../policy/resource.ts';
import { ShardedMap } from '../policy/sharded-map.ts';
import { changesBetween } from './changes.ts';
import type { WrittenConsumer } from './key-set.ts';
import { type Common, commonOf, conditionsOf, expiryOf, statusOf, type World } from './report.ts';
import type { ResourceSource } from './source.ts';
import { type Transition, transitionsBetween } from './transitions.ts';

export type StatusKeeperOptions = {
  readonly source: Pick<ResourceSource, 'writeStatus'>;
  /** Whether there is something more urgent to do than the rest of the statuses. */
  readonly isInterrupted: () => boolean;
  /** Asks for another pass soon. */
  readonly again: () => void;
  /** A status was recorded that differs from the last one by these. */
  readonly onTransitions?: (resource: RawResource, transitions: readonly Transition[]) => void;
  readonly monotonicMillis?: () => number;
};

const WRITES_AT_ONCE = 8;
/** What is written later than this after a look may not be so any more. */
const PASS_MILLIS = 2_000;
/** Longer delays than setTimeout can count are looked at again on the way. */
const LONGEST_TIMER_MILLIS = 2_000_000_000;

/** How long the event loop may be kept from other work. */
const SLICE_MILLIS = 10;

const NOTHING = ShardedMap.of<never>([]);
const NOTHING_SEEN: Seen = {
  resources: [],
  text: '',
  entries: NOTHING,
  problems: NOTHING,
  consumers: NOTHING,
  policies: NOTHING,
  nowMicros: 0,
};
const NONE_SETTLED = { revision: 0, keySequence: 0 };

type Due = { readonly raw: RawResource; readonly status: unknown };

/** What the last pass found things to be, for comparison. */
type Seen = {
  readonly resources: readonly RawResource[];
  readonly text: string;
  readonly entries: ShardedMap<ManifestEntry>;
  readonly problems: ShardedMap<readonly Problem[]>;
  readonly consumers: ShardedMap<WrittenConsumer>;
  readonly policies: ShardedMap<ValidPolicy>;
  readonly nowMicros: number;
};

/** Keeps the status of every object equal to what is so, and writes nothing that is so already. */
export class StatusKeeper {
  readonly #options: StatusKeeperOptions;
  /** What the last complete pass was made from: the same again gives the same again. */
  #reported = '';
  #seen: Seen = NOTHING_SEEN;
  readonly #byId = new Map<string, RawResource>();
  /** Objects whose status may not be right. */
  readonly #pending = new Set<RawResource>();
  /** What every pod has at least, as long as the status of no other object can have changed. */
  #settled = NONE_SETTLED;
  /** When a status next changes by itself, by the time of Redis; undefined if that has to be found out. */
  #expiryMicros: number | undefined;
  #expiry: NodeJS.Timeout | undefined;

  constructor(options: StatusKeeperOptions) {
    this.#options = options;
  }

  /** What was found out last no longer holds: the next pass looks at every object. */
  invalidate(): void {
    this.#reported = '';
  }

  stop(): void {
    clearTimeout(this.#expiry);
  }

  /**
   * Writes the statuses that differ, if any can differ since the last pass. Throws AggregateError with all that could not
   * be written.
   */
  async pass(resources: readonly RawResource[], world: World): Promise<void> {
    const fingerprint = fingerprintOf(world);
    if (fingerprint === this.#reported) return;
    // Before the first write: what changes during this pass asks for another one.
    this.#reported = fingerprint;
    const failures = await this.#write(resources, world);
    if (failures.length > 0) {
      this.#reported = '';
      throw new AggregateError(failures, `${failures.length} statuses could not be written`);
    }
    this.#scheduleExpiry(resources, world);
  }

  /** Writes some at a time, edited objects first, and leaves to the next pass what it is interrupted in, or late with. */
  async #write(resources: readonly RawResource[], world: World): Promise<unknown[]> {
    const lateMillis = this.#now() + PASS_MILLIS;
    const common = commonOf(world);
    this.#noteChanges(resources, world, common);
    const due = await this.#due(world, common);
    const failures: unknown[] = [];
    for (let start = 0; start < due.length; start += WRITES_AT_ONCE) {
      if (this.#options.isInterrupted() || this.#now() > lateMillis) {
        this.#again();
        break;
      }
      const writes = due.slice(start, start + WRITES_AT_ONCE).map(({ raw, status }) => this.#writeOne(raw, status));
      // One status that cannot be written must not keep the others from being true.
      for (const outcome of await Promise.allSettled(writes)) {
        if (outcome.status === 'rejected') failures.push(outcome.reason);
      }
    }
    return failures;
  }

  /** Whose status may not be right any more, since the last pass. */
  #noteChanges(resources: readonly RawResource[], world: World, common: Common): void {
    const before = this.#seen;
    this.#seen = seenIn(resources, world, common);
    const { gone, come } = changesBetween(before.resources, resources);
    for (const raw of gone) {
      this.#byId.delete(idOf(raw));
      this.#pending.delete(raw);
    }
    for (const raw of come) {
      this.#byId.set(idOf(raw), raw);
      this.#pending.add(raw);
    }
    const { revision, keySequence } = this.#settled;
    if (before.text !== common.text || common.revision < revision || common.keySequence < keySequence) {
      this.#settled = NONE_SETTLED;
      for (const raw of resources) this.#pending.add(raw);
    }
    for (const id of differencesBetween(before, this.#seen)) {
      const raw = this.#byId.get(id);
      if (raw === undefined) continue;
      this.#pending.add(raw);
      // The times are those of what is in force.
      if (isTimed(raw)) this.#expiryMicros = undefined;
    }
    this.#noteTimed(before, this.#seen);
  }

  /** What changes with time, or says how many policies it concerns. */
  #noteTimed(before: Seen, now: Seen): void {
    const isTime =
      this.#expiryMicros === undefined || now.nowMicros >= this.#expiryMicros || now.nowMicros < before.nowMicros;
    if (isTime) this.#expiryMicros = undefined;
    if (!isTime && before.policies === now.policies) return;
    for (const raw of now.resources) if (isTimed(raw)) this.#pending.add(raw);
  }

  /** In slices, as there may be thousands; what it is interrupted in stays for the next pass. */
  async #due(world: World, common: Common): Promise<readonly Due[]> {
    const due: (Due & { readonly isEdited: boolean })[] = [];
    let sinceMillis = performance.now();
    for (const raw of this.#pending) {
      const status = statusOf(raw, world);
      if (status !== undefined) due.push({ raw, status, isEdited: isEdited(raw) });
      else this.#settle(raw, world, common);
      if (performance.now() - sinceMillis < SLICE_MILLIS) continue;
      await new Promise((resolve) => setImmediate(resolve));
      sinceMillis = performance.now();
      if (!this.#options.isInterrupted()) continue;
      this.#again();
      return [];
    }
    return due.toSorted((one, other) => Number(other.isEdited) - Number(one.isEdited));
  }

  /** The status is right; if every pod has what is in force of the object, it stays so until something changes. */
  #settle(raw: RawResource, world: World, common: Common): void {
    const id = idOf(raw);
    const revision = world.published?.entries.get(id)?.revision ?? 0;
    const keySequence = world.consumers.get(id)?.sequence ?? 0;
    if (revision > common.revision || keySequence > common.keySequence) return;
    this.#settled = {
      revision: Math.max(revision, this.#settled.revision),
      keySequence: Math.max(keySequence, this.#settled.keySequence),
    };
    this.#pending.delete(raw);
  }

  async #writeOne(raw: RawResource, status: unknown): Promise<void> {
    if ((await this.#options.source.writeStatus(raw, status)) === 'outdated') {
      this.#again();
      return;
    }
    const transitions = transitionsBetween(conditionsOf(raw.status), conditionsOf(status));
    if (transitions.length > 0) this.#options.onTransitions?.(raw, transitions);
  }

  /** Soon: what this pass left out, or what changed under it, comes with the next. */
  #again(): void {
    this.#reported = '';
    this.#options.again();
  }

  #scheduleExpiry(resources: readonly RawResource[], world: World): void {
    clearTimeout(this.#expiry);
    this.#expiryMicros ??= resources.reduce(
      (soonest, raw) => (isTimed(raw) ? Math.min(soonest, expiryOf(raw, world) ?? soonest) : soonest),
      Number.POSITIVE_INFINITY,
    );
    if (this.#expiryMicros === Number.POSITIVE_INFINITY) return;
    const delayMillis = Math.ceil((this.#expiryMicros - world.nowMicros) / 1000);
    this.#expiry = setTimeout(() => this.#again(), Math.min(Math.max(delayMillis, 1), LONGEST_TIMER_MILLIS));
  }

  #now(): number {
    return this.#options.monotonicMillis?.() ?? performance.now();
  }
}

function seenIn(resources: readonly RawResource[], world: World, { text }: Common): Seen {
  const { desired, consumers, nowMicros } = world;
  const { problems, policies } = desired;
  return { resources, text, entries: world.published?.entries ?? NOTHING, problems, consumers, policies, nowMicros };
}

/** Identities of objects whose status is made from something else now. */
function differencesBetween(before: Seen, now: Seen): readonly string[] {
  return [
    ...now.entries.differenceTo(before.entries),
    ...now.problems.differenceTo(before.problems),
    ...now.consumers.differenceTo(before.consumers),
  ];
}

/** Whether the status changes by itself, with time. */
function isTimed({ kind }: RawResource): boolean {
  return kind === 'SystemHealth' || kind === 'RateLimitOverride';
}

function isEdited({ metadata, status }: RawResource): boolean {
  return (
    typeof status !== 'object' || status === null || Reflect.get(status, 'observedGeneration') !== metadata.generation
  );
}

/** A text that is equal exactly when every status would be made from equal facts. */
function fingerprintOf(world: World): string {
  return JSON.stringify([
    world.pods
      ?.map(({ acknowledgement, isPassing, isFailing }) => [
        acknowledgement.pod,
        acknowledgement.identity,
        acknowledgement.keySequence,
        acknowledgement.problem,
        isPassing,
        isFailing,
      ])
      .toSorted(),
    world.published?.identity,
    world.otherOwner,
    world.storeProblem,
    world.isOverdue,
  ]);
}
