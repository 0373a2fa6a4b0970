// The limiter: follows the published configuration and answers, for each request, whether it may pass. Imports
// policy/ and store/; hands out one running limiter to cli/.
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import type { Server } from 'node:http';
import { setTimeout as pause } from 'node:timers/promises';
import type { RedisClient } from '../store/connection.ts';
import type { Logger } from 'pino';
import { subscribeToChanges, type Subscription } from '../store/changes.ts';
import { RedisClock } from '../store/clock.ts';
import { connect, type ConnectionEvents, disconnect, type Liveness } from '../store/connection.ts';
import { findConsumerKey } from '../store/consumer-keys.ts';
import { within } from '../store/deadline.ts';
import { Decider } from '../store/decide.ts';
import { createNames } from '../store/names.ts';
import { countInvalidKey } from '../store/invalid-keys.ts';
import { engineOf } from './asked.ts';
import { Checker } from './check.ts';
import { DenyCache } from './deny-cache.ts';
import { DeniedList } from './denied.ts';
import type { DoorParts } from './door.ts';
import { DOOR_DEFAULTS, type DoorSettings } from './door-settings.ts';
import { explain } from './explain.ts';
import { createGrpcDoor, type GrpcDoor } from './grpc/server.ts';
import { createOps } from './ops/server.ts';
import { createDoors, type HttpDoors } from './http/server.ts';
import { Identifier } from './identify.ts';
import { IPBlocks } from './ip-blocks.ts';
import { KeyCache } from './key-cache.ts';
import { SnapshotLoader } from './load.ts';
import { LocalFallback } from './local-fallback.ts';
import { LimiterMetrics } from './metrics.ts';
import { Penalties } from './penalties.ts';
import { Charges, refundsOf } from './refunds.ts';
import { networksOf } from './trust.ts';
import { SubjectBudget } from './subject-budget.ts';

export type LimiterOptions = {
  readonly redisUrl: string;
  readonly installation: string;
  readonly owner: string;
  /** Name of this pod, unique in the installation. */
  readonly pod: string;
  /** The secret under which API keys are kept. */
  readonly pepper: string;
  /** While it is being replaced, the one before. */
  readonly previousPepper?: string | undefined;
  readonly host: string;
  readonly port: number;
  readonly opsPort: number;
  /** Domain of POST /check. */
  readonly checkDomain: string;
  /** What becomes of requests to a domain that no policy speaks of. Default: Allow. */
  readonly unknownDomain?: 'Allow' | 'Deny';
  readonly redisDeadlineMillis: number;
  /** Where the operator hands out the configuration in force, for a start while Redis is away. */
  readonly snapshotUrl?: string | undefined;
  /** What is not said here is as in DOOR_DEFAULTS. */
  readonly doors?: Partial<DoorSettings>;
  /** Denials that are answered from memory for up to a second; 0 = none. Default: 50,000. */
  readonly maxRememberedDenials?: number | undefined;
  /** Subjects of one rule in its longest window that have counters of their own. Default: 1,000,000. */
  readonly maxSubjectsPerRule?: number | undefined;
  readonly log: Logger;
};

/** How long callers have to close their connections. */
const LEAVE_MILLIS = 1_000;

/** What requests under way have to be answered in when the limiter stops. */
const CLOSE_MILLIS = 3_000;

/** Decisions notice within two and a half seconds that Redis fell silent, whether anybody asks or not. */
const WATCHED: Liveness = { pingMillis: 500, silenceMillis: 2_000 };

export type Limiter = { stop(): Promise<void> };

