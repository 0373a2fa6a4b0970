// A cluster with real pods, and the release of the chart in it. Which cluster and which images: the environment, which
// test/cluster/run sets.
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { allKinds, resourceKinds } from '../../policy/schema/kinds.ts';
import { findAsset } from '../control-plane/assets.ts';
import { type Kubectl, kubectlWith } from '../control-plane/kubectl.ts';
import { runHelm } from '../chart/helm.ts';
import { eventually } from '../harness/eventually.ts';

export const NAMESPACE = 'sluice-e2e';
export const CALLERS = 'sluice-e2e-callers';
export const RELEASE = 'sluice';
export const IMAGE = required('SLUICE_IMAGE');
export const IMAGE_NEXT = required('SLUICE_IMAGE_NEXT');
/** An earlier version, which writes documents of another format and knows fewer fields; see older.ts. */
export const OLDER = { image: required('SLUICE_IMAGE_OLDER'), chart: required('SLUICE_CHART_OLDER') } as const;

const CHART = join(import.meta.dirname, '../../charts/sluice');
const KUBECONFIG = required('KUBECONFIG');

export type Condition = { readonly type: string; readonly status: string; readonly reason: string };
export type Status = {
  readonly observedGeneration?: number;
  readonly revision?: number;
  readonly pods?: { readonly ready: number; readonly acknowledged: number };
  readonly conditions?: readonly Condition[];
};
export type Pod = { readonly name: string; readonly ip: string; readonly uid: string; readonly isReady: boolean };

function required(name: string): string {
  const value = process.env[name];
  if (value === undefined || value === '') throw new Error(`${name} is not set: run make e2e, which sets it`);
  return value;
}

let kubectlPromise: Promise<Kubectl> | undefined;

/** Runs kubectl against the cluster; resolves with what it printed. */
export async function kubectl(args: readonly string[], stdin?: string, timeoutMillis?: number): Promise<string> {
  const folder = mkdtempSyncOnce();
  kubectlPromise ??= findAsset('kubectl').then((binary) => kubectlWith(binary, KUBECONFIG, folder));
  const run = await kubectlPromise;
  return run(args, {
    ...(stdin === undefined ? {} : { stdin }),
    ...(timeoutMillis === undefined ? {} : { timeoutMillis }),
  });
}

let scratch: string | undefined;
function mkdtempSyncOnce(): string {
  scratch ??= mkdtempSync(join(tmpdir(), 'sluice-e2e-'));
  return scratch;
}

/** Runs helm on the release; throws with what it said when it fails. */
export async function helm(args: readonly string[], values?: unknown): Promise<string> {
  const given = values === undefined ? [] : ['--values', '-'];
  const all = [...args, ...given, '--kubeconfig', KUBECONFIG, '--namespace', NAMESPACE];
  const { status, stdout, stderr } = await runHelm(all, values === undefined ? '' : JSON.stringify(values));
  if (status !== 0) throw new Error(`helm ${args.join(' ')} failed:\n${stderr}${stdout}\n${await situation()}`);
  return stdout;
}

/** Installs or upgrades with these values, and waits until everything is ready. */
export function deploy(values: unknown, chart = CHART): Promise<string> {
  return helm(['upgrade', '--install', RELEASE, chart, '--wait', '--timeout', '240s'], values);
}

export function apply(...objects: object[]): Promise<string> {
  return kubectl(['apply', '-f', '-'], JSON.stringify({ apiVersion: 'v1', kind: 'List', items: objects }));
}

export async function get<T>(kind: string, name: string, namespace = NAMESPACE): Promise<T> {
  return JSON.parse(await kubectl(['get', kind, name, '-n', namespace, '-o', 'json'])) as T;
}

/** The pods of a component that are not on their way out. */
export async function podsOf(component: string): Promise<Pod[]> {
  const selector = `app.kubernetes.io/instance=${RELEASE},app.kubernetes.io/component=${component}`;
  const list = JSON.parse(await kubectl(['get', 'pods', '-n', NAMESPACE, '-l', selector, '-o', 'json'])) as {
    items: {
      metadata: { name: string; uid: string; deletionTimestamp?: string };
      status: { podIP?: string; conditions?: Condition[] };
    }[];
  };
  return list.items
    .filter(({ metadata }) => metadata.deletionTimestamp === undefined)
    .map(({ metadata, status }) => ({
      name: metadata.name,
      uid: metadata.uid,
      ip: status.podIP ?? '',
      isReady: status.conditions?.some(({ type, status: is }) => type === 'Ready' && is === 'True') ?? false,
    }));
}

/** What a bad end is explained with. */
export async function situation(): Promise<string> {
  const parts = await Promise.allSettled([
    kubectl(['get', 'pods', '-n', NAMESPACE, '-o', 'wide']),
    kubectl(['get', 'events', '-n', NAMESPACE, '--sort-by=.lastTimestamp']),
    kubectl(['logs', '-n', NAMESPACE, '-l', 'app.kubernetes.io/part-of=sluice', '--prefix', '--tail=15']),
  ]);
  return parts.map((part) => (part.status === 'fulfilled' ? part.value : String(part.reason))).join('\n');
}

/** A namespace in which only pods of the restricted standard may run. */
export function aNamespace(name: string, labels: Readonly<Record<string, string>> = {}): object {
  const enforced = { 'pod-security.kubernetes.io/enforce': 'restricted' };
  return { apiVersion: 'v1', kind: 'Namespace', metadata: { name, labels: { ...enforced, ...labels } } };
}

/** Ends a pod at once, as a node that fails does. */
export function kill(pod: string): Promise<string> {
  return kubectl(['delete', 'pod', '-n', NAMESPACE, pod, '--force', '--grace-period=0']);
}

/** Little CPU, so that it fits beside whatever else the cluster runs, and a scale-down that a test can wait for. */
export function valuesWith(image: string): object {
  const [repository = '', tag = ''] = image.split(/:(?=[^/]*$)/);
  return {
    image: { repository, tag },
    redis: { development: { enabled: true } },
    limiter: {
      resources: { requests: { cpu: '200m' } },
      // A slow machine is not to be taken for a slow Redis.
      redisDeadlineMs: 10_000,
      autoscaling: { maxReplicas: 4, behavior: { scaleDown: { stabilizationWindowSeconds: 15 } } },
    },
  };
}

export async function cleanUp(): Promise<void> {
  await helm(['uninstall', RELEASE, '--ignore-not-found', '--wait']);
  await kubectl(['delete', 'namespace', CALLERS, NAMESPACE, '--ignore-not-found', '--timeout=120s']);
  const crds = allKinds.map((kind) => `crd/${resourceKinds[kind].plural}.sluice.dev`);
  await kubectl(['delete', ...crds, '--ignore-not-found']);
}

/** Waits until the object is Ready, and gives its status. */
export async function untilReady(kind: string, name: string): Promise<Status> {
  try {
    await kubectl(['wait', '--for=condition=Ready', '-n', CALLERS, `${kind}/${name}`, '--timeout=60s']);
  } catch (error) {
    throw new Error(`${kind}/${name} did not become Ready\n${await situation()}`, { cause: error });
  }
  return (await get<{ status: Status }>(kind, name, CALLERS)).status;
}

/** Waits until as many pods of a component are ready and none else is there. */
export function untilPods(component: string, count: number): Promise<Pod[]> {
  return eventually(async () => {
    const pods = await podsOf(component);
    if (pods.length !== count || pods.some(({ isReady }) => !isReady))
      throw new Error(`${component}: ${JSON.stringify(pods)}\n${await situation()}`);
    return pods;
  }, 90_000);
}
