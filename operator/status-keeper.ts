import type { RawResource } from '../policy/resource.ts';
import { type Basis, basisOf, commonOf, conditionsOf, expiryOf, statusOf, type World } from './report.ts';
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

/** Keeps the status of every object equal to what is so, and writes nothing that is so already. */
export class StatusKeeper {
  readonly #options: StatusKeeperOptions;
  /** What the last complete pass was made from: the same again gives the same again. */
  #reported = '';
  /** Objects whose status is right, and what it was found to be right for. */
  readonly #settled = new WeakMap<RawResource, Basis>();
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
    const due = this.#due(resources, world);
    const now = this.#options.monotonicMillis ?? (() => performance.now());
    const lateMillis = now() + PASS_MILLIS;
    const failures: unknown[] = [];
    for (let start = 0; start < due.length; start += WRITES_AT_ONCE) {
      if (this.#options.isInterrupted() || now() > lateMillis) {
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

  #due(resources: readonly RawResource[], world: World): { readonly raw: RawResource; readonly status: unknown }[] {
    const common = commonOf(world);
    const due: { raw: RawResource; status: unknown; isEdited: boolean }[] = [];
    for (const raw of resources) {
      const basis = basisOf(raw, world, common);
      if (basis !== undefined && isSame(basis, this.#settled.get(raw))) continue;
      const status = statusOf(raw, world);
      if (status !== undefined) due.push({ raw, status, isEdited: isEdited(raw) });
      else if (basis !== undefined) this.#settled.set(raw, basis);
    }
    return due.toSorted((one, other) => Number(other.isEdited) - Number(one.isEdited));
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
    const expiries = resources.map((raw) => expiryOf(raw, world)).filter((micros) => micros !== undefined);
    if (expiries.length === 0) return;
    const delayMillis = Math.ceil((Math.min(...expiries) - world.nowMicros) / 1000);
    this.#expiry = setTimeout(() => this.#again(), Math.min(Math.max(delayMillis, 1), LONGEST_TIMER_MILLIS));
  }
}

function isSame(one: Basis, other: Basis | undefined): boolean {
  return one.text === other?.text && one.active === other.active && one.problems === other.problems;
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