/** Resolves when both ports listen; whether a configuration is loaded then is what /readyz says. */
export async function startLimiter(options: LimiterOptions): Promise<Limiter> {
  const { log } = options;
  const doors: DoorSettings = { ...DOOR_DEFAULTS, ...options.doors };
  const names = createNames(options.installation);
  const clock = new RedisClock();
  // Decisions have a connection of their own: a large document must not stand in front of them.
  let hasConnected = false;
  const decisions = connectAs(
    'decisions',
    options,
    () => {
      hasConnected = true;
    },
    WATCHED,
  );
  const configuration = connectAs('configuration', options, () => loader.refresh());
  const keys = new KeyCache({
    find: (name) => within(options.redisDeadlineMillis, findConsumerKey(decisions, names, options.owner, name)),
    monotonicMillis: () => performance.now(),
  });
  const decider = new Decider(decisions, names, clock, {
    deadlineMillis: options.redisDeadlineMillis,
    onBreakerTransition: (to) => {
      metrics.countBreakerTransition(to);
      if (to !== 'HALF_OPEN') log.warn({ event: 'breaker', state: to }, `the breaker before Redis is ${to}`);
    },
  });
  const loader = new SnapshotLoader({
    snapshotUrl: options.snapshotUrl,
    redis: configuration,
    names,
    clock,
    keys,
    log,
    owner: options.owner,
    pod: options.pod,
    instance: randomUUID(),
    isFailing: () => decider.isFailing,
  });
  // Once ready it stays so: losing Redis later makes the failure policies decide, which is serving.
  const isReady = (): boolean => loader.snapshot !== undefined && (hasConnected || loader.isFromOperator);
  const metrics = new LimiterMetrics({
    revision: () => loader.snapshot?.identity.revision ?? 0,
    isReady,
    isRedisReachable: () => loader.isRedisReachable,
    inFlight: () => decider.inFlight,
    breaker: () => decider.breakerState,
  });
  const fallback = new LocalFallback({ pods: () => loader.pods, monotonicMillis: () => performance.now() });
  const denyCache = new DenyCache({
    decider,
    clock,
    configuration: () => loader.snapshot?.identity.manifest ?? '',
    onRemembered: () => metrics.countRememberedDenial(),
    ...(options.maxRememberedDenials === undefined ? {} : { maxEntries: options.maxRememberedDenials }),
  });
  const ipBlocks = new IPBlocks({
    count: (client, settings) =>
      within(options.redisDeadlineMillis, countInvalidKey(decisions, names, client, settings)),
    monotonicMillis: () => performance.now(),
    onBlock: (domain, clientIP, forSeconds) =>
      log.warn({ event: 'security_alert', kind: 'ip_blocked', domain, client_ip: clientIP, for_seconds: forSeconds }),
  });
  const { pepper, previousPepper } = options;
  const peppers = previousPepper === undefined ? [pepper] : [pepper, previousPepper];
  const identifier = new Identifier({ keys, peppers });
  const unknownDomain = options.unknownDomain ?? 'Allow';
  const subjects = new SubjectBudget({
    monotonicMillis: () => performance.now(),
    onOverflow: (policy, rule, isFirst) => {
      metrics.countSubjectOverflow(policy, rule);
      if (isFirst) log.warn({ event: 'subject_overflow', policy, rule }, 'new subjects of this rule share counters');
    },
    maxSubjects: options.maxSubjectsPerRule,
  });
  const checker = new Checker({
    decider: denyCache,
    identifier,
    ipBlocks,
    clock,
    metrics,
    fallback,
    subjects,
    unknownDomain,
  });
  const phase = { isStopping: false };
  const charges = new Charges(decisions, names, options.redisDeadlineMillis, (subject) => denyCache.forget(subject));
  const state = { snapshot: () => loader.snapshot, isRedisReachable: () => loader.isRedisReachable };
  const door: DoorParts = {
    engine: engineOf(checker, charges),
    refunds: refundsOf(checker, charges),
    clock,
    metrics,
    log,
    checkDomain: options.checkDomain,
    trustedCallers: networksOf(doors.trustedCallers),
    trustedProxies: networksOf(doors.trustedProxyCIDRs),
    headerFamilies: doors.headerFamilies,
    rlsHeaderFamilies: doors.rlsHeaderFamilies,
    denied: new DeniedList(),
    ...state,
  };
  const http = createDoors(door, doors.tls);
  const isServing = (): boolean => isReady() && !phase.isStopping;
  const grpc = createGrpcDoor(door, isServing, {
    maxConnectionAgeMillis: doors.grpcMaxConnectionAgeMillis,
    tls: doors.tls,
  });
  const ops = createOps({
    door,
    penalties: new Penalties(decisions, names, options.redisDeadlineMillis),
    explain: (snapshot, asked) => explain(checker, snapshot, asked),
    isReady: isServing,
    problem: () => loader.problem,
  });
  const subscription = subscribeToChanges(options.redisUrl, names, ['head', 'key', 'pardon'], (change, detail) =>
    change === 'pardon' ? heedPardon(denyCache, detail) : loader.refresh(),
  );
  const connections = [decisions, configuration];
  const running = { phase, loader, decider, denyCache, subscription, http, grpc, ops, connections };
  try {
    await listen(http.server, options.host, options.port);
    if (doors.grpcPort !== undefined) await grpc.listen(options.host, doors.grpcPort);
    await listen(ops, options.host, options.opsPort);
  } catch (error) {
    await stop(running, 0);
    throw error;
  }
  loader.start();
  const { pod, port, opsPort } = options;
  log.info({ event: 'limiter_started', pod, port, grpc_port: doors.grpcPort, ops_port: opsPort });
  return { stop: () => stop(running, doors.drainMillis) };
}

