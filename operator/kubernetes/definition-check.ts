import { setTimeout as pause } from 'node:timers/promises';
import type { Logger } from 'pino';
import { z } from 'zod';
import { allKinds, resourceKinds } from '../../policy/schema/kinds.ts';
import { GROUP, SCHEMA_NUMBER } from '../../policy/schema/to-crd.ts';
import type { ApiClient } from './api-client.ts';
import { ApiError } from './api-error.ts';

const definition = z.object({ metadata: z.object({ annotations: z.record(z.string(), z.string()).default({}) }) });

const EVERY_MILLIS = 300_000;

/**
 * Compares the installed definitions of our kinds with what this operator was built with. A difference is told, and
 * changes nothing: most of what is declared works with either.
 */
export class DefinitionCheck {
  readonly #client: ApiClient;
  readonly #log: Logger;
  readonly #everyMillis: number;
  readonly #stopping = new AbortController();
  #problems: readonly string[] = [];
  #running: Promise<void> = Promise.resolve();

  constructor(client: ApiClient, log: Logger, everyMillis = EVERY_MILLIS) {
    this.#client = client;
    this.#log = log;
    this.#everyMillis = everyMillis;
  }

  /** One sentence for each definition that differs, as of the last look. */
  get problems(): readonly string[] {
    return this.#problems;
  }

  start(): void {
    this.#running = this.#run();
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#running;
  }

  async #run(): Promise<void> {
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      await this.#look(signal);
      await pause(this.#everyMillis, undefined, { signal }).catch(() => undefined);
    }
  }

  async #look(signal: AbortSignal): Promise<void> {
    try {
      const found = await checkDefinitions(this.#client, signal);
      for (const problem of found) {
        if (!this.#problems.includes(problem)) this.#log.error({ event: 'definition_differs' }, problem);
      }
      this.#problems = found;
    } catch (error) {
      if (!signal.aborted) this.#log.warn({ event: 'definitions_unknown', err: error });
    }
  }
}

async function checkDefinitions(client: ApiClient, stopping: AbortSignal): Promise<string[]> {
  const problems: string[] = [];
  for (const kind of allKinds) {
    const name = `${resourceKinds[kind].plural}.${GROUP}`;
    const installed = await installedNumber(client, name, stopping);
    if (installed === SCHEMA_NUMBER) continue;
    const found = installed === undefined ? 'is not installed' : `has schema ${installed}`;
    const advice =
      installed !== undefined && installed > SCHEMA_NUMBER
        ? 'update the operator, which does not know all of it'
        : 'apply the definitions of this version, as the API server drops the fields that it does not know';
    problems.push(
      `the CustomResourceDefinition ${name} ${found}, this operator has schema ${SCHEMA_NUMBER}: ${advice}`,
    );
  }
  return problems;
}

/** Undefined if the definition is not there, 0 if it does not say. */
async function installedNumber(client: ApiClient, name: string, stopping: AbortSignal): Promise<number | undefined> {
  const signal = AbortSignal.any([stopping, AbortSignal.timeout(EVERY_MILLIS)]);
  try {
    const path = `/apis/apiextensions.k8s.io/v1/customresourcedefinitions/${name}`;
    const { metadata } = definition.parse(await client.call(path, { signal }));
    return Number(metadata.annotations[`${GROUP}/schema`] ?? 0);
  } catch (error) {
    if (error instanceof ApiError && error.status === 404) return undefined;
    throw error;
  }
}
