import { hashOfKey, recordNameOf } from '../../policy/api-key.ts';
import { compileResource } from '../../policy/compile.ts';
import { type ManifestEntry, type StoredDocument, toStored } from '../../policy/documents.ts';
import { buildManifest, entryId } from '../../policy/manifest.ts';
import type { RawResource } from '../../policy/resource.ts';
import type { RateLimitDomainSpec } from '../../policy/schema/rate-limit-domain.ts';
import type { RateLimitOverrideSpec } from '../../policy/schema/rate-limit-override.ts';
import type { RateLimitPolicySpec } from '../../policy/schema/rate-limit-policy.ts';
import type { SystemHealthSpec } from '../../policy/schema/system-health.ts';
import { validate } from '../../policy/validate.ts';
import { type Head, type LoadedManifest, readHead, readManifest, writeDocuments } from '../../store/configuration.ts';
import { type ConsumerRecord, writeKeySet } from '../../store/consumer-keys.ts';
import type { Names } from '../../store/names.ts';
import { publish, settle } from '../../store/publish.ts';
import type { Redis } from 'ioredis';

/** Where to publish, and as whom. */
export type Target = { readonly redis: Redis; readonly names: Names; readonly owner: string };

export type Published = Omit<Head, 'owner'>;

/** One object of a manifest; its document may be anything, also what no operator would write. */
export type Entry = { readonly resource: RawResource; readonly document: StoredDocument };

const metadata = (name: string, namespace: string): RawResource['metadata'] => ({
  namespace,
  name,
  uid: `uid-of-${name}`,
  generation: 1,
  creationTimestamp: '2026-01-01T00:00:00Z',
});

/** A policy, validated and compiled as the operator does it. */
export function aPolicy(spec: RateLimitPolicySpec, name = 'policy', namespace = 'payments'): Entry {
  return compiled({ kind: 'RateLimitPolicy', metadata: metadata(name, namespace), spec });
}

export function aDomain(spec: RateLimitDomainSpec, name = 'payments', namespace = 'payments'): Entry {
  return compiled({ kind: 'RateLimitDomain', metadata: metadata(name, namespace), spec });
}

export function anOverride(spec: RateLimitOverrideSpec, name = 'override', namespace = 'payments'): Entry {
  return compiled({ kind: 'RateLimitOverride', metadata: metadata(name, namespace), spec });
}

export function aHealth(spec: SystemHealthSpec, name = 'incident'): Entry {
  return compiled({ kind: 'SystemHealth', metadata: metadata(name, ''), spec });
}

/** An entry whose document has this text, whatever it is. */
export function aRawDocument(text: string, name = 'policy'): Entry {
  const resource: RawResource = { kind: 'RateLimitPolicy', metadata: metadata(name, 'payments'), spec: {} };
  return { resource, document: { name: `raw-${name}-${text.length}`, text } };
}

function compiled(raw: RawResource): Entry {
  const validation = validate(raw);
  if (!validation.ok) throw new Error(`not valid: ${JSON.stringify(validation.problems)}`);
  const document = compileResource(validation.resource);
  if (document === undefined) throw new Error('consumers are not part of the configuration');
  return { resource: raw, document: toStored(document) };
}

const NOTHING: LoadedManifest = { entries: new Map(), parts: [] };

/** Puts exactly these objects in force, as the next revision of the incarnation that is there. */
export async function publishEntries(target: Target, entries: readonly Entry[]): Promise<Published> {
  const { redis, names, owner } = target;
  const seen = await readHead(redis, names);
  const revision = (seen?.revision ?? 0) + 1;
  const inForce = seen === undefined ? NOTHING : await readManifest(redis, names, seen.manifest);
  const manifest = buildManifest(entries.map((entry) => toManifestEntry(entry, inForce.entries, revision)));
  const documents = [manifest.index, ...manifest.shards, ...entries.map(({ document }) => document)];
  const references = new Set(documents.map(({ name }) => name));
  const before = new Set([...inForce.parts, ...[...inForce.entries.values()].map(({ document }) => document)]);
  const incarnation = seen?.incarnation ?? `incarnation-${process.hrtime.bigint()}`;
  const next = { incarnation, epoch: seen?.epoch ?? 1, revision, manifest: manifest.index.name };
  await writeDocuments(redis, names, documents);
  const becoming = [...references].filter((name) => !before.has(name));
  const leaving = [...before].filter((name) => !references.has(name));
  const settling = await publish(redis, names, { owner, seen, next, becoming, leaving });
  if (settling !== undefined) await settle(redis, names, { owner, head: { owner, ...next }, settling, leaving });
  return next;
}

/** As the operator does it: an entry tells since which revision its document is in force. */
function toManifestEntry(
  { resource, document }: Entry,
  inForce: LoadedManifest['entries'],
  revision: number,
): ManifestEntry {
  const { kind } = resource;
  const { namespace, name, uid, generation } = resource.metadata;
  const before = inForce.get(entryId({ kind, namespace, name }));
  const since = before?.document === document.name ? before.revision : revision;
  return { kind, namespace, name, uid, generation, revision: since, document: document.name };
}

export type TestKey = { readonly key: string } & Partial<ConsumerRecord>;

/** Makes these the whole set of API keys. Returns its sequence number. */
export function publishKeys(target: Target, keys: readonly TestKey[], pepper: string): Promise<number> {
  const writer = { owner: target.owner, incarnation: 'keys of the test', epoch: 1, seenSequence: 0 };
  const writes = keys.map(({ key, ...record }) => ({
    name: recordNameOf(pepper, hashOfKey(key)),
    record: { consumer: 'acme', namespace: 'payments', uid: 'uid-of-acme', generation: 1, ...record },
  }));
  return writeKeySet(target.redis, target.names, writer, writes);
}
