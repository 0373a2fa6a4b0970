import { hashOfKey, MAX_API_KEY_LENGTH } from '../../policy/api-key.ts';
import type { KeySecrets, SecretKey } from '../secret-keys.ts';
import type { ApiClient } from './api-client.ts';
import type { KubernetesObject } from './objects.ts';
import { Reflector, type ReflectorOptions } from './reflector.ts';

/** Secrets without it are never read. */
const LABEL = 'sluice.dev/api-key';

/**
 * The API keys in the labelled Secrets of some namespaces. Only the hashes of the values are kept, and nothing of them
 * is ever logged.
 */
export class LabelledSecrets implements KeySecrets {
  readonly #reflectors: readonly Reflector[];
  /** By `namespace/name`, then by the key in the data. */
  readonly #secrets = new Map<string, ReadonlyMap<string, string>>();
  readonly #namespaces: ReadonlySet<string>;
  #onChange: () => void = () => undefined;

  constructor(client: ApiClient, namespaces: readonly string[], options: ReflectorOptions) {
    this.#namespaces = new Set(namespaces);
    this.#reflectors = namespaces.map((namespace) => {
      const path = `/api/v1/namespaces/${encodeURIComponent(namespace)}/secrets`;
      const events = {
        onList: (objects: readonly KubernetesObject[]) => this.#replace(namespace, objects),
        onChange: (object: KubernetesObject) => this.#put(object),
        onDelete: (object: KubernetesObject) => this.#remove(object),
      };
      return new Reflector(client, { name: `secrets/${namespace}`, path, labelSelector: LABEL }, events, options);
    });
  }

  start(onChange: () => void): void {
    this.#onChange = onChange;
    for (const reflector of this.#reflectors) reflector.start();
  }

  async stop(): Promise<void> {
    this.#onChange = () => undefined;
    await Promise.all(this.#reflectors.map((reflector) => reflector.stop()));
  }

  get hasSynced(): boolean {
    return this.#reflectors.every((reflector) => reflector.hasSynced);
  }

  covers(namespace: string): boolean {
    return this.#namespaces.has(namespace);
  }

  find(namespace: string, name: string, key: string): SecretKey {
    const secret = this.#secrets.get(`${namespace}/${name}`);
    if (secret === undefined) return { kind: 'no secret' };
    const hash = secret.get(key);
    if (hash === undefined) return { kind: 'no key' };
    return hash === '' ? { kind: 'unusable' } : { kind: 'found', hash };
  }

  #replace(namespace: string, objects: readonly KubernetesObject[]): void {
    for (const id of this.#secrets.keys()) if (id.startsWith(`${namespace}/`)) this.#secrets.delete(id);
    for (const object of objects) this.#secrets.set(idOf(object), hashesOf(object));
    // Asynchronously: until the list was delivered, the reflector does not count as synced.
    queueMicrotask(() => this.#onChange());
  }

  #put(object: KubernetesObject): void {
    this.#secrets.set(idOf(object), hashesOf(object));
    this.#onChange();
  }

  #remove(object: KubernetesObject): void {
    this.#secrets.delete(idOf(object));
    this.#onChange();
  }
}

const idOf = ({ metadata }: KubernetesObject): string => `${metadata.namespace}/${metadata.name}`;

/** The hash of each value; empty where the value cannot be a key. People's editors end files with a line feed. */
function hashesOf({ data }: KubernetesObject): Map<string, string> {
  const entries = typeof data === 'object' && data !== null ? Object.entries(data) : [];
  return new Map(
    entries.map(([key, encoded]) => {
      const value = Buffer.from(String(encoded), 'base64')
        .toString('utf8')
        .replace(/\r?\n$/, '');
      return [key, value === '' || value.length > MAX_API_KEY_LENGTH ? '' : hashOfKey(value)];
    }),
  );
}
