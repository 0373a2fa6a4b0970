import { isDeepStrictEqual } from 'node:util';
import type { RawResource } from '../../policy/resource.ts';
import { allKinds, type ResourceKind, resourceKinds } from '../../policy/schema/kinds.ts';
import { GROUP, VERSION } from '../../policy/schema/to-crd.ts';
import type { ResourceSource, SourceChange } from '../source.ts';
import type { ApiClient } from './api-client.ts';
import { ApiError } from './api-error.ts';
import { type KubernetesObject, parseObject } from './objects.ts';
import { Reflector, type ReflectorOptions } from './reflector.ts';

export type ClusterSourceOptions = ReflectorOptions & { readonly client: ApiClient };

const FIELD_MANAGER = 'sluice-operator';
const API = `/apis/${GROUP}/${VERSION}`;

/** All resources of a cluster: one reflector for each kind, status by server-side apply. */
export class ClusterSource implements ResourceSource {
  readonly #client: ApiClient;
  readonly #objects = new Map<ResourceKind, Map<string, RawResource>>(allKinds.map((kind) => [kind, new Map()]));
  /** resourceVersion of each object by its uid. */
  readonly #versions = new Map<string, string>();
  readonly #reflectors: readonly Reflector[];
  #notify: (change: SourceChange) => void = () => undefined;

  constructor(options: ClusterSourceOptions) {
    this.#client = options.client;
    this.#reflectors = allKinds.map(
      (kind) =>
        new Reflector(
          options.client,
          { name: resourceKinds[kind].plural, path: `${API}/${resourceKinds[kind].plural}` },
          {
            onList: (objects) => this.#replace(kind, objects),
            onChange: (object) => this.#put(kind, object),
            onDelete: (object) => this.#remove(kind, object),
          },
          options,
        ),
    );
  }

  start(onChange: (change: SourceChange) => void): void {
    this.#notify = onChange;
    for (const reflector of this.#reflectors) reflector.start();
  }

  async stop(): Promise<void> {
    this.#notify = () => undefined;
    await Promise.all(this.#reflectors.map((reflector) => reflector.stop()));
  }

  hasSynced(): boolean {
    return this.#reflectors.every((reflector) => reflector.hasSynced);
  }

  list(kind: ResourceKind): readonly RawResource[] {
    return [...this.#of(kind).values()];
  }

  async writeStatus(resource: RawResource, status: unknown): Promise<'recorded' | 'outdated'> {
    const { namespace, name, uid } = resource.metadata;
    const key = keyOf(resource.metadata);
    const version = this.#versions.get(uid);
    // Replaced by another object since it was listed.
    if (version === undefined) return 'outdated';
    const scope = namespace === '' ? '' : `/namespaces/${encodeURIComponent(namespace)}`;
    try {
      const written = await this.#client.call(
        `${API}${scope}/${resourceKinds[resource.kind].plural}/${encodeURIComponent(name)}/status`,
        {
          method: 'PATCH',
          query: { fieldManager: FIELD_MANAGER, force: 'true' },
          contentType: 'application/apply-patch+yaml',
          // A write to the status does not look at the uid; the version keeps it from another object of the same name.
          body: {
            apiVersion: `${GROUP}/${VERSION}`,
            kind: resource.kind,
            metadata: { name, resourceVersion: version, ...(namespace === '' ? {} : { namespace }) },
            status,
          },
        },
      );
      const answered = parseObject(written);
      const known = this.#of(resource.kind);
      if (known.get(key) === resource) {
        this.#versions.set(uid, answered.metadata.resourceVersion);
        // Only the status: the answer may hold a newer spec, which is news that the watch has to bring.
        known.set(key, { ...resource, status: answered.status });
      }
      // Else the watch was faster, and may know a later version: with an older one nothing could be written any more.
      return 'recorded';
    } catch (error) {
      if (error instanceof ApiError && error.status === 409) return 'outdated';
      // Deleted since it was read: there is nothing left to say.
      if (error instanceof ApiError && error.status === 404) return 'recorded';
      throw error;
    }
  }

  #of(kind: ResourceKind): Map<string, RawResource> {
    const objects = this.#objects.get(kind);
    if (objects === undefined) throw new RangeError(`unknown kind ${kind}`);
    return objects;
  }

  #replace(kind: ResourceKind, objects: readonly KubernetesObject[]): void {
    const known = this.#of(kind);
    for (const { metadata } of known.values()) this.#versions.delete(metadata.uid);
    known.clear();
    for (const object of objects) this.#store(kind, object);
    // Asynchronously: until the list was delivered, the reflector does not count as synced.
    queueMicrotask(() => this.#notify('spec'));
  }

  #put(kind: ResourceKind, object: KubernetesObject): void {
    const key = keyOf(object.metadata);
    const before = this.#of(kind).get(key);
    const now = this.#store(kind, object);
    const isSameSpec =
      before?.metadata.uid === now.metadata.uid &&
      before.metadata.generation === now.metadata.generation &&
      // Labels are no part of the generation, and select policies.
      isDeepStrictEqual(before.metadata.labels, now.metadata.labels);
    if (!isSameSpec) this.#notifyOf(kind);
    else if (!isDeepStrictEqual(before.status, now.status)) this.#notify('status');
  }

  #store(kind: ResourceKind, object: KubernetesObject): RawResource {
    const key = keyOf(object.metadata);
    const replaced = this.#of(kind).get(key);
    if (replaced !== undefined) this.#versions.delete(replaced.metadata.uid);
    const raw = toRaw(kind, object);
    this.#of(kind).set(key, raw);
    this.#versions.set(object.metadata.uid, object.metadata.resourceVersion);
    return raw;
  }

  #remove(kind: ResourceKind, object: KubernetesObject): void {
    this.#versions.delete(object.metadata.uid);
    if (this.#of(kind).delete(keyOf(object.metadata))) this.#notifyOf(kind);
  }

  #notifyOf(kind: ResourceKind): void {
    this.#notify(kind === 'SystemHealth' ? 'health' : 'spec');
  }
}

const keyOf = ({ namespace, name }: { namespace: string; name: string }): string => `${namespace}/${name}`;

function toRaw(kind: ResourceKind, object: KubernetesObject): RawResource {
  const { namespace, name, uid, generation, creationTimestamp, labels } = object.metadata;
  return {
    kind,
    metadata: { namespace, name, uid, generation, creationTimestamp, ...(labels === undefined ? {} : { labels }) },
    spec: object.spec,
    status: object.status,
  };
}
