// The engine of a limiter, put together: everything between a request that a door understood and its decision.
import { randomUUID } from 'node:crypto';
import { RedisClock } from '../store/clock.ts';
import { connect, type ConnectionEvents, disconnect, type Liveness, type RedisClient } from '../store/connection.ts';
import { findConsumerKey } from '../store/consumer-keys.ts';
import { within } from '../store/deadline.ts';
import { Decider } from '../store/decide.ts';
import { countInvalidKey } from '../store/invalid-keys.ts';
import { createNames, type Names } from '../store/names.ts';
import { engineOf } from './asked.ts';
import { Checker } from './check.ts';
import { DenyCache } from './deny-cache.ts';
import { DecisionLog } from './decision-log.ts';
import { DeniedList } from './denied.ts';
import type { DoorParts } from './door.ts';
import type { DoorSettings } from './door-settings.ts';
import { Identifier } from './identify.ts';
import { IPBlocks } from './ip-blocks.ts';
import { KeyCache } from './key-cache.ts';
import { exportLimits } from './limit-gauges.ts';
import { SnapshotLoader } from './load.ts';
import { LocalFallback } from './local-fallback.ts';
import { LimiterMetrics } from './metrics.ts';
import {
  type LimiterOptions,
  LOG_DENIED_PER_SECOND,
  MAX_REMEMBERED_DENIALS,
  MAX_SUBJECTS_PER_RULE,
} from './options.ts';
import { Charges, refundsOf } from './refunds.ts';
import { SubjectBudget } from './subject-budget.ts';
import { networksOf } from './trust.ts';

/** Decisions notice within two and a half seconds that Redis fell silent, whether anybody asks or not. */
const WATCHED: Liveness = { pingMillis: 500, silenceMillis: 2_000 };

const monotonicMillis = (): number => performance.now();

/** What the limiter has of Redis. */
export type Store = {
  readonly names: Names;
  readonly clock: RedisClock;
  /** Decisions have a connection of their own: a large document must not stand in front of them. */
  readonly decisions: RedisClient;
  readonly configuration: RedisClient;
  /** Whether decisions could be sent to Redis at some time. */
  hasConnected(): boolean;
  disconnect(): void;
};

/** The parts of a running limiter that its doors and its end need. */
export type Assembly = {
  readonly store: Store;
  readonly loader: SnapshotLoader;
  readonly decider: Decider;
  readonly denyCache: DenyCache;
  readonly checker: Checker;
  readonly charges: Charges;
  readonly metrics: LimiterMetrics;
  /** Once ready it stays so: losing Redis later makes the failure policies decide, which is serving. */
  isReady(): boolean;
};

/** Connects to Redis, and puts the engine together. Nothing follows the configuration until the loader is started. */
export function assemble(options: LimiterOptions): Assembly {
  const store = openStore(options, () => loader.refresh());
  const keys = new KeyCache({
    find: (name) =>
      within(options.redisDeadlineMillis, findConsumerKey(store.decisions, store.names, options.owner, name)),
    monotonicMillis,
  });
  const decider = deciderOf(options, store, () => metrics);
  const loader = loaderOf(options, { store, keys, decider });
  const isReady = (): boolean => loader.snapshot !== undefined && (store.hasConnected() || loader.isFromOperator);
  const metrics = metricsOf(options, { loader, decider, isReady });
  const denyCache = new DenyCache({
    decider,
    clock: store.clock,
    configuration: () => loader.snapshot?.identity.manifest ?? '',
    onRemembered: () => metrics.countRememberedDenial(),
    maxEntries: options.maxRememberedDenials ?? MAX_REMEMBERED_DENIALS,
  });
  const checker = checkerOf(options, { store, keys, loader, metrics, denyCache });
  const { decisions, names } = store;
  const charges = new Charges(decisions, names, options.redisDeadlineMillis, (subject) => denyCache.forget(subject));
  return { store, loader, decider, denyCache, checker, charges, metrics, isReady };
}

/** What every door needs of the engine. */
export function doorPartsOf(assembly: Assembly, options: LimiterOptions, doors: DoorSettings): DoorParts {
  const { checkDomain, log, logAllowedPerSecond = 0, logDeniedPerSecond = LOG_DENIED_PER_SECOND } = options;
  const { checker, charges, loader, metrics, store } = assembly;
  return {
    engine: engineOf(checker, charges),
    refunds: refundsOf(checker, charges),
    clock: store.clock,
    metrics,
    log,
    checkDomain,
    trustedCallers: networksOf(doors.trustedCallers),
    trustedProxies: networksOf(doors.trustedProxyCIDRs),
    headerFamilies: doors.headerFamilies,
    rlsHeaderFamilies: doors.rlsHeaderFamilies,
    denied: new DeniedList(),
    decisionLog: new DecisionLog({
      log,
      monotonicMillis,
      allowedPerSecond: logAllowedPerSecond,
      deniedPerSecond: logDeniedPerSecond,
    }),
    snapshot: () => loader.snapshot,
    isRedisReachable: () => loader.isRedisReachable,
  };
}

