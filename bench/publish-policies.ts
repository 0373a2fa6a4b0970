import { randomUUID } from 'node:crypto';
import type { Redis } from 'ioredis';
import { hashOfKey, recordNameOf } from '../policy/api-key.ts';
import { compilePolicy } from '../policy/compile.ts';
import { type ManifestEntry, type StoredDocument, toStored } from '../policy/documents.ts';
import { buildManifest } from '../policy/manifest.ts';
import type { ValidPolicy } from '../policy/resource.ts';
import { validate } from '../policy/validate.ts';
import { publish, readHead, writeDocuments } from '../store/configuration.ts';
import { writeKeySet } from '../store/consumer-keys.ts';
import { createNames } from '../store/names.ts';
import type { Caller } from './callers.ts';
import { NAMESPACE, type NamedSpecs } from './worlds.ts';

/** A configuration that needs only to be put in force. */
export type Prepared = { readonly documents: readonly StoredDocument[]; readonly manifest: string };

/** Validates and compiles, as the operator does it. */
export function prepare(specs: NamedSpecs): Prepared {
  const policies = Object.entries(specs).map(([name, spec]) => toPolicy(name, spec));
  const documents = policies.map((policy) => toStored(compilePolicy(policy)));
  const entries = policies.map(({ kind, metadata: { namespace, name, uid, generation } }, index): ManifestEntry => ({
    kind,
    namespace,
    name,
    uid,
    generation,
    revision: 1,
    document: documents[index]?.name ?? '',
  }));
  const { index, shards } = buildManifest(entries);
  return {
    documents: [...new Map([index, ...shards, ...documents].map((one) => [one.name, one])).values()],
    manifest: index.name,
  };
}

/** Makes it the next revision of the installation, which is its own owner; the number of that revision. */
export async function putInForce(
  redis: Redis,
  installation: string,
  { documents, manifest }: Prepared,
): Promise<number> {
  const names = createNames(installation);
  const seen = await readHead(redis, names);
  const revision = (seen?.revision ?? 0) + 1;
  await writeDocuments(redis, names, documents);
  await publish(redis, names, {
    owner: installation,
    seen,
    next: { incarnation: seen?.incarnation ?? randomUUID(), epoch: 1, revision, manifest },
    becoming: documents.map(({ name }) => name),
    // What the old revision alone needed stays: this Redis ends with the run.
    leaving: [],
  });
  return revision;
}

/** Every caller gets the API key of `apiKeyOf`. */
export async function publishKeys(
  redis: Redis,
  installation: string,
  { callers, pepper }: { readonly callers: readonly Caller[]; readonly pepper: string },
): Promise<void> {
  const writer = { owner: installation, incarnation: 'bench', epoch: 1, seenSequence: 0 };
  const writes = callers.map(({ consumer, tenant, apiKey }) => ({
    name: recordNameOf(pepper, hashOfKey(apiKey)),
    record: { consumer, tenant, namespace: NAMESPACE, uid: consumer, generation: 1 },
  }));
  await writeKeySet(redis, createNames(installation), writer, writes);
}

/** Only what users could write is measured: the same validation decides. */
function toPolicy(name: string, spec: NamedSpecs[string]): ValidPolicy {
  const metadata = { namespace: NAMESPACE, name, uid: name, generation: 1, creationTimestamp: '2026-01-01T00:00:00Z' };
  const raw = { kind: 'RateLimitPolicy', metadata, spec: { domain: `${NAMESPACE}.${name}`, ...spec } } as const;
  const validation = validate(raw);
  if (!validation.ok) throw new Error(`policy ${name}: ${JSON.stringify(validation.problems)}`);
  if (validation.resource.kind !== 'RateLimitPolicy') throw new Error(`policy ${name} is no policy`);
  return validation.resource;
}
