import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Redis } from 'ioredis';
import { assemble } from '../image/assemble.ts';
import { STRANGER, callers } from './callers.ts';
import { startFarRedis } from './far-redis.ts';
import { startRival } from './rival.ts';
import { prepare, publishKeys, putInForce } from './publish-policies.ts';
import {
  PEPPER,
  type Server,
  type ServerName,
  SERVERS,
  type ServerSpec,
  startLimiter,
  startProgram,
} from './servers.ts';
import { startStore, type Store, type StoreName } from './stores.ts';
import { domainsOf, specsOf, type WorldName } from './worlds.ts';

/** Private Redis servers, and servers before them: started when a target first needs them, stopped with the rig. */
export class Rig implements AsyncDisposable {
  readonly signal: AbortSignal;
  /** The main one. */
  readonly redis: Redis;
  readonly #stack: AsyncDisposableStack;
  readonly #stores = new Map<StoreName, Promise<Store>>();
  readonly #servers = new Map<ServerName, Server>();
  readonly #worlds = new Set<WorldName>();
  #assembled: Promise<string> | undefined;

  private constructor(main: Store, stack: AsyncDisposableStack, signal: AbortSignal) {
    this.signal = signal;
    [this.redis] = main.nodes;
    this.#stack = stack;
    this.#stores.set('main', Promise.resolve(main));
  }

  /** Throws if Redis does not start. */
  static async start(signal: AbortSignal): Promise<Rig> {
    await using stack = new AsyncDisposableStack();
    const main = await startStore('main');
    stack.defer(() => main.stop());
    signal.throwIfAborted();
    return new Rig(main, stack.move(), signal);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack.disposeAsync();
  }

  store(name: StoreName): Promise<Store> {
    const known = this.#stores.get(name);
    if (known !== undefined) return known;
    const starting = startStore(name).then((store) => {
      this.#stack.defer(() => store.stop());
      return store;
    });
    this.#stores.set(name, starting);
    return starting;
  }

  /** A server, started if it was not yet. Throws if it does not start; what was started is stopped then. */
  async server(name: ServerName): Promise<Server> {
    const known = this.#servers.get(name);
    if (known !== undefined) return known;
    const server = await this.#start(name, SERVERS[name]);
    this.#stack.defer(() => server.process.stop());
    this.#servers.set(name, server);
    return server;
  }

  async #start(name: ServerName, spec: ServerSpec): Promise<Server> {
    if ('limiter' in spec) {
      const { port, store } = await this.server(spec.limiter);
      const env = { LIMITER_URL: `http://127.0.0.1:${port}` };
      return { ...(await startProgram({ name, program: spec.program, env }, this.signal)), store };
    }
    if (!('store' in spec)) {
      return { ...(await startProgram({ name, program: spec.program, env: {} }, this.signal)), store: undefined };
    }
    const store = await this.store(spec.store.name);
    const { delayMillis } = spec.store;
    const redisUrl = delayMillis === undefined ? store.url : await this.#farFrom(store, delayMillis);
    if ('program' in spec) {
      const env = { REDIS_URL: redisUrl };
      return { ...(await startProgram({ name, program: spec.program, env }, this.signal)), store };
    }
    if ('flushMicros' in spec) {
      return { ...(await startRival({ name, redisUrl, flushMicros: spec.flushMicros }, this.signal)), store };
    }
    await this.#publish(spec.world, store);
    const folder = await (this.#assembled ??= this.#assemble());
    return { ...(await startLimiter({ folder, pod: name, world: spec.world, redisUrl }, this.signal)), store };
  }

  async #assemble(): Promise<string> {
    const folder = await mkdtemp(join(tmpdir(), 'sluice-bench-'));
    this.#stack.defer(() => rm(folder, { recursive: true, force: true }));
    await assemble(folder);
    return folder;
  }

  async #farFrom({ url }: Store, delayMillis: number): Promise<string> {
    const far = await startFarRedis(Number(new URL(url).port), delayMillis);
    this.#stack.defer(() => far.close());
    return `redis://127.0.0.1:${far.port}`;
  }

  async #publish(world: WorldName, { client }: Store): Promise<void> {
    if (this.#worlds.has(world)) return;
    this.#worlds.add(world);
    await putInForce(client, world, prepare(specsOf(world), domainsOf(world)));
    await publishKeys(client, world, { callers: [...callers(), STRANGER], pepper: PEPPER });
  }
}
