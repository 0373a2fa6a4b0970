import { randomUUID } from 'node:crypto';
import { hashOfKey, recordNameOf } from '../policy/api-key.ts';
import { compileResource } from '../policy/compile.ts';
import { type ManifestEntry, type StoredDocument, toStored } from '../policy/documents.ts';
import { buildManifest } from '../policy/manifest.ts';
import type { ValidResource } from '../policy/resource.ts';
import type { RateLimitDomainSpec } from '../policy/schema/rate-limit-domain.ts';
import { validate } from '../policy/validate.ts';
import { readHead, writeDocuments } from '../store/configuration.ts';
import { writeKeySet } from '../store/consumer-keys.ts';
import type { RedisClient } from '../store/connection.ts';
import { createNames } from '../store/names.ts';
import { publish, settle } from '../store/publish.ts';
import type { Caller } from './callers.ts';
import { NAMESPACE, type NamedSpecs } from './worlds.ts';

/** A configuration that needs only to be put in force. */
export type Prepared = { readonly documents: readonly StoredDocument[]; readonly manifest: string };

/** Validates and compiles, as the operator does it. */
export function prepare(specs: NamedSpecs, domains: Readonly<Record<string, RateLimitDomainSpec>> = {}): Prepared {
  const resources = [
    ...Object.entries(specs).map(([name, spec]) =>
      toResource('RateLimitPolicy', name, { domain: `${NAMESPACE}.${name}`, ...spec }),
    ),
    ...Object.entries(domains).map(([name, spec]) => toResource('RateLimitDomain', name, spec)),
  ];
  const documents = resources.map(toDocument);
  const entries = resources.map(({ kind, metadata: { namespace, name, uid, generation } }, index): ManifestEntry => ({
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

/**
 * Makes it the next revision of the installation, which is its own owner; the number of that revision. Writes what is
 * new since `before`, and lets go of what is not needed any more, as the operator does it.
 */
export async function putInForce(
  redis: RedisClient,
  installation: string,
  { documents, manifest }: Prepared,
  before: Prepared = { documents: [], manifest: '' },
): Promise<number> {
  const names = createNames(installation);
  const seen = await readHead(redis, names);
  const revision = (seen?.revision ?? 0) + 1;
  const becoming = namesBeside(documents, before.documents);
  await writeDocuments(
    redis,
    names,
    documents.filter(({ name }) => becoming.has(name)),
  );
  const next = { incarnation: seen?.incarnation ?? randomUUID(), epoch: 1, revision, manifest };
  const leaving = [...namesBeside(before.documents, documents)];
  const request = { owner: installation, seen, next, becoming: [...becoming], leaving };
  const settling = await publish(redis, names, request);
  if (settling !== undefined) {
    await settle(redis, names, { owner: installation, head: { owner: installation, ...next }, settling, leaving });
  }
  return revision;
}

function namesBeside(documents: readonly StoredDocument[], others: readonly StoredDocument[]): Set<string> {
  const known = new Set(others.map(({ name }) => name));
  return new Set(documents.map(({ name }) => name).filter((name) => !known.has(name)));
}

/** Every caller gets the API key of `apiKeyOf`. */
export async function publishKeys(
  redis: RedisClient,
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
function toResource(kind: 'RateLimitPolicy' | 'RateLimitDomain', name: string, spec: object): ValidResource {
  const metadata = { namespace: NAMESPACE, name, uid: name, generation: 1, creationTimestamp: '2026-01-01T00:00:00Z' };
  const validation = validate({ kind, metadata, spec });
  if (!validation.ok) throw new Error(`${kind} ${name}: ${JSON.stringify(validation.problems)}`);
  return validation.resource;
}

function toDocument(resource: ValidResource): StoredDocument {
  const document = compileResource(resource);
  if (document === undefined) throw new Error(`${resource.kind} ${resource.metadata.name} is not compiled`);
  return toStored(document);
}
