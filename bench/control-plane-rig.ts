import { once } from 'node:events';
import { setTimeout as pause } from 'node:timers/promises';
import type { Redis } from 'ioredis';
import { ApiClient } from '../operator/kubernetes/api-client.ts';
import { loadKubeConfig } from '../operator/kubernetes/connection.ts';
import { readHead, readManifest } from '../store/configuration.ts';
import { createNames } from '../store/names.ts';
import { install, type Installation, type LimiterProcess } from '../test/harness/installation.ts';
import type { SluiceProcess } from '../test/harness/processes.ts';
import { scrape } from './prometheus.ts';

const API = '/apis/sluice.dev/v1alpha1';
const POLICIES = `${API}/namespaces/default/ratelimitpolicies`;
const AT_ONCE = 16;
/** Far finer than what is measured, and no load. */
const POLL_MILLIS = 5;
const LIMITERS = ['limiter-a', 'limiter-b'];

type Watched = {
  readonly type: string;
  readonly object: {
    readonly metadata: { readonly name?: string; readonly generation?: number };
    readonly status?: {
      readonly observedGeneration?: number;
      readonly conditions?: readonly { readonly type: string; readonly status: string }[];
    };
  };
};

/** An operator, two limiters, a Redis and an API server, each a process of its own, and what can be done to them. */
export class ControlPlaneRig implements AsyncDisposable {
  readonly #installation: Installation;
  readonly #client: ApiClient;
  readonly #signal: AbortSignal;
  readonly #failed = new AbortController();
  readonly #watching = new AbortController();
  /** The newest generation of each policy that is said to be enforced, and who waits for the next. */
  readonly #enforced = new Map<string, number>();
  readonly #onEvent = new Set<() => void>();
  #events = 0;
  #operator: SluiceProcess | undefined;
  #limiters: readonly LimiterProcess[] = [];

