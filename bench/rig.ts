import { Redis } from 'ioredis';
import { findRedisServer, startRedis } from '../cli/dev/find-redis.ts';
import { freePort } from '../test/harness/redis.ts';
import { STRANGER, callers } from './callers.ts';
import { startFarRedis } from './far-redis.ts';
import { prepare, publishKeys, putInForce } from './publish-policies.ts';
import { PEPPER, type Server, type ServerName, SERVERS, startFloor, startLimiter } from './servers.ts';
import { specsOf, type WorldName } from './worlds.ts';

/** A private Redis, and servers that are started when a target first needs them; all are stopped with it. */
export class Rig implements AsyncDisposable {
  readonly redis: Redis;
  readonly redisPort: number;
  readonly signal: AbortSignal;
  readonly #redisUrl: string;
  readonly #stack: AsyncDisposableStack;
  readonly #servers = new Map<ServerName, Server>();
  readonly #worlds = new Set<WorldName>();

  private constructor(parts: {
    redis: Redis;
    redisPort: number;
    redisUrl: string;
    stack: AsyncDisposableStack;
    signal: AbortSignal;
  }) {
    this.redis = parts.redis;
    this.redisPort = parts.redisPort;
    this.#redisUrl = parts.redisUrl;
    this.#stack = parts.stack;
    this.signal = parts.signal;
  }

  /** Throws if Redis does not start. */
  static async start(signal: AbortSignal): Promise<Rig> {
    await using stack = new AsyncDisposableStack();
    const redisPort = await freePort();
    const redisProcess = await startRedis(await findRedisServer(), { port: redisPort });
    stack.defer(() => redisProcess.stop());
    signal.throwIfAborted();
    const redis = stack.adopt(new Redis(redisProcess.url), (connection) => connection.disconnect());
    // What the loss of Redis means is seen by those who are measured.
    redis.on('error', () => undefined);
    return new Rig({ redis, redisPort, redisUrl: redisProcess.url, stack: stack.move(), signal });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack.disposeAsync();
  }

  /** A server, started if it was not yet. Throws if it does not start; what was started is stopped then. */
  async server(name: ServerName): Promise<Server> {
    const known = this.#servers.get(name);
    if (known !== undefined) return known;
    const { kind, world, redisDelayMillis } = SERVERS[name];
    const redisUrl = redisDelayMillis === undefined ? this.#redisUrl : await this.#farRedis(redisDelayMillis);
    if (world !== undefined) await this.#publish(world);
    const server =
      world === undefined
        ? await startFloor(kind === 'bare' ? 'bare' : 'evalsha', redisUrl, this.signal)
        : await startLimiter({ pod: name, world, redisUrl }, this.signal);
    this.#stack.defer(() => server.process.stop());
    this.#servers.set(name, server);
    return server;
  }

  /** Seconds of processor time that Redis used: all of it, or of the thread that runs commands and scripts. */
  async redisCpuSeconds(thread: 'all' | 'main' = 'all'): Promise<number> {
    const info = await this.redis.info('cpu');
    const pattern =
      thread === 'all' ? /^used_cpu_(?:sys|user):([\d.]+)/gm : /^used_cpu_(?:sys|user)_main_thread:([\d.]+)/gm;
    return [...info.matchAll(pattern)].reduce((sum, [, seconds]) => sum + Number(seconds), 0);
  }

  async #farRedis(delayMillis: number): Promise<string> {
    const far = await startFarRedis(this.redisPort, delayMillis);
    this.#stack.defer(() => far.close());
    return `redis://127.0.0.1:${far.port}`;
  }

  async #publish(world: WorldName): Promise<void> {
    if (this.#worlds.has(world)) return;
    this.#worlds.add(world);
    await putInForce(this.redis, world, prepare(specsOf(world)));
    await publishKeys(this.redis, world, { callers: [...callers(), STRANGER], pepper: PEPPER });
  }
}
