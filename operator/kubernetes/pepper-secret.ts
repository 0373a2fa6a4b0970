import { randomBytes } from 'node:crypto';
import type { Logger } from 'pino';
import { z } from 'zod';
import type { ApiClient } from './api-client.ts';
import { ApiError } from './api-error.ts';

const secret = z.object({ data: z.record(z.string(), z.string()).default({}) });

export type PepperSecretOptions = {
  readonly client: ApiClient;
  readonly secret: { readonly namespace: string; readonly name: string };
  readonly log: Logger;
};

/** Keys of the Secret; the limiters mount the first. */
const CURRENT = 'pepper';
const PREVIOUS = 'previous-pepper';
const SHORTEST = 16;

/**
 * The peppers in a Secret: `pepper`, and while it is being replaced `previous-pepper`, by which keys are still found.
 * Made once with a random pepper if it is not there, and never written again: whoever rotates it edits it.
 */
export class PepperSecret {
  readonly #options: PepperSecretOptions;

  constructor(options: PepperSecretOptions) {
    this.#options = options;
  }

  /** The current one first. Throws if the Secret cannot be read, or holds none that may be used. */
  async read(): Promise<readonly string[]> {
    const data = await this.#readOrCreate();
    const { namespace, name } = this.#options.secret;
    return [CURRENT, PREVIOUS].flatMap((key) => {
      const encoded = data[key];
      if (encoded === undefined && key === PREVIOUS) return [];
      const pepper = Buffer.from(encoded ?? '', 'base64')
        .toString('utf8')
        .trim();
      if (pepper.length >= SHORTEST) return [pepper];
      throw new Error(`Secret ${namespace}/${name}: "${key}" must hold at least ${SHORTEST} characters`);
    });
  }

  async #readOrCreate(): Promise<Readonly<Record<string, string>>> {
    const { client, secret: where, log } = this.#options;
    const collection = `/api/v1/namespaces/${encodeURIComponent(where.namespace)}/secrets`;
    const path = `${collection}/${encodeURIComponent(where.name)}`;
    try {
      return secret.parse(await client.call(path)).data;
    } catch (error) {
      if (!(error instanceof ApiError) || error.status !== 404) throw error;
    }
    const pepper = randomBytes(32).toString('base64url');
    const body = {
      apiVersion: 'v1',
      kind: 'Secret',
      metadata: { ...where, labels: { 'app.kubernetes.io/managed-by': 'sluice' } },
      type: 'Opaque',
      data: { [CURRENT]: Buffer.from(pepper).toString('base64') },
    };
    try {
      await client.call(collection, { method: 'POST', body });
      log.info({ event: 'pepper_created', secret: `${where.namespace}/${where.name}` });
      return body.data;
    } catch (error) {
      // Another operator made it in between: that one is the pepper.
      if (error instanceof ApiError && error.status === 409) return secret.parse(await client.call(path)).data;
      throw error;
    }
  }
}