  private constructor(installation: Installation, signal: AbortSignal) {
    this.#installation = installation;
    this.#signal = AbortSignal.any([signal, this.#failed.signal]);
    this.#client = new ApiClient(loadKubeConfig(installation.controlPlane.kubeconfigPath), {
      perSecond: 10_000,
      burst: 10_000,
    });
  }

  static async start(signal: AbortSignal): Promise<ControlPlaneRig> {
    return new ControlPlaneRig(await install(), signal);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#watching.abort();
    await this.#client.close();
    await this.#installation.stop();
  }

  get redis(): Redis {
    return this.#installation.redis.redis;
  }

  get enforcedPolicies(): number {
    return this.#enforced.size;
  }

  /** Events of the watch on policies so far: each write of a spec or a status is one. */
  get events(): number {
    return this.#events;
  }

  async createPolicies(count: number): Promise<void> {
    const { metadata } = (await this.#client.call(POLICIES, { query: { limit: '1' } })) as {
      metadata: { resourceVersion: string };
    };
    this.#watch(metadata.resourceVersion).catch((error: unknown) => this.#fail(String(error)));
    for (let start = 0; start < count; start += AT_ONCE) {
      this.#signal.throwIfAborted();
      const indexes = Array.from({ length: Math.min(AT_ONCE, count - start) }, (_, offset) => start + offset);
      await Promise.all(indexes.map((index) => this.editPolicy(index, 5)));
    }
  }

  /** Creates the policy, or gives it another limit. Returns its generation. */
  async editPolicy(index: number, requests: number): Promise<number> {
    const { metadata } = (await this.#apply(`${POLICIES}/${nameOf(index)}`, 'RateLimitPolicy', nameOf(index), {
      domain: domainOf(index),
      rules: [
        {
          name: 'all',
          countBy: ['consumer'],
          algorithm: 'TokenBucket',
          limits: [{ windowSeconds: 60, requests, degraded: 1 }],
        },
      ],
    })) as { metadata: { generation: number } };
    return metadata.generation;
  }

  async setHealth(mode: 'NORMAL' | 'DEGRADED'): Promise<void> {
    await this.#apply(`${API}/systemhealths/bench`, 'SystemHealth', 'bench', { mode, reason: 'to be measured' });
  }

  /** With the lease that it has by default: that of the tests is too short for a machine that is busy. */
  startOperator(): void {
    const env = { NODE_OPTIONS: '--inspect=127.0.0.1:0' };
    const operator = this.#installation.startOperator(['--lease-seconds', '15'], env);
    this.#operator = operator;
    this.#watchEnd('the operator', operator);
  }

  async startLimiters(): Promise<void> {
    this.#limiters = await Promise.all(LIMITERS.map((name) => this.#installation.startLimiter(name)));
    for (const limiter of this.#limiters) this.#watchEnd(limiter.name, limiter.process);
    await Promise.all(this.#limiters.map((limiter) => this.#until(() => isReady(limiter))));
  }

  /** Resolves when what is in force in Redis has so many entries. */
  async untilPublished(count: number): Promise<void> {
    const names = createNames('default');
    await this.#until(async () => {
      const head = await readHead(this.redis, names);
      return head !== undefined && (await readManifest(this.redis, names, head.manifest)).entries.size >= count;
    });
  }

  /** Resolves when the status of the policy says that this generation is enforced. */
  async untilEnforced(index: number, generation: number): Promise<void> {
    await this.#untilEvent(() => (this.#enforced.get(nameOf(index)) ?? 0) >= generation);
  }

  async untilAllEnforced(count: number): Promise<void> {
    await this.#untilEvent(() => this.#enforced.size >= count);
  }

  /** Resolves when every limiter answers by this mode. */
  async untilModeEverywhere(mode: 'NORMAL' | 'DEGRADED'): Promise<void> {
    const body = JSON.stringify({ domain: domainOf(0), consumer: 'bench', mode: 'peek' });
    await Promise.all(
      this.#limiters.map(({ url }) =>
        this.#until(async () => {
          const response = await fetch(`${url}/v1/decision/check`, { method: 'POST', body, signal: this.#signal });
          return ((await response.json()) as { mode: unknown }).mode === mode;
        }),
      ),
    );
  }

  /** What the operator says of itself. */
  async operatorMetrics(): Promise<ReadonlyMap<string, number>> {
    const port = /"ops_port":(\d+)/.exec(this.#operator?.output() ?? '')?.[1];
    return scrape(`http://127.0.0.1:${port}/metrics`);
  }

  /** Has the operator collect its garbage, so that what is measured afterwards is what it needs. */
  async collectGarbage(): Promise<void> {
    const url = /Debugger listening on (ws:\S+)/.exec(this.#operator?.output() ?? '')?.[1];
    if (url === undefined) throw new Error('the operator has no debugger');
    const socket = new WebSocket(url);
    const signal = AbortSignal.any([this.#signal, AbortSignal.timeout(60_000)]);
    await once(socket, 'open', { signal });
    const answered = once(socket, 'message', { signal });
    socket.send(JSON.stringify({ id: 1, method: 'HeapProfiler.collectGarbage' }));
    await answered;
    socket.close();
  }

  async #apply(path: string, kind: string, name: string, spec: unknown): Promise<unknown> {
    return this.#client.call(path, {
      method: 'PATCH',
      query: { fieldManager: 'bench', force: 'true' },
      contentType: 'application/apply-patch+yaml',
      body: { apiVersion: 'sluice.dev/v1alpha1', kind, metadata: { name }, spec },
    });
  }

  #watchEnd(name: string, process: SluiceProcess): void {
    void process.exited().then(() => this.#fail(`${name} ended:\n${process.output().slice(-2_000)}`));
  }

  #fail(what: string): void {
    if (!this.#watching.signal.aborted) this.#failed.abort(new Error(what));
  }

  async #watch(resourceVersion: string): Promise<void> {
    const { signal } = this.#watching;
    const query = { watch: 'true', resourceVersion, timeoutSeconds: '86400' };
    try {
      for await (const line of this.#client.lines(POLICIES, { query, signal })) this.#note(JSON.parse(line) as Watched);
    } catch (error) {
      if (!signal.aborted) throw error;
    }
  }

  #note({ type, object: { metadata, status } }: Watched): void {
    if (type === 'ERROR') throw new Error('the watch of the bench was ended by the API server');
    this.#events += 1;
    const enforced = status?.conditions?.find((condition) => condition.type === 'Enforced')?.status === 'True';
    if (enforced && metadata.name !== undefined) this.#enforced.set(metadata.name, status?.observedGeneration ?? 0);
    for (const wake of this.#onEvent) wake();
  }

  async #until(isSo: () => Promise<boolean>): Promise<void> {
    while (!(await isSo())) {
      this.#signal.throwIfAborted();
      await pause(POLL_MILLIS);
    }
  }

  #untilEvent(isSo: () => boolean): Promise<void> {
    return new Promise((resolve, reject) => {
      const check = (): void => {
        if (!isSo() && !this.#signal.aborted) return;
        this.#onEvent.delete(check);
        if (this.#signal.aborted) reject(this.#signal.reason as Error);
        else resolve();
      };
      this.#onEvent.add(check);
      this.#signal.addEventListener('abort', check, { once: true });
      check();
    });
  }
}

async function isReady({ opsUrl }: LimiterProcess): Promise<boolean> {
  try {
    return (await fetch(`${opsUrl}/readyz`)).ok;
  } catch {
    return false;
  }
}

const nameOf = (index: number): string => `policy-${index}`;
const domainOf = (index: number): string => `default.service-${index}`;