type Running = {
  readonly phase: { isStopping: boolean };
  readonly loader: SnapshotLoader;
  readonly decider: Decider;
  readonly denyCache: DenyCache;
  readonly subscription: Subscription;
  readonly http: HttpDoors;
  readonly grpc: GrpcDoor;
  readonly ops: Server;
  readonly connections: readonly RedisClient[];
};

/**
 * First the pod says that it is not ready, and goes on answering until whoever sends requests has noticed: each answer
 * asks its caller to come back on another connection, to another pod. Then it answers what is under way, leaves the list
 * of pods, and lets go of everything.
 */
async function stop(running: Running, drainMillis: number): Promise<void> {
  const { phase, loader, decider, denyCache, subscription, http, grpc, ops, connections } = running;
  phase.isStopping = true;
  http.drain();
  grpc.tellHealth();
  await pause(drainMillis);
  await untilLeft(http.server);
  await Promise.all([close(http.server), grpc.close(CLOSE_MILLIS)]);
  await loader.stop();
  await close(ops);
  subscription.close();
  await denyCache.stop();
  decider.stop();
  connections.forEach(disconnect);
}

/** `<partition> <subject>`; undefined when some may have been missed. */
function heedPardon(denyCache: DenyCache, detail: string | undefined): void {
  const subject = detail?.split(' ')[1];
  if (subject === undefined) denyCache.clear();
  else denyCache.forget(subject);
}

function connectAs(role: string, options: LimiterOptions, onReady: () => void, liveness?: Liveness): RedisClient {
  const events: ConnectionEvents = {
    onDown: (message) =>
      options.log.warn({ event: 'redis_down', role }, `Redis cannot be reached, trying again: ${message}`),
    onReady: () => {
      options.log.info({ event: 'redis_ready', role });
      onReady();
    },
  };
  return connect(options.redisUrl, events, liveness);
}

async function listen(server: Server, host: string, port: number): Promise<void> {
  server.listen(port, host);
  await once(server, 'listening');
}

/**
 * Callers close their connections once an answer tells them to. To close one that stays open for the next request would
 * fail the request that is just arriving on it, and a check is never sent twice.
 */
async function untilLeft(server: Server): Promise<void> {
  const deadline = performance.now() + LEAVE_MILLIS;
  while (performance.now() < deadline && (await connectionsOf(server)) > 0) await pause(20);
}

function connectionsOf(server: Server): Promise<number> {
  return new Promise((resolve, reject) => {
    server.getConnections((error, count) => (error === null ? resolve(count) : reject(error)));
  });
}

async function close(server: Server): Promise<void> {
  if (!server.listening) return;
  const closed = once(server, 'close');
  server.close();
  // A connection that is answering now becomes idle later, and its client would keep it open.
  const sweep = setInterval(() => server.closeIdleConnections(), 50);
  // One that never sends a request is not idle, and would keep us for ever.
  const impatience = setTimeout(() => server.closeAllConnections(), CLOSE_MILLIS);
  await closed;
  clearInterval(sweep);
  clearTimeout(impatience);
}
