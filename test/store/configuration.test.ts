import type { Redis } from 'ioredis';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { ManifestEntry, StoredDocument } from '../../policy/documents.ts';
import { buildManifest, entryId } from '../../policy/manifest.ts';
import { parseHead, readDocuments, readManifest, writeDocuments } from '../../store/configuration.ts';
import { createNames } from '../../store/names.ts';
import { type PrivateRedis, privateRedis } from '../harness/redis.ts';

const names = createNames('default');

let server: PrivateRedis;
let redis: Redis;

beforeAll(async () => {
  server = await privateRedis();
  ({ redis } = server);
});
afterAll(() => server.stop());
beforeEach(async () => {
  await redis.flushall();
});

const aDocument = (name: string): StoredDocument => ({ name, text: `the text of ${name}` });

/** Keys of a call of MGET, as the log of slow calls has it. */
function countOf(words: readonly string[]): number {
  const more = /^\.\.\. \((\d+) more arguments\)$/.exec(words.at(-1) ?? '')?.[1];
  return more === undefined ? words.length - 1 : words.length - 2 + Number(more);
}

describe('reading', () => {
  it('finds any number of documents by name', async () => {
    const documents = Array.from({ length: 1_201 }, (_, i) => aDocument(`d${i}`));
    await writeDocuments(redis, names, documents);
    const read = await readDocuments(
      redis,
      names,
      documents.map(({ name }) => name),
    );
    expect(read).toEqual(new Map(documents.map(({ name, text }) => [name, text])));
  });

  it('finds large documents a few at a time, and small ones many at a time', async () => {
    const large = Array.from({ length: 100 }, (_, i) => ({ name: `l${i}`, text: 'x'.repeat(100_000) }));
    const small = Array.from({ length: 900 }, (_, i) => aDocument(`s${i}`));
    await writeDocuments(redis, names, [...large, ...small]);
    await redis.config('SET', 'slowlog-log-slower-than', '0');
    await redis.slowlog('RESET');
    const wanted = [...large, ...small].map(({ name }) => name);
    expect((await readDocuments(redis, names, wanted)).size).toBe(1_000);
    const calls = (await redis.slowlog('GET', 128)) as [number, number, number, string[]][];
    // Slow commands are remembered with at most 32 words: the last says how many more there are.
    const counts = calls
      .filter(([, , , [name]]) => name === 'mget')
      .map(([, , , words]) => countOf(words))
      .toReversed();
    expect(counts[0]).toBe(25);
    expect(Math.max(...counts.slice(1, 10))).toBe(6);
    expect(counts.reduce((sum, count) => sum + count)).toBe(1_000);
    expect(Math.max(...counts)).toBe(500);
  });

  it('names the document that is not there', async () => {
    await writeDocuments(redis, names, [aDocument('a')]);
    await expect(readDocuments(redis, names, ['a', 'gone'])).rejects.toMatchObject({
      code: 'MISSING_DOCUMENT',
      message: expect.stringContaining('gone'),
    });
  });

  it('gives all entries of a manifest, and the names of its parts', async () => {
    const entries = Array.from({ length: 300 }, (_, i): ManifestEntry => ({
      kind: 'RateLimitPolicy',
      namespace: 'payments',
      name: `policy-${i}`,
      uid: `uid-${i}`,
      generation: 1,
      revision: 1,
      document: `document-${i}`,
    }));
    const { index, shards } = buildManifest(entries);
    await writeDocuments(redis, names, [index, ...shards]);
    const loaded = await readManifest(redis, names, index.name);
    expect(loaded.entries).toEqual(new Map(entries.map((entry) => [entryId(entry), entry])));
    expect(loaded.parts).toEqual([index.name, ...shards.map(({ name }) => name)]);
  });

  it('takes a head that is not whole for none, and one that is broken for an error', () => {
    expect(parseHead(['ours', 'one', '3', '5', ''])).toBeUndefined();
    expect(parseHead([])).toBeUndefined();
    expect(() => parseHead(['ours', 'one', '3', 'five', 'm5'])).toThrow(expect.objectContaining({ code: 'BAD_REPLY' }));
  });
});
