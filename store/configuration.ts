import type { RedisClient } from './connection.ts';
import { entryId } from '../policy/manifest.ts';
import {
  type ManifestEntry,
  readIndex,
  readShard,
  type StoredDocument,
  UnreadableDocument,
} from '../policy/documents.ts';
import type { ConfigurationIdentity } from '../policy/snapshot.ts';
import { StoreError, toStoreError } from './errors.ts';
import type { Names } from './names.ts';
import { portionsOf } from './portions.ts';
import { integerOf } from './reply.ts';

/** What is in force: whose, and which configuration. */
export type Head = ConfigurationIdentity & { readonly owner: string };

/** How long a document lives that nothing refers to: longer than any pod takes to load. */
export const UNREFERENCED_MILLIS = 3_600_000;
const CHUNK = 500;
/** What is written or read at once: Redis needs half a millisecond for it, and answers others before it goes on. */
const PORTION_BYTES = 524_288;
/** Around the text: name, command, reply. */
const BESIDES_BYTES = 512;
/** How many are read before it is known how large they are. */
const FIRST_READ = 25;

export async function readHead(redis: RedisClient, names: Names): Promise<Head | undefined> {
  const stored = await call(() => redis.hmget(names.head, 'owner', 'incarnation', 'epoch', 'revision', 'manifest'));
  return parseHead(stored.map((value) => value ?? ''));
}

/** Head from its fields in the order owner, incarnation, epoch, revision, manifest; undefined if there is none. */
export function parseHead([owner, incarnation, epoch, revision, manifest]: readonly string[]): Head | undefined {
  if (!owner || !incarnation || !manifest) return undefined;
  return { owner, incarnation, epoch: integerOf(epoch), revision: integerOf(revision), manifest };
}

/** The texts of documents by name. Throws MISSING_DOCUMENT if one is not there. */
export async function readDocuments(
  redis: RedisClient,
  names: Names,
  wanted: readonly string[],
): Promise<Map<string, string>> {
  const texts = await findDocuments(redis, names, wanted);
  const missing = wanted.find((name) => !texts.has(name));
  if (missing !== undefined) throw new StoreError('MISSING_DOCUMENT', `document ${missing} is not in Redis`);
  return texts;
}

/** The texts of those documents that are there, by name. */
export async function findDocuments(
  redis: RedisClient,
  names: Names,
  wanted: readonly string[],
): Promise<Map<string, string>> {
  const texts = new Map<string, string>();
  // Each portion says by its mean how many the next one may have.
  let count = FIRST_READ;
  for (let start = 0; start < wanted.length;) {
    const chunk = wanted.slice(start, start + count);
    const stored = await call(() => redis.mget(chunk.map((name) => names.document(name))));
    let bytes = 0;
    chunk.forEach((name, index) => {
      const text = stored[index];
      bytes += BESIDES_BYTES + (text?.length ?? 0);
      if (typeof text === 'string') texts.set(name, text);
    });
    start += chunk.length;
    count = Math.min(CHUNK, Math.ceil((PORTION_BYTES * chunk.length) / bytes));
  }
  return texts;
}

export type LoadedManifest = {
  readonly entries: ReadonlyMap<string, ManifestEntry>;
  /** Names of the index and its shards. */
  readonly parts: readonly string[];
};

/** All entries of a manifest by their identity. */
export async function readManifest(redis: RedisClient, names: Names, manifest: string): Promise<LoadedManifest> {
  const index = readIndex((await readDocuments(redis, names, [manifest])).get(manifest) ?? '');
  const shards = await readDocuments(redis, names, index.shards);
  const entries = new Map<string, ManifestEntry>();
  for (const text of shards.values()) {
    for (const entry of readShard(text).entries) entries.set(entryId(entry), entry);
  }
  return { entries, parts: [manifest, ...index.shards] };
}

/** Undefined if a part of it is lost, or of a format that this version does not read. */
export async function findManifest(
  redis: RedisClient,
  names: Names,
  manifest: string,
): Promise<LoadedManifest | undefined> {
  try {
    return await readManifest(redis, names, manifest);
  } catch (error) {
    if (error instanceof UnreadableDocument) return undefined;
    if (error instanceof StoreError && error.code === 'MISSING_DOCUMENT') return undefined;
    throw error;
  }
}

/**
 * Stores documents that nothing refers to yet; those that are there already are left alone, as one that is in force
 * must not be given a time to live.
 */
export async function writeDocuments(
  redis: RedisClient,
  names: Names,
  documents: readonly StoredDocument[],
): Promise<void> {
  for (const portion of portionsOf(documents, PORTION_BYTES, ({ text }) => BESIDES_BYTES + text.length)) {
    const pipeline = redis.pipeline();
    for (const document of portion) {
      pipeline.set(names.document(document.name), document.text, 'PX', UNREFERENCED_MILLIS, 'NX');
    }
    const results = await call(() => pipeline.exec());
    const failure = results?.find(([error]) => error !== null)?.[0];
    if (failure) throw toStoreError(failure);
  }
}

/** Those of the named documents that are not there, or will not stay. */
export async function findUnsafeDocuments(
  redis: RedisClient,
  names: Names,
  wanted: readonly string[],
): Promise<string[]> {
  const unsafe: string[] = [];
  for (let start = 0; start < wanted.length; start += CHUNK) {
    const chunk = wanted.slice(start, start + CHUNK);
    const pipeline = redis.pipeline();
    for (const name of chunk) pipeline.pttl(names.document(name));
    const results = await call(() => pipeline.exec());
    results?.forEach(([error, millis], index) => {
      if (error !== null) throw toStoreError(error);
      // -1: it has no time to live.
      if (millis !== -1) unsafe.push(chunk[index] ?? '');
    });
  }
  return unsafe;
}

/**
 * Removes documents that are not what they should be, as when somebody wrote something else under their keys: what is
 * there is never written over. Returns their names, and those of documents that are not there.
 */
export async function removeDamagedDocuments(
  redis: RedisClient,
  names: Names,
  documents: readonly StoredDocument[],
): Promise<string[]> {
  const damaged: string[] = [];
  for (let start = 0; start < documents.length; start += CHUNK) {
    const chunk = documents.slice(start, start + CHUNK);
    const wanted = chunk.map(({ name }) => name);
    // Of a key that holds no string, Redis says here that it is not there.
    const texts = await findDocuments(redis, names, wanted);
    damaged.push(...chunk.filter(({ name, text }) => texts.get(name) !== text).map(({ name }) => name));
  }
  if (damaged.length > 0) await call(() => redis.del(damaged.map((name) => names.document(name))));
  return damaged;
}

async function call<T>(command: () => Promise<T>): Promise<T> {
  try {
    return await command();
  } catch (error) {
    throw toStoreError(error);
  }
}
