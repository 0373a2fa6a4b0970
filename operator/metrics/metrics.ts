import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from 'prom-client';
import type { RawResource } from '../../policy/resource.ts';
import { allKinds } from '../../policy/schema/kinds.ts';
import type { ReadyPod } from '../ready-pods.ts';
import { conditionsOf } from '../report.ts';
import { ClientMetrics, ElectionMetrics, WatchMetrics } from './cluster.ts';
import { WorkMetrics } from './work.ts';

export type OperatorMetricsOptions = {
  readonly controllers: readonly string[];
  /** Name of the lease. */
  readonly lease: string;
};

const CONDITIONS = ['Accepted', 'Enforced', 'Ready'];
const STATUSES = ['True', 'False', 'Unknown'];
const PUBLISH_BUCKETS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];
const PROPAGATION_BUCKETS = [0.1, 0.25, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10, 30, 60];
/** Revisions that pods are counted by; those behind further are one. */
const MAX_REVISIONS = 20;
const OLDER = 'older';
const NONE = 'none';

/** Everything that the operator exports to Prometheus. Every label value that can be known is there from the start. */
export class OperatorMetrics {
  readonly registry = new Registry();
  readonly work: WorkMetrics;
  readonly client: ClientMetrics;
  readonly election: ElectionMetrics;
  readonly watch: WatchMetrics;
  readonly #revision: Gauge;
  readonly #publishes: Counter;
  readonly #publishDuration: Histogram;
  readonly #objects: Gauge;
  readonly #pods: Gauge;
  readonly #propagation: Histogram;
  readonly #repairs: Counter;
  readonly #events: Counter;
  #resources: () => readonly RawResource[] = () => [];

  constructor({ controllers, lease }: OperatorMetricsOptions) {
    collectDefaultMetrics({ register: this.registry });
    const registers = [this.registry];
    this.work = new WorkMetrics(this.registry, controllers);
    this.client = new ClientMetrics(this.registry);
    this.election = new ElectionMetrics(this.registry, lease);
    this.watch = new WatchMetrics(this.registry);
    this.#revision = new Gauge({
      name: 'sluice_published_revision',
      help: 'Revision that this operator published last; 0 = none.',
      registers,
    });
    this.#publishes = new Counter({
      name: 'sluice_publish_total',
      help: 'Attempts to publish, by result.',
      labelNames: ['result'],
      registers,
    });
    for (const result of ['success', 'error']) this.#publishes.inc({ result }, 0);
    this.#publishDuration = new Histogram({
      name: 'sluice_publish_duration_seconds',
      help: 'How long it takes to write a new revision.',
      buckets: PUBLISH_BUCKETS,
      registers,
    });
    this.#objects = new Gauge({
      name: 'sluice_objects',
      help: 'Objects by kind, condition and its status.',
      labelNames: ['kind', 'condition', 'status'],
      registers,
      // When somebody asks: to count after every edit would cost more than the edit.
      collect: () => this.#countObjects(),
    });
    this.#pods = new Gauge({
      name: 'sluice_limiter_pods',
      help: 'Ready limiter pods by the revision that they acknowledge.',
      labelNames: ['revision'],
      registers,
    });
    this.onPods([]);
    this.#propagation = new Histogram({
      name: 'sluice_propagation_seconds',
      help: 'From the moment that the operator saw an edit until its status said Enforced.',
      buckets: PROPAGATION_BUCKETS,
      registers,
    });
    this.#repairs = new Counter({
      name: 'sluice_store_repairs_total',
      help: 'Times that Redis had lost some of what is published, and it was written again.',
      registers,
    });
    this.#events = new Counter({
      name: 'sluice_events_total',
      help: 'Events for people, by what became of them.',
      labelNames: ['result'],
      registers,
    });
    for (const result of ['written', 'dropped', 'failed']) this.#events.inc({ result }, 0);
  }

  onRepair(): void {
    this.#repairs.inc();
  }

  onEvent(result: string): void {
    this.#events.inc({ result });
  }

  onPublished(revision: number, seconds: number): void {
    this.#revision.set(revision);
    this.#publishes.inc({ result: 'success' });
    this.#publishDuration.observe(seconds);
  }

  onPublishFailed(): void {
    this.#publishes.inc({ result: 'error' });
  }

  onPropagated(seconds: number): void {
    this.#propagation.observe(seconds);
  }

  /** Where the objects are whose statuses this operator writes. */
  follow(resources: () => readonly RawResource[]): void {
    this.#resources = resources;
  }

  #countObjects(): void {
    const counts = new Map<string, number>();
    for (const { kind, status } of this.#resources()) {
      for (const condition of conditionsOf(status)) {
        const key = `${kind} ${condition.type} ${condition.status}`;
        counts.set(key, (counts.get(key) ?? 0) + 1);
      }
    }
    for (const kind of allKinds) {
      for (const condition of CONDITIONS) {
        for (const status of STATUSES) {
          this.#objects.set({ kind, condition, status }, counts.get(`${kind} ${condition} ${status}`) ?? 0);
        }
      }
    }
  }

  onPods(pods: readonly ReadyPod[]): void {
    const revisions = pods.map(({ acknowledgement }) => acknowledgement.identity?.revision);
    const known = revisions.filter((revision) => revision !== undefined);
    const shown = new Set([...new Set(known)].toSorted((one, other) => other - one).slice(0, MAX_REVISIONS));
    this.#pods.reset();
    this.#pods.set({ revision: NONE }, 0);
    for (const revision of revisions) {
      const label = revision === undefined ? NONE : shown.has(revision) ? String(revision) : OLDER;
      this.#pods.inc({ revision: label });
    }
  }
}
