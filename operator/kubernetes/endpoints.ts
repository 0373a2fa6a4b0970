import { z } from 'zod';
import type { ApiClient } from './api-client.ts';
import type { KubernetesObject } from './objects.ts';
import { Reflector, type ReflectorOptions } from './reflector.ts';

const endpoints = z
  .array(
    z.object({
      conditions: z.object({ ready: z.boolean().nullish() }).nullish(),
      targetRef: z.object({ kind: z.string().nullish(), name: z.string().nullish() }).nullish(),
    }),
  )
  .nullish();

export type ServiceName = { readonly namespace: string; readonly name: string };

/** The pods that a Service sends requests to, from its EndpointSlices. */
export class ServiceEndpoints {
  readonly #reflector: Reflector;
  readonly #podsBySlice = new Map<string, readonly string[]>();
  #onChange: () => void = () => undefined;

  constructor(client: ApiClient, { namespace, name }: ServiceName, options: ReflectorOptions) {
    this.#reflector = new Reflector(
      client,
      {
        name: 'endpointslices',
        path: `/apis/discovery.k8s.io/v1/namespaces/${encodeURIComponent(namespace)}/endpointslices`,
        labelSelector: `kubernetes.io/service-name=${name}`,
      },
      {
        onList: (slices) => {
          this.#podsBySlice.clear();
          for (const slice of slices) this.#podsBySlice.set(slice.metadata.name, readyPodsOf(slice));
          this.#onChange();
        },
        onChange: (slice) => {
          this.#podsBySlice.set(slice.metadata.name, readyPodsOf(slice));
          this.#onChange();
        },
        onDelete: (slice) => {
          this.#podsBySlice.delete(slice.metadata.name);
          this.#onChange();
        },
      },
      options,
    );
  }

  start(onChange: () => void): void {
    this.#onChange = onChange;
    this.#reflector.start();
  }

  async stop(): Promise<void> {
    this.#onChange = () => undefined;
    await this.#reflector.stop();
  }

  get hasSynced(): boolean {
    return this.#reflector.hasSynced;
  }

  /** Names of the ready pods; one may be in several slices, by IP family. */
  pods(): ReadonlySet<string> {
    return new Set([...this.#podsBySlice.values()].flat());
  }
}

/** Without a word on readiness an endpoint is ready: so the API defines it. */
function readyPodsOf(slice: KubernetesObject): string[] {
  return (endpoints.parse(slice.endpoints) ?? []).flatMap(({ conditions, targetRef }) =>
    conditions?.ready !== false && targetRef?.kind === 'Pod' && targetRef.name ? [targetRef.name] : [],
  );
}
