// The limiter: follows the published configuration and answers, for each request, whether it may pass. Imports
// policy/ and store/; hands out one running limiter to cli/.
import { once } from 'node:events';
import type { Server } from 'node:http';
import { setTimeout as pause } from 'node:timers/promises';
import { subscribeToChanges, type Subscription } from '../store/changes.ts';
import { assemble, type Assembly, doorPartsOf } from './assemble.ts';
import type { DenyCache } from './deny-cache.ts';
import { DOOR_DEFAULTS, type DoorSettings } from './door-settings.ts';
import { explain } from './explain.ts';
import { createGrpcDoor, type GrpcDoor } from './grpc/server.ts';
import { createDoors, type HttpDoors } from './http/server.ts';
import { createOps } from './ops/server.ts';
import type { LimiterOptions } from './options.ts';
import { Penalties } from './penalties.ts';
import { networksOf } from './trust.ts';

/** How long callers have to close their connections. */
const LEAVE_MILLIS = 1_000;

/** What requests under way have to be answered in when the limiter stops. */
const CLOSE_MILLIS = 3_000;

export type Limiter = { stop(): Promise<void> };

/** Resolves when both ports listen; whether a configuration is loaded then is what /readyz says. */
export async function startLimiter(options: LimiterOptions): Promise<Limiter> {
  const { host, port, opsPort, pod, log } = options;
  const doors: DoorSettings = { ...DOOR_DEFAULTS, ...options.doors };
  const running = putDoors(assemble(options), options, doors);
  try {
    await listen(running.http.server, host, port);
    if (doors.grpcPort !== undefined) await running.grpc.listen(host, doors.grpcPort);
    await listen(running.ops, host, opsPort);
  } catch (error) {
    await stop(running, 0);
    throw error;
  }
  running.assembly.loader.start();
  log.info({ event: 'limiter_started', pod, port, grpc_port: doors.grpcPort, ops_port: opsPort });
  return { stop: () => stop(running, doors.drainMillis) };
}

type Running = {
  readonly phase: { isStopping: boolean };
  readonly assembly: Assembly;
  readonly subscription: Subscription;
  readonly http: HttpDoors;
  readonly grpc: GrpcDoor;
  readonly ops: Server;
};

/** The doors before the engine, none of them open yet; and what the engine must hear of. */
function putDoors(assembly: Assembly, options: LimiterOptions, doors: DoorSettings): Running {
  const { store, loader, checker, denyCache } = assembly;
  const phase = { isStopping: false };
  const isServing = (): boolean => assembly.isReady() && !phase.isStopping;
  const door = doorPartsOf(assembly, options, doors);
  const ops = createOps({
    door,
    operators: networksOf(doors.opsAllowed),
    penalties: new Penalties(store.decisions, store.names, options.redisDeadlineMillis),
    explain: (snapshot, asked) => explain(checker, snapshot, asked),
    isReady: isServing,
    problem: () => loader.problem,
  });
  const grpc = createGrpcDoor(door, isServing, {
    maxConnectionAgeMillis: doors.grpcMaxConnectionAgeMillis,
    tls: doors.tls,
  });
  const subscription = subscribeToChanges(options.redisUrl, store.names, ['head', 'key', 'pardon'], (change, detail) =>
    change === 'pardon' ? heedPardon(denyCache, detail) : loader.refresh(),
  );
  return { phase, assembly, subscription, http: createDoors(door, doors.tls), grpc, ops };
}

/**
 * First the pod says that it is not ready, and goes on answering until whoever sends requests has noticed: each answer
 * asks its caller to come back on another connection, to another pod. Then it answers what is under way, leaves the list
 * of pods, and lets go of everything.
 */
async function stop({ phase, assembly, subscription, http, grpc, ops }: Running, drainMillis: number): Promise<void> {
  const { store, loader, decider, denyCache } = assembly;
  phase.isStopping = true;
  http.drain();
  grpc.tellHealth();
  await pause(drainMillis);
  await untilLeft(http.server);
  await Promise.all([close(http), grpc.close(CLOSE_MILLIS)]);
  await loader.stop();
  await close(doorsOf(ops));
  subscription.close();
  await denyCache.stop();
  decider.stop();
  store.disconnect();
}

/** `<partition> <subject>`; undefined when some may have been missed. */
function heedPardon(denyCache: DenyCache, detail: string | undefined): void {
  const subject = detail?.split(' ')[1];
  if (subject === undefined) denyCache.clear();
  else denyCache.forget(subject);
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

type Closing = Pick<HttpDoors, 'server' | 'closeIdleConnections' | 'closeAllConnections'>;

const doorsOf = (server: Server): Closing => ({
  server,
  closeIdleConnections: () => server.closeIdleConnections(),
  closeAllConnections: () => server.closeAllConnections(),
});

async function close({ server, closeIdleConnections, closeAllConnections }: Closing): Promise<void> {
  if (!server.listening) return;
  const closed = once(server, 'close');
  server.close();
  // A connection that is answering now becomes idle later, and its client would keep it open.
  const sweep = setInterval(closeIdleConnections, 50);
  // One that never sends a request is not idle, and would keep us for ever.
  const impatience = setTimeout(closeAllConnections, CLOSE_MILLIS);
  await closed;
  clearInterval(sweep);
  clearTimeout(impatience);
}
