import { setTimeout as pause } from 'node:timers/promises';
import { join } from 'node:path';
import { Redis } from 'ioredis';
import { findRedisServer, startRedis } from '../cli/dev/find-redis.ts';
import { createNames } from '../store/names.ts';
import { freePort } from '../test/harness/redis.ts';
import { type Caller, callers } from './callers.ts';
import { CONNECTIONS, drive, Unmeasurable } from './load.ts';
import { scrape } from './prometheus.ts';
import { publishPolicies } from './publish-policies.ts';
import type { Turn } from './ratios.ts';
import { type ServerProcess, startServer } from './server-process.ts';
import { POLICIES, problemWith, type Target } from './targets.ts';

const HOST = '127.0.0.1';
const INSTALLATION = 'bench';
const PEPPER = 'nothing here uses API keys';

/** Far above any answer: a pause of a busy machine must not turn decisions into the failure policy's. */
const REDIS_DEADLINE_MILLIS = 5_000;

/** After a turn, for the last answers to arrive and the connections to close. */
const SETTLE_MILLIS = 100;

type Server = { readonly process: ServerProcess; readonly url: string; readonly metricsUrl: string };

type Counts = { readonly redisCpuSeconds: number; readonly series: ReadonlyMap<string, number> };

/** A private Redis and the three servers, each a process of its own, and what can be done to them. */
export class Rig implements AsyncDisposable {
  readonly redis: Redis;
  readonly #servers: Readonly<Record<Target['server'], Server>>;
  readonly #stack: AsyncDisposableStack;
  readonly #signal: AbortSignal;
  readonly #callers: readonly Caller[] = callers();

  private constructor(parts: {
    redis: Redis;
    servers: Readonly<Record<Target['server'], Server>>;
    stack: AsyncDisposableStack;
    signal: AbortSignal;
  }) {
    this.redis = parts.redis;
    this.#servers = parts.servers;
    this.#stack = parts.stack;
    this.#signal = parts.signal;
  }

  /** Throws if anything does not start; what was started is stopped then. */
  static async start(signal: AbortSignal): Promise<Rig> {
    await using stack = new AsyncDisposableStack();
    const redisProcess = await startRedis(await findRedisServer(), { port: await freePort() });
    stack.defer(() => redisProcess.stop());
    signal.throwIfAborted();
    const redis = stack.adopt(new Redis(redisProcess.url), (connection) => connection.disconnect());
    // What the loss of Redis means is seen by those who are measured.
    redis.on('error', () => undefined);
    await publishPolicies(redis, createNames(INSTALLATION), INSTALLATION, POLICIES);
    const begin = async (starting: Promise<Server>): Promise<Server> => {
      const server = await starting;
      stack.defer(() => server.process.stop());
      return server;
    };
    const servers = {
      bare: await begin(startFloor('bare', redisProcess.url, signal)),
      evalsha: await begin(startFloor('evalsha', redisProcess.url, signal)),
      limiter: await begin(startLimiter(redisProcess.url, signal)),
    };
    return new Rig({ redis, servers, stack: stack.move(), signal });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack.disposeAsync();
  }

  /** Shows that a target does the work that it is measured for: each rule counts. Throws Unmeasurable. */
  async prove(target: Target): Promise<void> {
    const stranger = { consumer: 'stranger', tenant: 'stranger', ip: '203.0.113.9', path: '/v1/orders' };
    const before = new Set(await this.redis.keys('*'));
    await this.#ask(target, stranger);
    const made = (await this.redis.keys('*')).filter((key) => !before.has(key)).length;
    if (made !== target.keysOfFirstRequest)
      throw new Unmeasurable(`${target.name} made ${made} keys in Redis, not ${target.keysOfFirstRequest}`);
  }

