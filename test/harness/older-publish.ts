// How operators published before a publish could take several steps: one script for everything. Such an operator may
// lead before an upgrade, during one, and after a roll-back.
import type { ManifestEntry, StoredDocument } from '../../policy/documents.ts';
import { buildManifest } from '../../policy/manifest.ts';
import { readHead, readManifest, writeDocuments } from '../../store/configuration.ts';
import type { RedisClient } from '../../store/connection.ts';
import type { Names } from '../../store/names.ts';
import { Script } from '../../store/script.ts';

const script = new Script(`#!lua
local head = redis.call('HMGET', KEYS[1], 'owner', 'incarnation', 'epoch', 'revision')
local owner, incarnation, epoch, revision = head[1], head[2], tonumber(head[3] or 0), tonumber(head[4] or 0)
local becoming = tonumber(ARGV[7])
if owner and owner ~= ARGV[1] then return { 1, owner } end
if not (epoch <= tonumber(ARGV[2])) then return { 2, string.format('%.0f', epoch) } end
if revision ~= tonumber(ARGV[4]) or (incarnation and incarnation ~= ARGV[3]) then
  return { 3, string.format('%.0f', revision) }
end
for i = 2, becoming + 1 do
  if redis.call('EXISTS', KEYS[i]) == 0 then return { 4, string.format('%.0f', i - 1) } end
end
for i = 1, becoming do redis.call('PERSIST', KEYS[i + 1]) end
for i = becoming + 2, #KEYS do redis.call('PEXPIRE', KEYS[i], ARGV[8]) end
redis.call('HSET', KEYS[1], 'owner', ARGV[1], 'incarnation', ARGV[3], 'epoch', ARGV[2], 'revision', ARGV[5],
  'manifest', ARGV[6], 'publishedAt', '1')
return { 0, '1' }`);

/** As an operator does it that has just begun to lead. Returns whether it could. */
export async function publishAsBefore(
  redis: RedisClient,
  names: Names,
  owner: string,
  wanted: { readonly entries: readonly ManifestEntry[]; readonly documents: readonly StoredDocument[] },
): Promise<boolean> {
  const seen = await readHead(redis, names);
  const revision = (seen?.revision ?? 0) + 1;
  const { index, shards } = buildManifest(wanted.entries.map((entry) => ({ ...entry, revision })));
  const documents = [index, ...shards, ...wanted.documents];
  const kept = new Set(documents.map(({ name }) => name));
  const before = seen && (await readManifest(redis, names, seen.manifest));
  const referred = [...(before?.parts ?? []), ...[...(before?.entries.values() ?? [])].map(({ document }) => document)];
  const leaving = referred.filter((name) => !kept.has(name));
  await writeDocuments(redis, names, documents);
  const keys = [names.head, ...[...kept, ...leaving].map((name) => names.document(name))];
  const [incarnation, epoch] = [seen?.incarnation ?? `older-${process.hrtime.bigint()}`, (seen?.epoch ?? 0) + 1];
  const args = [owner, epoch, incarnation, seen?.revision ?? 0, revision, index.name, kept.size, 3_600_000];
  const [code] = (await script.run(redis, keys, args)) as [number];
  return code === 0;
}
