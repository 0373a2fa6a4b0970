import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from 'prom-client';
import type { Decision } from '../policy/decision.ts';
import type { BreakerState } from '../store/breaker.ts';

/** Series of one metric; further label values are counted under OTHER. */
const MAX_SERIES = 10_000;
const OTHER = 'other';

/** What a scrape asks of the limiter. */
export type LimiterState = {
  readonly revision: () => number;
  readonly isReady: () => boolean;
  readonly isRedisReachable: () => boolean;
  readonly inFlight: () => number;
  readonly breaker: () => BreakerState;
  /** Since it was last known that what is enforced is what is published; NaN while nothing is. */
  readonly snapshotAgeSeconds: () => number;
};

/** How finely decisions are told apart: finer makes more series. */
export const METRICS_DETAILS = ['Domain', 'Policy', 'Rule'] as const;
export type MetricsDetail = (typeof METRICS_DETAILS)[number];

const DECISION_LABELS: Readonly<Record<MetricsDetail, readonly string[]>> = {
  Domain: ['domain', 'action', 'reason'],
  Policy: ['domain', 'policy', 'action', 'reason'],
  Rule: ['domain', 'policy', 'rule', 'tier', 'action', 'reason'],
};

/** What a caller that is not trusted may say in vain. */
export type UntrustedWord = 'consumer' | 'tenant' | 'tier' | 'ip' | 'cost' | 'header' | 'forwarded' | 'limit';

const SECONDS_BUCKETS = [0.0001, 0.00025, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05];

const BREAKER_VALUES: Readonly<Record<BreakerState, number>> = { CLOSED: 0, HALF_OPEN: 1, OPEN: 2 };

/** Counts on the hot path are plain numbers; they become series when they are scraped. */
class Tally {
  readonly #counts = new Map<string, { labels: Record<string, string>; value: number }>();

  add(key: string, labels: () => Record<string, string>): void {
    const known = this.#counts.get(key);
    if (known !== undefined) {
      known.value += 1;
      return;
    }
    if (this.#counts.size < MAX_SERIES || key === OTHER) {
      this.#counts.set(key, { labels: labels(), value: 1 });
      return;
    }
    const other = Object.fromEntries(Object.keys(labels()).map((name) => [name, OTHER]));
    this.add(OTHER, () => other);
  }

  publish(counter: Counter): void {
    counter.reset();
    for (const { labels, value } of this.#counts.values()) counter.inc(labels, value);
  }
}

/** Everything that the limiter exports to Prometheus. Labels come from resources and code, never from requests. */
export class LimiterMetrics {
  readonly registry = new Registry();
  readonly #decisions = new Tally();
  readonly #missing = new Tally();
  readonly #storeErrors = new Tally();
  readonly #breakerTransitions = new Tally();
  readonly #refused = new Tally();
  readonly #subjectOverflows = new Tally();
  readonly #failOpens = new Tally();
  readonly #untrustedWords = new Tally();
  readonly #detail: MetricsDetail;
  readonly #rememberedDenials: Counter;
  readonly #duration: Histogram;
  readonly #roundTrip: Histogram;

