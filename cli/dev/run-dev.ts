import { randomBytes } from 'node:crypto';
import { relative } from 'node:path';
import { z } from 'zod';
import { type Limiter, startLimiter } from '../../limiter/limiter.ts';
import { DirectorySource } from '../../operator/directory/directory-source.ts';
import type { FileProblem } from '../../operator/directory/read-yaml.ts';
import { Operator } from '../../operator/operator.ts';
import { type Problem, type RawResource } from '../../policy/resource.ts';
import { untilStopped } from '../until-stopped.ts';
import { type Console, createConsole } from './console.ts';
import { startDemoApp } from './demo-app.ts';
import { openRedis } from './open-redis.ts';
import { type DevPorts, portsFrom } from './ports.ts';

export type DevOptions = {
  readonly resources: string;
  /** PORT_BASE is added to every port; REDIS_URL names a Redis to use instead of finding or starting one. */
  readonly env: Readonly<Record<string, string | undefined>>;
};

const HOST = '127.0.0.1';
const CHECK_DOMAIN = 'demo.tiers';

/** Everything on this machine, until a signal; stops all that it started. Throws if something cannot start. */
export async function runDev({ resources, env }: DevOptions): Promise<void> {
  const stopped = untilStopped();
  const display = createConsole((text) => process.stdout.write(text));
  const ports = portsFrom(env['PORT_BASE']);
  await using stack = new AsyncDisposableStack();
  const redis = await openRedis({ url: env['REDIS_URL'], port: ports.redis, say: (text) => display.say(text) });
  stack.defer(() => redis.stop());
  const shared = {
    redisUrl: redis.url,
    installation: `dev-${ports.base}`,
    owner: 'dev',
    // Records of keys are written anew at every start, so the pepper need not outlive it.
    pepper: randomBytes(32).toString('base64url'),
  };
  const displaced = Promise.withResolvers<string>();
  const operator = new Operator({
    ...shared,
    source: new DirectorySource(resources, announcer(display)),
    log: display.logger('operator'),
    onFatal: (error) => displaced.resolve(error.message),
  });
  stack.defer(() => operator.stop());
  operator.start();
  for (const [index, limiter] of ports.limiters.entries()) {
    const running = await startDevLimiter(shared, `limiter-${index + 1}`, { limiter, display });
    stack.defer(() => running.stop());
  }
  const limiters = ports.limiters.map(({ http }) => `http://${HOST}:${http}`);
  const demo = await startDemoApp({ host: HOST, port: ports.demo, limiters });
  stack.defer(() => demo.stop());
  await untilReady(ports);
  welcome(display, ports, resources);
  const cause = await Promise.race([stopped, displaced.promise]);
  display.say(`stopping (${cause})`);
}

type Shared = {
  readonly redisUrl: string;
  readonly installation: string;
  readonly owner: string;
  readonly pepper: string;
};

function startDevLimiter(
  shared: Shared,
  pod: string,
  { limiter, display }: { limiter: DevPorts['limiters'][number]; display: Console },
): Promise<Limiter> {
  return startLimiter({
    ...shared,
    pod,
    host: HOST,
    port: limiter.http,
    opsPort: limiter.ops,
    checkDomain: CHECK_DOMAIN,
    redisDeadlineMillis: 500,
    doors: { grpcPort: limiter.grpc },
    log: display.logger(pod),
  });
}

/** Ready, or as ready as it gets while Redis is away: then the limiters say so themselves. */
async function untilReady(ports: DevPorts): Promise<void> {
  const deadline = performance.now() + 10_000;
  for (const { ops } of ports.limiters) {
    while (performance.now() < deadline) {
      const response = await fetch(`http://${HOST}:${ops}/readyz`).catch(() => undefined);
      await response?.body?.cancel();
      if (response?.status === 200) break;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
}

const condition = z.object({ type: z.string(), status: z.string(), reason: z.string(), message: z.string() });
const shownStatus = z.object({
  problems: z.array(z.object({ path: z.string(), reason: z.string(), message: z.string() })).default([]),
  effectiveMode: z.string().optional(),
  conditions: z.array(condition),
});

/** Prints what changes of an object's status: accepted or not, enforced or not, and the mode. */
function announcer(display: Console) {
  const lastShown = new Map<string, string>();
  return {
    onFileProblems: (problems: readonly FileProblem[]): void => {
      if (problems.length === 0) display.say('all files can be read again');
      for (const { file, place, message } of problems) {
        const where = place === undefined ? '' : `:${place.line}:${place.column}`;
        display.say(`error: ${shorten(file)}${where}: ${message}; what the file held before stays in force`);
      }
    },
    onStatus: (resource: RawResource, status: unknown, placeOf: (problem: Problem) => string): void => {
      const lines = describe(resource, shownStatus.parse(status), placeOf);
      const text = lines.join('\n');
      const name = `${resource.kind}/${resource.metadata.name}`;
      if (text === lastShown.get(name)) return;
      lastShown.set(name, text);
      lines.forEach((line) => display.say(line));
    },
  };
}

/** What is over in a moment, or said elsewhere. */
const PASSING = new Set(['Propagating', 'NotPublished', 'NoPods', 'RedisUnavailable']);

function describe(
  { kind, metadata }: RawResource,
  status: z.output<typeof shownStatus>,
  placeOf: (problem: Problem) => string,
): string[] {
  const name = `${kind}/${metadata.name}`;
  if (status.problems.length > 0) {
    const enforced = status.conditions.find(({ type }) => type === 'Enforced');
    return status.problems.map(
      (problem) =>
        `error: ${shorten(placeOf(problem))}: ${problem.path}: ${problem.message} (${name}: ${enforced?.message ?? 'not enforced'})`,
    );
  }
  const ready = status.conditions.find(({ type }) => type === 'Ready');
  if (ready === undefined || PASSING.has(ready.reason)) return [];
  const mode = status.effectiveMode === undefined ? '' : `, mode ${status.effectiveMode}`;
  return [ready.status === 'True' ? `${name} is enforced on every limiter${mode}` : `${name}: ${ready.message}`];
}

/** As one would type it from here. */
function shorten(path: string): string {
  const short = relative('.', path);
  return short.startsWith('..') ? path : short;
}

function welcome(display: Console, ports: DevPorts, resources: string): void {
  const demo = `http://localhost:${ports.demo}`;
  const [first, second] = ports.limiters;
  process.stdout.write(`
Sluice is running. Demo application ${demo}, limiters on ports ${first.http} and ${second.http} (gRPC ${first.grpc} and ${second.grpc}, ops ${first.ops} and ${second.ops}).
Try:

  curl -i ${demo}/api/data
  curl -i -H 'X-API-Key: demo_free_key_123' ${demo}/test
  curl -i -X POST -H 'content-type: application/json' -d '{"identifier":"test-client","tier":"free"}' http://localhost:${first.http}/check
  curl ${demo}/metrics

Edit a file in ${resources} and save it: set mode: DEGRADED in system-health.yaml, and /test allows the free tier 2 a minute.
Ctrl-C stops everything.

`);
  display.say('ready');
}
