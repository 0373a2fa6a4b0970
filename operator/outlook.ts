import type { RedisClient } from '../store/connection.ts';
import { listPods, type PodReport } from '../store/acknowledgements.ts';
import { RedisClock } from '../store/clock.ts';
import { StoreError } from '../store/errors.ts';
import type { Names } from '../store/names.ts';
import type { Configurer } from './configurer.ts';
import { ReadyPods } from './ready-pods.ts';
import type { World } from './report.ts';

export type OutlookOptions = {
  readonly redis: RedisClient;
  readonly names: Names;
  readonly configurer: Configurer;
  /** Names of the pods that requests are sent to, if that is known. */
  readonly endpoints: () => ReadonlySet<string> | undefined;
  readonly monotonicMillis?: () => number;
};

/** What one look brought. */
export type Look = {
  /** Undefined while there is nothing to say: nothing was judged yet, or Redis has just become silent. */
  readonly world: World | undefined;
  /** What is in force is not what this operator wrote: it has to be written again. */
  readonly isDisplaced: boolean;
  /** Why the pods could not be asked, if so. */
  readonly failure?: StoreError | undefined;
};

/** How often to look. What pods do is seen so late at most. */
export const LOOK_MILLIS = 1_000;
/** After it, a pod that has not acknowledged is lagging. */
const OVERDUE_MILLIS = 6_000;
/** Shorter outages of Redis are not worth a write to every object. */
const UNREACHABLE_MILLIS = 5_000;

/** Looks at the pods, and puts together everything that statuses are made from. */
export class Outlook {
  readonly #options: OutlookOptions;
  readonly #now: () => number;
  readonly #clock: RedisClock;
  readonly #readyPods = new ReadyPods();
  /** When everything could last be asked. */
  #askedAtMillis: number;

  constructor(options: OutlookOptions) {
    this.#options = options;
    this.#now = options.monotonicMillis ?? (() => performance.now());
    this.#clock = new RedisClock(this.#now);
    this.#askedAtMillis = this.#now();
  }

  async look(): Promise<Look> {
    const { desired } = this.#options.configurer;
    if (desired === undefined) return { world: undefined, isDisplaced: false };
    const answer = await this.#ask();
    if (!(answer instanceof StoreError)) {
      return { world: this.#world(desired, answer.reports), isDisplaced: answer.isDisplaced };
    }
    const isBrief = this.#now() - this.#askedAtMillis < UNREACHABLE_MILLIS;
    const world = isBrief ? undefined : { ...this.#world(desired, undefined), storeProblem: problemOf(answer) };
    return { world, isDisplaced: false, failure: answer };
  }

  /** What pods acknowledge, and whether head is where it should be; or why Redis cannot say. */
  async #ask(): Promise<{ reports: readonly PodReport[]; isDisplaced: boolean } | StoreError> {
    const { redis, names, configurer } = this.#options;
    try {
      // On another installation's Redis it is that one's pods that report; to list them would forget the silent ones.
      if (configurer.otherOwner !== undefined) {
        const isDisplaced = !(await configurer.isOwnedByOther());
        this.#askedAtMillis = this.#now();
        return { reports: [], isDisplaced };
      }
      const sentAt = this.#clock.monotonicMillis();
      const { pods, redisMicros } = await listPods(redis, names);
      this.#clock.observe(redisMicros, sentAt);
      const isDisplaced = await configurer.isDisplaced(pods);
      this.#askedAtMillis = this.#now();
      return { reports: pods, isDisplaced };
    } catch (error) {
      if (error instanceof StoreError) return error;
      throw error;
    }
  }

  #world(desired: World['desired'], reports: readonly PodReport[] | undefined): World {
    const nowMillis = this.#now();
    const nowMicros = this.#clock.nowMicros();
    const { publisher, consumers, changedAtMillis, otherOwner } = this.#options.configurer;
    return {
      desired,
      pods: reports && this.#readyPods.view(reports, this.#options.endpoints(), { nowMicros, nowMillis }),
      published: publisher.published,
      knows: (identity) => publisher.knows(identity),
      consumers,
      otherOwner,
      isOverdue: nowMillis - changedAtMillis > OVERDUE_MILLIS,
      nowMicros,
      now: `${new Date().toISOString().slice(0, 19)}Z`,
    };
  }
}

/** As the beginning of a sentence. What may pass by itself is an outage; of anything else people have to hear. */
function problemOf({ transient, code, message }: StoreError): string {
  return transient ? 'the operator cannot reach Redis' : `Redis does not hold what Sluice wrote (${code}: ${message})`;
}
