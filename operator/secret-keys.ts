import { idOf, type Problem, type ValidConsumer } from '../policy/resource.ts';

/** API keys in Secrets, as far as the operator may read them. */
export type KeySecrets = {
  readonly hasSynced: boolean;
  start(onChange: () => void): void;
  stop(): Promise<void>;
  /** Whether the Secrets of a namespace can be read at all. */
  covers(namespace: string): boolean;
  find(namespace: string, name: string, key: string): SecretKey;
};

/** `hash`: lower-case hex of the SHA-256 of the API key. */
export type SecretKey =
  | { readonly kind: 'found'; readonly hash: string }
  | { readonly kind: 'no secret' | 'no key' | 'unusable' };

export type ResolvedConsumers = {
  /** With the keys from Secrets among their hashes. */
  readonly consumers: readonly ValidConsumer[];
  /** By identity: references that bring no key. The other keys of the consumer hold. */
  readonly problems: ReadonlyMap<string, readonly Problem[]>;
};

/** Puts the keys that consumers refer to beside those that they list. The first consumer of a key has it. */
export function resolveKeys(
  consumers: readonly ValidConsumer[],
  secrets: KeySecrets | undefined,
  known: Resolved = new WeakMap(),
): ResolvedConsumers {
  if (consumers.every(({ spec }) => spec.apiKeySecretRefs === undefined)) return { consumers, problems: new Map() };
  const owners = new Map<string, string>();
  for (const { metadata, spec } of consumers) {
    for (const hash of spec.apiKeyHashes ?? []) owners.set(hash, metadata.uid);
  }
  const problems = new Map<string, readonly Problem[]>();
  const resolved = consumers.map((consumer) => {
    if (consumer.spec.apiKeySecretRefs === undefined) return consumer;
    const found: Problem[] = [];
    const hashes = new Set(consumer.spec.apiKeyHashes);
    for (const [index, ref] of consumer.spec.apiKeySecretRefs.entries()) {
      const key = lookUp(consumer.metadata.namespace, ref, secrets);
      const isTaken = 'hash' in key && (owners.get(key.hash) ?? consumer.metadata.uid) !== consumer.metadata.uid;
      if ('hash' in key && !isTaken) {
        owners.set(key.hash, consumer.metadata.uid);
        hashes.add(key.hash);
      } else found.push({ path: `spec.apiKeySecretRefs[${index}]`, ...('hash' in key ? TAKEN : key) });
    }
    if (found.length > 0) problems.set(idOf(consumer), found);
    return withHashes(consumer, [...hashes], known);
  });
  return { consumers: resolved, problems };
}

/** What consumers with keys from Secrets were resolved to: the same again is the same object. */
export type Resolved = WeakMap<ValidConsumer, ValidConsumer>;

function withHashes(consumer: ValidConsumer, apiKeyHashes: string[], known: Resolved): ValidConsumer {
  const before = known.get(consumer);
  if (before?.spec.apiKeyHashes?.join() === apiKeyHashes.join()) return before;
  const resolved = { ...consumer, spec: { ...consumer.spec, apiKeyHashes } };
  known.set(consumer, resolved);
  return resolved;
}

type Reason = Omit<Problem, 'path'>;

/** Does not say whose the key is: that is nobody else's business. */
const TAKEN: Reason = { reason: 'Conflicted', message: 'this key belongs to another Consumer' };

function lookUp(
  namespace: string,
  { name, key }: { readonly name: string; readonly key: string },
  secrets: KeySecrets | undefined,
): { readonly hash: string } | Reason {
  if (secrets === undefined || !secrets.covers(namespace)) {
    return { reason: 'SecretsNotGranted', message: `the operator may not read Secrets of namespace "${namespace}"` };
  }
  const found = secrets.find(namespace, name, key);
  switch (found.kind) {
    case 'found':
      return { hash: `sha256:${found.hash}` };
    case 'no secret':
      return { reason: 'SecretMissing', message: `there is no Secret "${name}" labelled sluice.dev/api-key` };
    case 'no key':
      return { reason: 'SecretKeyMissing', message: `Secret "${name}" has no key "${key}"` };
    case 'unusable':
      return { reason: 'SecretKeyUnusable', message: `key "${key}" of Secret "${name}" must hold 1 to 512 characters` };
  }
}
