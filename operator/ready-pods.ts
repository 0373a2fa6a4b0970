import type { PodReport } from '../store/acknowledgements.ts';
import { STALE_AFTER_MICROS } from '../store/acknowledgements.ts';

/** A pod that has to enforce what is published. */
export type ReadyPod = PodReport & {
  /** It has been ready without a word for less than the grace: it is coming, or going. */
  readonly isPassing: boolean;
  /** For longer than the grace it has said that it cannot have its decisions from Redis: failure policies decide. */
  readonly isFailing: boolean;
};

type KnownPod = Omit<ReadyPod, 'isFailing'>;

/** How long a ready pod may be silent or failing, and all be gone, before what was enforced counts as not enforced. */
const GRACE_MILLIS = 5_000;
/** After a longer time without a look, as when Redis was away, silence says nothing of the pods yet. */
const GAP_MILLIS = 3_000;

/** `nowMicros` of Redis, `nowMillis` monotonic. */
type Clock = { readonly nowMicros: number; readonly nowMillis: number };

/**
 * Which pods have to enforce: those that Kubernetes sends requests to, heard of or not; where that is not known, those
 * heard of lately. Remembers since when each has been silent, as a rollout is no news for every object.
 */
export class ReadyPods {
  readonly #graceMillis: number;
  /** Of the pods that requests are sent to; undefined = it is heard. */
  readonly #silentSinceMillis = new Map<string, number | undefined>();
  readonly #failingSinceMillis = new Map<string, number>();
  #last: readonly ReadyPod[] = [];
  #emptySinceMillis: number | undefined;
  #viewedAtMillis: number | undefined;

  constructor(graceMillis = GRACE_MILLIS) {
    this.#graceMillis = graceMillis;
  }

  /**
   * @param reports what pods said, by the time of Redis
   * @param endpoints names of the pods that requests are sent to, if that is known
   */
  view(reports: readonly PodReport[], endpoints: ReadonlySet<string> | undefined, clock: Clock): readonly ReadyPod[] {
    const { nowMicros, nowMillis } = clock;
    const isFollowed = this.#viewedAtMillis !== undefined && nowMillis - this.#viewedAtMillis <= GAP_MILLIS;
    this.#viewedAtMillis = nowMillis;
    if (!isFollowed) {
      this.#silentSinceMillis.clear();
      this.#emptySinceMillis = undefined;
    }
    const heard = reports.filter(
      (report) => report.acknowledgement.identity !== undefined && isFresh(report, nowMicros),
    );
    if (endpoints !== undefined) {
      const pods = this.#ofEndpoints(heard, reports, { endpoints, clock });
      return this.#unlessJustGone(this.#withFailing(pods, nowMillis), nowMillis, nowMillis);
    }
    const pods = heard.map((report) => ({ ...report, isPassing: false }));
    const goneSince = isFollowed ? Math.max(...reports.map((report) => saidAtMillis(report, clock))) : nowMillis;
    const known = this.#withFailing(pods, nowMillis);
    return this.#unlessJustGone(known, nowMillis, reports.length === 0 ? nowMillis : goneSince);
  }

  #ofEndpoints(
    heard: readonly PodReport[],
    reports: readonly PodReport[],
    { endpoints, clock }: { readonly endpoints: ReadonlySet<string>; readonly clock: Clock },
  ): KnownPod[] {
    const { nowMicros, nowMillis } = clock;
    const heardByName = new Map(heard.map((report) => [report.acknowledgement.pod, report]));
    const reportByName = new Map(reports.map((report) => [report.acknowledgement.pod, report]));
    for (const pod of this.#silentSinceMillis.keys()) if (!endpoints.has(pod)) this.#silentSinceMillis.delete(pod);
    return [...endpoints].map((pod) => {
      const report = heardByName.get(pod);
      if (report !== undefined) {
        this.#silentSinceMillis.set(pod, undefined);
        return { ...report, isPassing: false };
      }
      const since = this.#silentSinceMillis.get(pod) ?? this.#beganSilence(pod, reportByName.get(pod), clock);
      this.#silentSinceMillis.set(pod, since);
      const problem = problemOf(reportByName.get(pod), nowMicros);
      const acknowledgement = { pod, instance: '', formats: [], keySequence: -1, problem };
      return { acknowledgement, heartbeatMicros: nowMicros, isPassing: nowMillis - since < this.#graceMillis };
    });
  }

  /** One that was heard and has not taken its leave has been silent since its last word; others are new, or going. */
  #beganSilence(pod: string, lastWord: PodReport | undefined, clock: Clock): number {
    const wasHeard = this.#silentSinceMillis.has(pod);
    return wasHeard && lastWord !== undefined ? saidAtMillis(lastWord, clock) : clock.nowMillis;
  }

  #withFailing(pods: readonly KnownPod[], nowMillis: number): ReadyPod[] {
    const failing = new Set(
      pods.flatMap(({ acknowledgement: { pod, decisions } }) => (decisions === 'failing' ? [pod] : [])),
    );
    for (const pod of this.#failingSinceMillis.keys()) if (!failing.has(pod)) this.#failingSinceMillis.delete(pod);
    for (const pod of failing) if (!this.#failingSinceMillis.has(pod)) this.#failingSinceMillis.set(pod, nowMillis);
    return pods.map((known) => {
      const since = this.#failingSinceMillis.get(known.acknowledgement.pod);
      return { ...known, isFailing: since !== undefined && nowMillis - since >= this.#graceMillis };
    });
  }

  /** All at once gone is often a hiccup: for the grace, the last ones count as they were. */
  #unlessJustGone(pods: readonly ReadyPod[], nowMillis: number, goneSinceMillis: number): readonly ReadyPod[] {
    if (pods.length > 0) {
      this.#emptySinceMillis = undefined;
      this.#last = pods;
      return pods;
    }
    this.#emptySinceMillis ??= goneSinceMillis;
    if (nowMillis - this.#emptySinceMillis >= this.#graceMillis) this.#last = [];
    return this.#last;
  }
}

const isFresh = ({ heartbeatMicros }: PodReport, nowMicros: number): boolean =>
  nowMicros - heartbeatMicros <= STALE_AFTER_MICROS;

/** Why a pod that requests are sent to enforces nothing: it may have loaded nothing, and say why. */
function problemOf(report: PodReport | undefined, nowMicros: number): string {
  if (report === undefined || !isFresh(report, nowMicros)) return 'has not reported';
  return report.acknowledgement.problem ?? 'has loaded nothing';
}

function saidAtMillis({ heartbeatMicros }: PodReport, { nowMicros, nowMillis }: Clock): number {
  return nowMillis - (nowMicros - heartbeatMicros) / 1000;
}
