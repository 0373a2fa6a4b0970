import { readFile } from 'node:fs/promises';
import { Agent, request } from 'undici';
import { z } from 'zod';
import { type ResourceKind, resourceKinds } from '../../policy/schema/kinds.ts';
import { GROUP, VERSION } from '../../policy/schema/to-crd.ts';
import type { ControlPlane } from '../control-plane/control-plane.ts';
import { CASE_NAMESPACE } from '../policy/cases.ts';

export type Resource = { readonly kind: ResourceKind; readonly name: string; readonly spec: unknown };

/** What the API server says: the object as it would be stored, or the fields that it refuses. */
export type Answer = { readonly status: number; readonly fields: readonly string[]; readonly object: unknown };

const refusal = z.object({
  details: z.object({ causes: z.array(z.object({ field: z.string() })).optional() }).optional(),
});

/** Speaks to an API server over one connection: starting kubectl for each of some hundred specs takes minutes. */
export class RestClient {
  readonly #agent: Agent;
  readonly #controlPlane: ControlPlane;

  private constructor(agent: Agent, controlPlane: ControlPlane) {
    this.#agent = agent;
    this.#controlPlane = controlPlane;
  }

  static async connect(controlPlane: ControlPlane): Promise<RestClient> {
    const ca = await readFile(controlPlane.caPath);
    return new RestClient(new Agent({ allowH2: false, connect: { ca } }), controlPlane);
  }

  /** Fails unless the kind is served. */
  async list(kind: ResourceKind): Promise<void> {
    const { status } = await this.#send('GET', collectionOf(kind));
    if (status !== 200) throw new Error(`the list of ${kind} is answered with status ${status}`);
  }

  create({ kind, name, spec }: Resource, { dryRun = false } = {}): Promise<Answer> {
    const body = JSON.stringify({ apiVersion: `${GROUP}/${VERSION}`, kind, metadata: { name }, spec });
    return this.#send('POST', `${collectionOf(kind)}${dryRun ? '?dryRun=All' : ''}`, body);
  }

  close(): Promise<void> {
    return this.#agent.close();
  }

  async #send(method: 'GET' | 'POST', path: string, body?: string): Promise<Answer> {
    const response = await request(`${this.#controlPlane.serverUrl}${path}`, {
      dispatcher: this.#agent,
      method,
      headers: { authorization: `Bearer ${this.#controlPlane.token}`, 'content-type': 'application/json' },
      body: body ?? null,
    });
    const object: unknown = await response.body.json();
    const causes = refusal.safeParse(object).data?.details?.causes ?? [];
    return { status: response.statusCode, fields: causes.map(({ field }) => field), object };
  }
}

function collectionOf(kind: ResourceKind): string {
  const { plural, scope } = resourceKinds[kind];
  const namespace = scope === 'Cluster' ? '' : `namespaces/${CASE_NAMESPACE}/`;
  return `/apis/${GROUP}/${VERSION}/${namespace}${plural}`;
}
