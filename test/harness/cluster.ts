import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { ApiClient } from '../../operator/kubernetes/api-client.ts';
import { loadKubeConfig } from '../../operator/kubernetes/connection.ts';
import { type ResourceKind, resourceKinds } from '../../policy/schema/kinds.ts';
import { GROUP, VERSION } from '../../policy/schema/to-crd.ts';
import { type ControlPlane, startControlPlane } from '../control-plane/control-plane.ts';

const CRDS = join(import.meta.dirname, '../../crds');

export type Stored = {
  readonly metadata: { readonly name: string; readonly uid: string; readonly generation: number };
  readonly spec: Readonly<Record<string, unknown>>;
  readonly status: Readonly<Record<string, unknown>> & {
    readonly observedGeneration?: number;
    readonly conditions?: readonly { readonly type: string; readonly status: string; readonly reason: string }[];
  };
};

/** A real API server that has our kinds, and quick ways to change and read objects of them. */
export type Cluster = {
  readonly controlPlane: ControlPlane;
  /** Straight to the API server, as a user who may do everything. */
  readonly client: ApiClient;
  /** Creates the object, or replaces its spec. Namespaced kinds are put into `default`. */
  apply(kind: ResourceKind, name: string, spec: unknown): Promise<void>;
  get(kind: ResourceKind, name: string): Promise<Stored>;
  /** Every object of a kind. */
  list(kind: ResourceKind): Promise<Stored[]>;
  remove(kind: ResourceKind, name: string): Promise<void>;
  stop(): Promise<void>;
};

export async function startCluster(): Promise<Cluster> {
  const controlPlane = await startControlPlane();
  await installCrds(controlPlane);
  const client = new ApiClient(loadKubeConfig(controlPlane.kubeconfigPath), { perSecond: 10_000, burst: 10_000 });
  return {
    controlPlane,
    client,
    apply: async (kind, name, spec) => {
      await client.call(pathOf(kind, name), {
        method: 'PATCH',
        query: { fieldManager: 'test', force: 'true' },
        contentType: 'application/apply-patch+yaml',
        body: { apiVersion: `${GROUP}/${VERSION}`, kind, metadata: { name }, spec },
      });
    },
    get: async (kind, name) => (await client.call(pathOf(kind, name))) as Stored,
    list: async (kind) => ((await client.call(pathOf(kind))) as { items: Stored[] }).items,
    remove: async (kind, name) => {
      await client.call(pathOf(kind, name), { method: 'DELETE' });
    },
    stop: async () => {
      await client.close();
      await controlPlane.stop();
    },
  };
}

export async function installCrds(controlPlane: ControlPlane): Promise<void> {
  const files = readdirSync(CRDS).filter((name) => name.endsWith('.yaml'));
  for (const file of files) await controlPlane.kubectl(['apply', '-f', join(CRDS, file)]);
  await controlPlane.kubectl(['wait', '--for=condition=Established', 'crd', '--all', '--timeout=60s']);
}

function pathOf(kind: ResourceKind, name?: string): string {
  const { plural, scope } = resourceKinds[kind];
  const namespace = scope === 'Cluster' ? '' : '/namespaces/default';
  return `/apis/${GROUP}/${VERSION}${namespace}/${plural}${name === undefined ? '' : `/${name}`}`;
}
