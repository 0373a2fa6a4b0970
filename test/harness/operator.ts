import { pino } from 'pino';
import { ApiClient } from '../../operator/kubernetes/api-client.ts';
import { ClusterSource } from '../../operator/kubernetes/cluster-source.ts';
import { loadKubeConfig } from '../../operator/kubernetes/connection.ts';
import { ServiceEndpoints } from '../../operator/kubernetes/endpoints.ts';
import { EventRecorder } from '../../operator/kubernetes/event-recorder.ts';
import { LabelledSecrets } from '../../operator/kubernetes/key-secrets.ts';
import { Operator, type OperatorOptions } from '../../operator/operator.ts';
import { acknowledge, withdraw } from '../../store/acknowledgements.ts';
import { readHead } from '../../store/configuration.ts';
import { readKeySetState } from '../../store/consumer-keys.ts';
import { createNames } from '../../store/names.ts';
import type { Cluster } from './cluster.ts';
import { OWNER, PEPPER } from './limiter.ts';
import type { PrivateRedis } from './redis.ts';

export const SERVICE = { namespace: 'default', name: 'limiter' };

const INSTALLATION = 'default';
const names = createNames(INSTALLATION);

export type TestOperator = { readonly operator: Operator; readonly logged: () => string; stop(): Promise<void> };

/** An operator in this process, which follows the cluster and the Service of the limiters. */
export function startTestOperator(
  { controlPlane }: Pick<Cluster, 'controlPlane'>,
  redis: PrivateRedis,
  options: Partial<OperatorOptions> = {},
  client = new ApiClient(loadKubeConfig(controlPlane.kubeconfigPath)),
): TestOperator {
  let output = '';
  const log = pino({ level: 'info' }, { write: (line: string) => void (output += line) });
  const events = new EventRecorder({ client, instance: 'test', log, times: { refreshMillis: 200 } });
  const operator = new Operator({
    redisUrl: redis.url,
    installation: INSTALLATION,
    owner: OWNER,
    pepper: PEPPER,
    log,
    source: new ClusterSource({ client, log }),
    endpoints: new ServiceEndpoints(client, SERVICE, { log }),
    keySecrets: new LabelledSecrets(client, ['default'], { log }),
    onFatal: (error) => {
      output += error.message;
    },
    onTransitions: (resource, transitions) => transitions.forEach((transition) => events.record(resource, transition)),
    ...options,
  });
  events.start();
  operator.start();
  return {
    operator,
    logged: () => output,
    stop: async () => {
      await operator.stop();
      await events.stop();
      await client.close();
    },
  };
}

/** Makes these pods the ready ones of the Service, and those the ones that are there but not ready. */
export async function setEndpoints(
  { client }: Cluster,
  ready: readonly string[],
  unready: readonly string[] = [],
): Promise<void> {
  const endpoint = (pod: string, isReady: boolean): object => ({
    addresses: ['10.1.2.3'],
    conditions: { ready: isReady },
    targetRef: { kind: 'Pod', name: pod, namespace: SERVICE.namespace },
  });
  const { namespace, name } = SERVICE;
  await client.call(`/apis/discovery.k8s.io/v1/namespaces/${namespace}/endpointslices/${name}-1`, {
    method: 'PATCH',
    query: { fieldManager: 'test', force: 'true' },
    contentType: 'application/apply-patch+yaml',
    body: {
      apiVersion: 'discovery.k8s.io/v1',
      kind: 'EndpointSlice',
      metadata: { name: `${name}-1`, namespace, labels: { 'kubernetes.io/service-name': name } },
      addressType: 'IPv4',
      endpoints: [...ready.map((pod) => endpoint(pod, true)), ...unready.map((pod) => endpoint(pod, false))],
    },
  });
}

/** What a limiter says of itself, without the limiter: it acknowledges whatever is in force, until it is stopped. */
export class TestPod {
  readonly #redis: PrivateRedis['redis'];
  readonly #name: string;
  #timer: NodeJS.Timeout | undefined;
  #isStopped = false;

  constructor({ redis }: Pick<PrivateRedis, 'redis'>, name: string) {
    this.#redis = redis;
    this.#name = name;
  }

  async start(): Promise<void> {
    await this.#beat();
    this.#timer = setInterval(() => void this.#beat().catch(() => undefined), 200);
  }

  async stop(): Promise<void> {
    clearInterval(this.#timer);
    this.#isStopped = true;
    await withdraw(this.#redis, names, this.#name);
  }

  async #beat(): Promise<void> {
    if (this.#isStopped) return;
    const head = await readHead(this.#redis, names);
    const keys = await readKeySetState(this.#redis, names);
    if (head === undefined) return;
    const { owner: _owner, ...identity } = head;
    const acknowledgement = {
      pod: this.#name,
      instance: 'test',
      identity,
      formats: [1],
      keySequence: keys?.sequence ?? 0,
    };
    await acknowledge(this.#redis, names, OWNER, { acknowledgement, isNew: true });
  }
}
