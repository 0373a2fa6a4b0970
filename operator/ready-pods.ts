import type { PodReport } from '../store/acknowledgements.ts';
import { STALE_AFTER_MICROS } from '../store/acknowledgements.ts';

/** A pod that has to enforce what is published. */
export type ReadyPod = PodReport & {
  /** It has been ready without a word for less than the grace: it is coming, or going. */
  readonly isPassing: boolean;
};

/** How long a ready pod may be silent, and all pods be gone, before what was enforced counts as not enforced. */
const GRACE_MILLIS = 5_000;

/**
 * Which pods have to enforce: those that Kubernetes sends requests to, heard of or not; where that is not known, those
 * heard of lately. Remembers since when each has been silent, as a rollout is no news for every object.
 */
export class ReadyPods {
  readonly #graceMillis: number;
  readonly #silentSinceMillis = new Map<string, number>();
  #last: readonly ReadyPod[] = [];
  #emptySinceMillis: number | undefined;

  constructor(graceMillis = GRACE_MILLIS) {
    this.#graceMillis = graceMillis;
  }

  /**
   * @param reports what pods said, by the time of Redis
   * @param endpoints names of the pods that requests are sent to, if that is known
   * @param clock `nowMicros` of Redis, `nowMillis` monotonic
   */
  view(
    reports: readonly PodReport[],
    endpoints: ReadonlySet<string> | undefined,
    clock: { readonly nowMicros: number; readonly nowMillis: number },
  ): readonly ReadyPod[] {
    const heard = reports.filter(
      ({ acknowledgement, heartbeatMicros }) =>
        acknowledgement.identity !== undefined && clock.nowMicros - heartbeatMicros <= STALE_AFTER_MICROS,
    );
    const pods =
      endpoints === undefined
        ? heard.map((report) => ({ ...report, isPassing: false }))
        : this.#ofEndpoints(heard, endpoints, clock);
    return this.#unlessJustGone(pods, clock.nowMillis);
  }

  #ofEndpoints(
    heard: readonly PodReport[],
    endpoints: ReadonlySet<string>,
    { nowMicros, nowMillis }: { readonly nowMicros: number; readonly nowMillis: number },
  ): ReadyPod[] {
    const byName = new Map(heard.map((report) => [report.acknowledgement.pod, report]));
    for (const pod of this.#silentSinceMillis.keys()) {
      if (!endpoints.has(pod) || byName.has(pod)) this.#silentSinceMillis.delete(pod);
    }
    return [...endpoints].map((pod) => {
      const report = byName.get(pod);
      if (report !== undefined) return { ...report, isPassing: false };
      const since = this.#silentSinceMillis.get(pod) ?? nowMillis;
      this.#silentSinceMillis.set(pod, since);
      const acknowledgement = { pod, instance: '', formats: [], keySequence: -1, problem: 'has not reported' };
      return { acknowledgement, heartbeatMicros: nowMicros, isPassing: nowMillis - since < this.#graceMillis };
    });
  }

  /** All at once gone is often a hiccup: for the grace, the last ones count as they were. */
  #unlessJustGone(pods: readonly ReadyPod[], nowMillis: number): readonly ReadyPod[] {
    if (pods.length > 0) {
      this.#emptySinceMillis = undefined;
      this.#last = pods;
      return pods;
    }
    this.#emptySinceMillis ??= nowMillis;
    if (nowMillis - this.#emptySinceMillis >= this.#graceMillis) this.#last = [];
    return this.#last;
  }
}
