import { Counter, Gauge, Histogram, type Registry } from 'prom-client';
import type { QueueObserver } from '../work-queue.ts';

const RECONCILE_BUCKETS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60];
const QUEUE_BUCKETS = [0.00001, 0.0001, 0.001, 0.01, 0.1, 1, 10, 100];
const RESULTS = ['success', 'error', 'requeue', 'requeue_after'];

/** What happens to each key, under the names that controllers written in Go use: their dashboards then work. */
export class WorkMetrics implements QueueObserver {
  readonly #startedAtMillis = new Map<string, number>();
  readonly #total: Counter;
  readonly #errors: Counter;
  readonly #time: Histogram;
  readonly #active: Gauge;
  readonly #depth: Gauge;
  readonly #adds: Counter;
  readonly #queued: Histogram;
  readonly #worked: Histogram;
  readonly #retries: Counter;

  constructor(registry: Registry, controllers: readonly string[]) {
    const registers = [registry];
    const controller = ['controller'];
    const name = ['name', 'controller'];
    this.#total = new Counter({
      name: 'controller_runtime_reconcile_total',
      help: 'Passes of each controller, by result.',
      labelNames: ['controller', 'result'],
      registers,
    });
    this.#errors = new Counter({
      name: 'controller_runtime_reconcile_errors_total',
      help: 'Passes of each controller that failed.',
      labelNames: controller,
      registers,
    });
    this.#time = new Histogram({
      name: 'controller_runtime_reconcile_time_seconds',
      help: 'How long a pass of each controller takes.',
      labelNames: controller,
      buckets: RECONCILE_BUCKETS,
      registers,
    });
    this.#active = new Gauge({
      name: 'controller_runtime_active_workers',
      help: 'Passes that are under way.',
      labelNames: controller,
      registers,
    });
    this.#depth = new Gauge({ name: 'workqueue_depth', help: 'Keys that wait.', labelNames: name, registers });
    this.#adds = new Counter({ name: 'workqueue_adds_total', help: 'Keys queued.', labelNames: name, registers });
    this.#queued = new Histogram({
      name: 'workqueue_queue_duration_seconds',
      help: 'How long a key waits for its turn.',
      labelNames: name,
      buckets: QUEUE_BUCKETS,
      registers,
    });
    this.#worked = new Histogram({
      name: 'workqueue_work_duration_seconds',
      help: 'How long the work of a key takes.',
      labelNames: name,
      buckets: QUEUE_BUCKETS,
      registers,
    });
    this.#retries = new Counter({
      name: 'workqueue_retries_total',
      help: 'Keys that are tried again.',
      labelNames: name,
      registers,
    });
    const limit = new Gauge({
      name: 'controller_runtime_max_concurrent_reconciles',
      help: 'Passes that may be under way at once.',
      labelNames: controller,
      registers,
    });
    const panics = new Counter({
      name: 'controller_runtime_reconcile_panics_total',
      help: 'Always 0: a failure of any kind is an error here.',
      labelNames: controller,
      registers,
    });
    const terminal = new Counter({
      name: 'controller_runtime_terminal_reconcile_errors_total',
      help: 'Always 0: an error that cannot be tried again ends the process.',
      labelNames: controller,
      registers,
    });
    this.#running(registers, name);
    for (const key of controllers) {
      for (const result of RESULTS) this.#total.inc({ controller: key, result }, 0);
      for (const counter of [this.#errors, panics, terminal]) counter.inc({ controller: key }, 0);
      for (const counter of [this.#adds, this.#retries]) counter.inc(labelsOf(key), 0);
      this.#time.zero({ controller: key });
      for (const histogram of [this.#queued, this.#worked]) histogram.zero(labelsOf(key));
      this.#active.set({ controller: key }, 0);
      this.#depth.set(labelsOf(key), 0);
      limit.set({ controller: key }, 1);
    }
  }

  onAdd(key: string): void {
    this.#adds.inc(labelsOf(key));
    this.#depth.inc(labelsOf(key));
  }

  onStart(key: string, queuedSeconds: number): void {
    this.#depth.dec(labelsOf(key));
    this.#active.set({ controller: key }, 1);
    this.#queued.observe(labelsOf(key), queuedSeconds);
    this.#startedAtMillis.set(key, performance.now());
  }

  onDone(key: string, seconds: number, isSuccess: boolean): void {
    this.#startedAtMillis.delete(key);
    this.#active.set({ controller: key }, 0);
    this.#worked.observe(labelsOf(key), seconds);
    this.#time.observe({ controller: key }, seconds);
    this.#total.inc({ controller: key, result: isSuccess ? 'success' : 'error' });
    if (isSuccess) return;
    this.#errors.inc({ controller: key });
    this.#retries.inc(labelsOf(key));
  }

  /** What is under way shows before it ends: a pass that hangs must not be invisible. */
  #running(registers: Registry[], labelNames: string[]): void {
    for (const metric of ['workqueue_unfinished_work_seconds', 'workqueue_longest_running_processor_seconds']) {
      const gauge: Gauge = new Gauge({
        name: metric,
        help: 'How long the work that is under way has taken so far.',
        labelNames,
        registers,
        collect: () => {
          gauge.reset();
          for (const [key, since] of this.#startedAtMillis) {
            gauge.set(labelsOf(key), (performance.now() - since) / 1000);
          }
        },
      });
    }
  }
}

const labelsOf = (key: string): { name: string; controller: string } => ({ name: key, controller: key });
