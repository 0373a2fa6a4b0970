import { Counter, Gauge, Histogram, type Registry } from 'prom-client';
import type { ClientObserver } from '../kubernetes/api-client.ts';
import type { ElectionObserver } from '../kubernetes/leader-election.ts';
import { type ReflectorObserver, RESTART_REASONS } from '../kubernetes/reflector.ts';

const LATENCY_BUCKETS = [0.005, 0.025, 0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60];
const METHODS = ['GET', 'POST', 'PUT', 'PATCH'];
const CODES = ['200', '201', '401', '403', '404', '409', '429', '500', '<error>'];

/** Calls to the API server, under the names of client-go. */
export class ClientMetrics implements ClientObserver {
  readonly #requests: Counter;
  readonly #duration: Histogram;
  readonly #waited: Histogram;
  readonly #retries: Counter;
  readonly #hosts = new Set<string>();

  constructor(registry: Registry) {
    const registers = [registry];
    this.#requests = new Counter({
      name: 'rest_client_requests_total',
      help: 'Requests to the API server.',
      labelNames: ['code', 'method', 'host'],
      registers,
    });
    this.#duration = new Histogram({
      name: 'rest_client_request_duration_seconds',
      help: 'Time to the first byte of the answer.',
      labelNames: ['verb', 'host'],
      buckets: LATENCY_BUCKETS,
      registers,
    });
    this.#waited = new Histogram({
      name: 'rest_client_rate_limiter_duration_seconds',
      help: 'Time that requests wait for their turn.',
      labelNames: ['verb', 'host'],
      buckets: LATENCY_BUCKETS,
      registers,
    });
    this.#retries = new Counter({
      name: 'rest_client_request_retries_total',
      help: 'Requests sent again because the server was busy.',
      labelNames: ['code', 'verb', 'host'],
      registers,
    });
  }

  onRequest({ method, host, code, seconds }: Parameters<ClientObserver['onRequest']>[0]): void {
    this.#requests.inc({ code, method, host });
    this.#duration.observe({ verb: method, host }, seconds);
  }

  onRateLimited(method: string, host: string, seconds: number): void {
    if (!this.#hosts.has(host)) this.#initialise(host);
    this.#waited.observe({ verb: method, host }, seconds);
  }

  onRetry(method: string, host: string, code: string): void {
    this.#retries.inc({ code, verb: method, host });
  }

  #initialise(host: string): void {
    this.#hosts.add(host);
    for (const method of METHODS) {
      for (const code of CODES) this.#requests.inc({ code, method, host }, 0);
      this.#duration.zero({ verb: method, host });
      this.#waited.zero({ verb: method, host });
      for (const code of ['429', '500', '503']) this.#retries.inc({ code, verb: method, host }, 0);
    }
  }
}

/** Whether this operator leads, under the names of client-go. */
export class ElectionMetrics implements ElectionObserver {
  readonly #name: string;
  readonly #leading: Gauge;
  readonly #slow: Counter;

  constructor(registry: Registry, name: string) {
    this.#name = name;
    this.#leading = new Gauge({
      name: 'leader_election_master_status',
      help: '1 while this process leads.',
      labelNames: ['name'],
      registers: [registry],
    });
    this.#slow = new Counter({
      name: 'leader_election_slowpath_total',
      help: 'Attempts to take or renew the lease that failed.',
      labelNames: ['name'],
      registers: [registry],
    });
    this.#leading.set({ name }, 0);
    this.#slow.inc({ name }, 0);
  }

  onLeading(isLeading: boolean): void {
    this.#leading.set({ name: this.#name }, Number(isLeading));
  }

  onFailure(): void {
    this.#slow.inc({ name: this.#name });
  }
}

/** How each resource is followed. */
export class WatchMetrics implements ReflectorObserver {
  readonly #restarts: Counter;
  readonly #handlerErrors: Counter;
  readonly #eventAtMillis = new Map<string, number>();
  readonly #listAtMillis = new Map<string, number>();

  constructor(registry: Registry) {
    this.#restarts = new Counter({
      name: 'sluice_watch_restarts_total',
      help: 'Watches that ended, by why.',
      labelNames: ['resource', 'reason'],
      registers: [registry],
    });
    this.#handlerErrors = new Counter({
      name: 'sluice_watch_handler_errors_total',
      help: 'Events whose handling failed.',
      labelNames: ['resource'],
      registers: [registry],
    });
    ages(registry, 'sluice_watch_last_event_age_seconds', 'Since the last event or bookmark.', this.#eventAtMillis);
    ages(registry, 'sluice_watch_last_list_age_seconds', 'Since everything was listed last.', this.#listAtMillis);
  }

  onStart(resource: string): void {
    for (const reason of RESTART_REASONS) this.#restarts.inc({ resource, reason }, 0);
    this.#handlerErrors.inc({ resource }, 0);
  }

  onList(resource: string): void {
    this.#listAtMillis.set(resource, performance.now());
    this.#eventAtMillis.set(resource, performance.now());
  }

  onEvent(resource: string): void {
    this.#eventAtMillis.set(resource, performance.now());
  }

  onRestart(resource: string, reason: string): void {
    this.#restarts.inc({ resource, reason });
  }

  onHandlerError(resource: string): void {
    this.#handlerErrors.inc({ resource });
  }
}

function ages(registry: Registry, name: string, help: string, atMillis: ReadonlyMap<string, number>): void {
  const gauge: Gauge = new Gauge({
    name,
    help,
    labelNames: ['resource'],
    registers: [registry],
    collect: () => {
      for (const [resource, millis] of atMillis) gauge.set({ resource }, (performance.now() - millis) / 1000);
    },
  });
}
