// The limiter: follows the published configuration and answers, for each request, whether it may pass. Imports
// policy/ and store/; hands out one running limiter to cli/.
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import type { Server } from 'node:http';
import type { Redis } from 'ioredis';
import type { Logger } from 'pino';
import { subscribeToChanges, type Subscription } from '../store/changes.ts';
import { RedisClock } from '../store/clock.ts';
import { connect, type ConnectionEvents, disconnect, type Liveness } from '../store/connection.ts';
import { findConsumerKey } from '../store/consumer-keys.ts';
import { within } from '../store/deadline.ts';
import { Decider } from '../store/decide.ts';
import { createNames } from '../store/names.ts';
import { countInvalidKey } from '../store/invalid-keys.ts';
import { Checker } from './check.ts';
import { createOps } from './http/ops.ts';
import { createDoors } from './http/server.ts';
import { Identifier } from './identify.ts';
import { IPBlocks } from './ip-blocks.ts';
import { KeyCache } from './key-cache.ts';
import { SnapshotLoader } from './load.ts';
import { LocalFallback } from './local-fallback.ts';
import { LimiterMetrics } from './metrics.ts';

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
  readonly log: Logger;
};

/** What requests under way have to be answered in when the limiter stops. */
const CLOSE_MILLIS = 3_000;

/** Decisions notice within two and a half seconds that Redis fell silent, whether anybody asks or not. */
const WATCHED: Liveness = { pingMillis: 500, silenceMillis: 2_000 };

export type Limiter = { stop(): Promise<void> };

/** Resolves when both ports listen; whether a configuration is loaded then is what /readyz says. */
export async function startLimiter(options: LimiterOptions): Promise<Limiter> {
  const { log } = options;
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
  const isReady = (): boolean => loader.snapshot !== undefined && hasConnected;
  const metrics = new LimiterMetrics({
    revision: () => loader.snapshot?.identity.revision ?? 0,
    isReady,
    isRedisReachable: () => loader.isRedisReachable,
    inFlight: () => decider.inFlight,
    breaker: () => decider.breakerState,
  });
  const fallback = new LocalFallback({ pods: () => loader.pods, monotonicMillis: () => performance.now() });
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
  const checker = new Checker({ decider, identifier, ipBlocks, clock, metrics, fallback, unknownDomain });
  const state = { snapshot: () => loader.snapshot, isRedisReachable: () => loader.isRedisReachable };
  const doors = createDoors({ checker, clock, metrics, log, checkDomain: options.checkDomain, ...state });
  const ops = createOps({ metrics, isReady, problem: () => loader.problem });
  const subscription = subscribeToChanges(options.redisUrl, names, ['head', 'key'], () => loader.refresh());
  const running = { loader, decider, subscription, servers: [doors, ops], connections: [decisions, configuration] };
  try {
    await listen(doors, options.host, options.port);
    await listen(ops, options.host, options.opsPort);
  } catch (error) {
    await stop(running);
    throw error;
  }
  loader.start();
  log.info({ event: 'limiter_started', pod: options.pod, port: options.port, ops_port: options.opsPort });
  return { stop: () => stop(running) };
}

type Running = {
  readonly loader: SnapshotLoader;
  readonly decider: Decider;
  readonly subscription: Subscription;
  readonly servers: readonly Server[];
  readonly connections: readonly Redis[];
};

/** Leaves the list of pods, answers what is under way, then lets go of everything. */
async function stop({ loader, decider, subscription, servers, connections }: Running): Promise<void> {
  await loader.stop();
  await Promise.all(servers.map(close));
  subscription.close();
  decider.stop();
  connections.forEach(disconnect);
}

function connectAs(role: string, options: LimiterOptions, onReady: () => void, liveness?: Liveness): Redis {
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