  /** One request of each caller: where a limit admits one, that is used up then. */
  async prime(target: Target): Promise<void> {
    for (const caller of this.#callers) await this.#ask(target, caller);
  }

  /** One turn. Throws Unmeasurable, also if the limiter counted other decisions than it answered. */
  async measure(target: Target): Promise<Turn> {
    const server = this.#servers[target.server];
    try {
      const before = await this.#counts(server);
      const result = await drive({
        url: server.url + target.path,
        bodies: this.#callers.map((caller) => JSON.stringify(target.bodyOf(caller))),
        problemWith: (answer) => problemWith(target, answer),
        signal: this.#signal,
      });
      await pause(SETTLE_MILLIS, undefined, { signal: this.#signal });
      const after = await this.#countsAtRest(server);
      if (target.countedAs !== undefined) compareCounts(target.countedAs, result.responses, grown(before, after));
      return {
        ...result,
        serverCpuSeconds: cpuSecondsOf(after) - cpuSecondsOf(before),
        redisCpuSeconds: after.redisCpuSeconds - before.redisCpuSeconds,
      };
    } catch (error) {
      this.#signal.throwIfAborted();
      const what = error instanceof Error ? error.message : String(error);
      throw new Unmeasurable(`${target.name}: ${what}\n${server.process.output()}`.trim(), { cause: error });
    }
  }

  async #ask(target: Target, caller: Caller): Promise<void> {
    const response = await fetch(this.#servers[target.server].url + target.path, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(target.bodyOf(caller)),
      signal: this.#signal,
    });
    if (response.status !== 200) throw new Unmeasurable(`${target.name}: ${response.status} ${await response.text()}`);
    await response.body?.cancel();
  }

  /** Once no decision waits for Redis: what is still under way would be counted in another turn. */
  async #countsAtRest(server: Server): Promise<Counts> {
    for (;;) {
      const counts = await this.#counts(server);
      if ((counts.series.get('sluice_decisions_in_flight') ?? 0) === 0) return counts;
      await pause(SETTLE_MILLIS, undefined, { signal: this.#signal });
    }
  }

  async #counts(server: Server): Promise<Counts> {
    const info = await this.redis.info('cpu');
    const used = [...info.matchAll(/^used_cpu_(?:sys|user):([\d.]+)/gm)].map(([, seconds]) => Number(seconds));
    return {
      redisCpuSeconds: used.reduce((sum, seconds) => sum + seconds, 0),
      series: await scrape(server.metricsUrl),
    };
  }
}

const cpuSecondsOf = ({ series }: Counts): number => series.get('process_cpu_seconds_total') ?? Number.NaN;

/** What the limiter says of its requests, as far as it grew. */
function grown(before: Counts, after: Counts): Map<string, number> {
  const growth = new Map<string, number>();
  for (const [series, value] of after.series) {
    if (!/^sluice_(decisions|rule_input_missing|store_errors)_total/.test(series)) continue;
    const more = value - (before.series.get(series) ?? 0);
    if (more !== 0) growth.set(series, more);
  }
  return growth;
}

/** Samples could miss a wrong answer; the limiter's own count has all of them. */
function compareCounts(countedAs: string, responses: number, growth: ReadonlyMap<string, number>): void {
  const counted = growth.get(countedAs) ?? 0;
  // At the end of a turn each connection has one request under way, whose answer nobody reads.
  const isPlausible = counted >= responses && counted <= responses + CONNECTIONS;
  if (isPlausible && growth.size === 1) return;
  const said = [...growth].map(([series, more]) => `${series} ${more}`).join('\n');
  throw new Unmeasurable(`${responses} answers should be counted as ${countedAs} and nothing else, but:\n${said}`);
}

async function startFloor(name: 'bare' | 'evalsha', redisUrl: string, signal: AbortSignal): Promise<Server> {
  const port = await freePort();
  const url = `http://${HOST}:${port}`;
  const metricsUrl = `${url}/metrics`;
  const spec = {
    name: `the server "${name}"`,
    args: [join(import.meta.dirname, 'servers', `${name}.ts`)],
    env: { PORT: String(port), REDIS_URL: redisUrl },
    readyUrl: metricsUrl,
  };
  return { process: await startServer(spec, signal), url, metricsUrl };
}

async function startLimiter(redisUrl: string, signal: AbortSignal): Promise<Server> {
  const [port, opsPort] = [await freePort(), await freePort()];
  const settings = {
    'redis-url': redisUrl,
    installation: INSTALLATION,
    owner: INSTALLATION,
    pepper: PEPPER,
    'log-level': 'warn',
    host: HOST,
    port,
    'ops-port': opsPort,
    'grpc-port': await freePort(),
    'pod-name': 'limiter',
    'redis-deadline-ms': REDIS_DEADLINE_MILLIS,
  };
  const opsUrl = `http://${HOST}:${opsPort}`;
  const spec = {
    name: 'the limiter',
    args: [
      join(import.meta.dirname, '../cli/main.ts'),
      'limiter',
      ...Object.entries(settings).flatMap(([flag, value]) => [`--${flag}`, String(value)]),
    ],
    env: {},
    readyUrl: `${opsUrl}/readyz`,
  };
  return { process: await startServer(spec, signal), url: `http://${HOST}:${port}`, metricsUrl: `${opsUrl}/metrics` };
}