function openStore(options: LimiterOptions, onConfigurationReady: () => void): Store {
  let hasConnected = false;
  const noteConnected = (): void => {
    hasConnected = true;
  };
  const decisions = connectAs('decisions', options, noteConnected, WATCHED);
  const configuration = connectAs('configuration', options, onConfigurationReady);
  return {
    names: createNames(options.installation),
    clock: new RedisClock(),
    decisions,
    configuration,
    hasConnected: () => hasConnected,
    disconnect: () => [decisions, configuration].forEach(disconnect),
  };
}

function connectAs(
  role: string,
  { redisUrl, log }: LimiterOptions,
  onReady: () => void,
  liveness?: Liveness,
): RedisClient {
  const events: ConnectionEvents = {
    onDown: (message) => log.warn({ event: 'redis_down', role }, `Redis cannot be reached, trying again: ${message}`),
    onReady: () => {
      log.info({ event: 'redis_ready', role });
      onReady();
    },
  };
  return connect(redisUrl, events, liveness);
}

function deciderOf({ redisDeadlineMillis, log }: LimiterOptions, store: Store, metrics: () => LimiterMetrics): Decider {
  return new Decider(store.decisions, store.names, store.clock, {
    deadlineMillis: redisDeadlineMillis,
    onRoundTrip: (seconds) => metrics().observeRoundTrip(seconds),
    onBreakerTransition: (to) => {
      metrics().countBreakerTransition(to);
      if (to !== 'HALF_OPEN') log.warn({ event: 'breaker', state: to }, `the breaker before Redis is ${to}`);
    },
  });
}

function loaderOf(
  { snapshotUrl, owner, pod, log }: LimiterOptions,
  { store, keys, decider }: { readonly store: Store; readonly keys: KeyCache; readonly decider: Decider },
): SnapshotLoader {
  return new SnapshotLoader({
    snapshotUrl,
    redis: store.configuration,
    names: store.names,
    clock: store.clock,
    keys,
    log,
    owner,
    pod,
    instance: randomUUID(),
    isFailing: () => decider.isFailing,
  });
}

function metricsOf(
  { metricsDetail = 'Policy' }: LimiterOptions,
  { loader, decider, isReady }: Pick<Assembly, 'loader' | 'decider' | 'isReady'>,
): LimiterMetrics {
  const state = {
    revision: () => loader.snapshot?.identity.revision ?? 0,
    isReady,
    isRedisReachable: () => loader.isRedisReachable,
    inFlight: () => decider.inFlight,
    breaker: () => decider.breakerState,
    snapshotAgeSeconds: () => loader.ageSeconds,
  };
  const metrics = new LimiterMetrics(state, metricsDetail);
  exportLimits(metrics.registry, () => loader.snapshot, metricsDetail);
  return metrics;
}

type CheckerNeeds = Pick<Assembly, 'store' | 'loader' | 'metrics' | 'denyCache'> & { readonly keys: KeyCache };

function checkerOf(options: LimiterOptions, { store, keys, loader, metrics, denyCache }: CheckerNeeds): Checker {
  const { pepper, previousPepper, log } = options;
  return new Checker({
    decider: denyCache,
    identifier: new Identifier({ keys, peppers: previousPepper === undefined ? [pepper] : [pepper, previousPepper] }),
    ipBlocks: ipBlocksOf(options, store),
    clock: store.clock,
    metrics,
    fallback: new LocalFallback({ pods: () => loader.pods, monotonicMillis }),
    subjects: new SubjectBudget({
      monotonicMillis,
      onOverflow: (policy, rule, isFirst) => {
        metrics.countSubjectOverflow(policy, rule);
        if (isFirst) log.warn({ event: 'subject_overflow', policy, rule }, 'new subjects of this rule share counters');
      },
      maxSubjects: options.maxSubjectsPerRule ?? MAX_SUBJECTS_PER_RULE,
    }),
    unknownDomain: options.unknownDomain ?? 'Allow',
  });
}

function ipBlocksOf({ redisDeadlineMillis, log }: LimiterOptions, { decisions, names }: Store): IPBlocks {
  return new IPBlocks({
    count: (client, settings) => within(redisDeadlineMillis, countInvalidKey(decisions, names, client, settings)),
    monotonicMillis,
    onBlock: (domain, clientIP, forSeconds) =>
      log.warn({ event: 'security_alert', kind: 'ip_blocked', domain, client_ip: clientIP, for_seconds: forSeconds }),
  });
}