  constructor(state: LimiterState, detail: MetricsDetail = 'Policy') {
    this.#detail = detail;
    // Among them the lag of the event loop: nodejs_eventloop_lag_seconds and its quantiles.
    collectDefaultMetrics({ register: this.registry });
    this.#exportCounters();
    const registers = [this.registry];
    this.#rememberedDenials = new Counter({
      name: 'sluice_remembered_denials_total',
      help: 'Denials that were answered from memory, without asking Redis.',
      registers,
    });
    this.#duration = new Histogram({
      name: 'sluice_decision_duration_seconds',
      help: 'Time from a parsed request to its decision.',
      buckets: SECONDS_BUCKETS,
      registers,
    });
    this.#roundTrip = new Histogram({
      name: 'sluice_redis_round_trip_seconds',
      help: 'Time from a call of the decision script, which decides a batch, to its reply.',
      buckets: SECONDS_BUCKETS,
      registers,
    });
    this.#exportState(state);
  }

  #exportCounters(): void {
    const labels = [...DECISION_LABELS[this.#detail]];
    this.#counter('sluice_decisions_total', 'Decisions by outcome.', labels, this.#decisions);
    this.#counter(
      'sluice_rule_input_missing_total',
      'Requests to which a rule did not apply because they lack what it matches or counts by.',
      ['policy', 'rule', 'input'],
      this.#missing,
    );
    this.#counter(
      'sluice_store_errors_total',
      'Requests that could not be decided as written, by cause.',
      ['code'],
      this.#storeErrors,
    );
    this.#counter(
      'sluice_breaker_transitions_total',
      'How often the breaker before Redis changed its state, by the new one.',
      ['to'],
      this.#breakerTransitions,
    );
    this.#counter(
      'sluice_requests_refused_total',
      'Requests that could not be judged for what they say, by what is wrong with them.',
      ['code'],
      this.#refused,
    );
    this.#counter(
      'sluice_subject_overflow_total',
      'Requests of new subjects that shared a counter, because the rule had too many subjects in its window.',
      ['policy', 'rule'],
      this.#subjectOverflows,
    );
    this.#counter(
      'sluice_fail_open_total',
      'Requests that passed uncounted, because Redis could not decide and a rule says Open.',
      ['domain'],
      this.#failOpens,
    );
    this.#counter(
      'sluice_untrusted_words_total',
      'Requests of callers that are not trusted which said what only trusted callers may, and were not believed.',
      ['kind'],
      this.#untrustedWords,
    );
  }

  #exportState(state: LimiterState): void {
    const registers = [this.registry];
    gauge(
      registers,
      'sluice_snapshot_revision',
      'Revision of the configuration that is enforced; 0 = none.',
      state.revision,
    );
    gauge(registers, 'sluice_ready', 'Whether a configuration is enforced.', () => Number(state.isReady()));
    gauge(registers, 'sluice_redis_reachable', 'Whether the last heartbeat reached Redis.', () =>
      Number(state.isRedisReachable()),
    );
    gauge(registers, 'sluice_decisions_in_flight', 'Decisions that wait for Redis.', state.inFlight);
    gauge(
      registers,
      'sluice_breaker_state',
      'The breaker before Redis: 0 = closed, 1 = half open, 2 = open.',
      () => BREAKER_VALUES[state.breaker()],
    );
    gauge(
      registers,
      'sluice_snapshot_age_seconds',
      'Time since it was last known that the enforced configuration is the published one; NaN without one.',
      state.snapshotAgeSeconds,
    );
  }

  countDecision(domain: string, { action, reason, reported }: Decision, tier?: string): void {
    switch (this.#detail) {
      case 'Domain':
        this.#decisions.add(`${domain} ${action} ${reason}`, () => ({ domain, action, reason }));
        return;
      case 'Policy': {
        const policy = reported?.policy ?? '';
        this.#decisions.add(`${domain} ${policy} ${action} ${reason}`, () => ({ domain, policy, action, reason }));
        return;
      }
      case 'Rule': {
        const { policy = '', rule = '' } = reported ?? {};
        const of = reported?.tier ?? tier ?? '';
        const key = `${domain} ${policy} ${rule} ${of} ${action} ${reason}`;
        this.#decisions.add(key, () => ({ domain, policy, rule, tier: of, action, reason }));
      }
    }
  }

  countFailOpen(domain: string): void {
    this.#failOpens.add(domain, () => ({ domain }));
  }

  countUntrustedWord(kind: UntrustedWord): void {
    this.#untrustedWords.add(kind, () => ({ kind }));
  }

  countMissingInput(policy: string, rule: string, input: string): void {
    this.#missing.add(`${policy} ${rule} ${input}`, () => ({ policy, rule, input }));
  }

  countStoreError(code: string): void {
    this.#storeErrors.add(code, () => ({ code }));
  }

  countSubjectOverflow(policy: string, rule: string): void {
    this.#subjectOverflows.add(`${policy} ${rule}`, () => ({ policy, rule }));
  }

  countRememberedDenial(): void {
    this.#rememberedDenials.inc();
  }

  countBreakerTransition(to: BreakerState): void {
    this.#breakerTransitions.add(to, () => ({ to }));
  }

  /** `code` is one of a fixed set, never text of a request. */
  countRefused(code: string): void {
    this.#refused.add(code, () => ({ code }));
  }

  observeDuration(seconds: number): void {
    this.#duration.observe(seconds);
  }

  observeRoundTrip(seconds: number): void {
    this.#roundTrip.observe(seconds);
  }

  #counter(name: string, help: string, labelNames: string[], tally: Tally): void {
    const counter: Counter = new Counter({
      name,
      help,
      labelNames,
      registers: [this.registry],
      collect: () => tally.publish(counter),
    });
  }
}

function gauge(registers: Registry[], name: string, help: string, read: () => number): void {
  const metric: Gauge = new Gauge({ name, help, registers, collect: () => metric.set(read()) });
}
