import type { Redis } from 'ioredis';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { ManifestEntry, StoredDocument } from '../../policy/documents.ts';
import { buildManifest, entryId } from '../../policy/manifest.ts';
import {
  parseHead,
  publish,
  type PublishRequest,
  readDocuments,
  readHead,
  readManifest,
  writeDocuments,
} from '../../store/configuration.ts';
import { createNames } from '../../store/names.ts';
import { contentsOf } from '../harness/contents.ts';
import { eventually } from '../harness/eventually.ts';
import { type PrivateRedis, privateRedis } from '../harness/redis.ts';
import { redisMicros } from '../harness/redis-time.ts';

const names = createNames('default');
const HOUR_MILLIS = 3_600_000;

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

/** What is in force at the beginning of a test: revision 5 of epoch 3, with the documents m5, a and b. */
async function givenHead(): Promise<PublishRequest> {
  const first: PublishRequest = {
    owner: 'ours',
    seen: undefined,
    next: { incarnation: 'one', epoch: 3, revision: 5, manifest: 'm5' },
    becoming: ['m5', 'a', 'b'],
    leaving: [],
  };
  await writeDocuments(redis, names, first.becoming.map(aDocument));
  await publish(redis, names, first);
  return first;
}

/** A publish that is in order after `givenHead`: document c instead of b. */
async function aNext(change: Partial<PublishRequest> = {}): Promise<PublishRequest> {
  await writeDocuments(redis, names, ['m6', 'c'].map(aDocument));
  return {
    owner: 'ours',
    seen: await readHead(redis, names),
    next: { incarnation: 'one', epoch: 3, revision: 6, manifest: 'm6' },
    becoming: ['m6', 'c'],
    leaving: ['m5', 'b'],
    ...change,
  };
}

const timeToLive = (document: string): Promise<number> => redis.pttl(names.document(document));

describe('publishing', () => {
  it('moves head to what was published, and says when by the clock of Redis', async () => {
    await givenHead();
    const before = await redisMicros(redis);
    const micros = await publish(redis, names, await aNext());
    const head = { owner: 'ours', incarnation: 'one', epoch: 3, revision: 6, manifest: 'm6' };
    expect(await readHead(redis, names)).toEqual(head);
    expect(await redis.hget(names.head, 'publishedAt')).toBe(String(micros));
    expect(micros).toBeGreaterThanOrEqual(before);
    expect(micros).toBeLessThanOrEqual(await redisMicros(redis));
  });

  it('begins where there is no head', async () => {
    expect(await readHead(redis, names)).toBeUndefined();
    const { next } = await givenHead();
    expect(await readHead(redis, names)).toEqual({ owner: 'ours', ...next });
  });

  it('lets a higher epoch take over, and the same one go on', async () => {
    await givenHead();
    const next = { incarnation: 'one', epoch: 4, revision: 6, manifest: 'm6' };
    await publish(redis, names, await aNext({ next }));
    const seen = await readHead(redis, names);
    await publish(redis, names, await aNext({ seen, next: { ...next, revision: 7 }, becoming: [], leaving: [] }));
    expect(await readHead(redis, names)).toMatchObject({ epoch: 4, revision: 7 });
  });

  it('announces the revision once it can be read, and only if it was published', async () => {
    const listener = redis.duplicate();
    const announced: { message: string; revision: Promise<string | null> }[] = [];
    listener.on('message', (_channel, message) =>
      announced.push({ message, revision: redis.hget(names.head, 'revision') }),
    );
    await listener.subscribe(names.changes);
    await givenHead();
    await expect(publish(redis, names, await aNext({ owner: 'theirs' }))).rejects.toThrow('ours');
    await publish(redis, names, await aNext());
    await eventually(() => expect(announced.map(({ message }) => message)).toEqual(['head 5', 'head 6']));
    expect(await announced[1]?.revision).toBe('6');
    listener.disconnect();
  });
});

describe('a publish that is not in order changes nothing', () => {
  const identity = { incarnation: 'one', epoch: 3, revision: 6, manifest: 'm6' };
  const seen = { owner: 'ours', incarnation: 'one', epoch: 3, revision: 5, manifest: 'm5' };

  it.each<[string, Partial<PublishRequest>, { code: string; transient: boolean; message: unknown }]>([
    [
      'when another installation publishes here',
      { owner: 'theirs' },
      { code: 'OWNED_BY_OTHER', transient: false, message: expect.stringContaining('"ours"') },
    ],
    [
      'when an operator of a higher epoch was here',
      { next: { ...identity, epoch: 2 } },
      { code: 'SUPERSEDED', transient: false, message: expect.stringContaining('epoch 3') },
    ],
    [
      'when head has moved on',
      { seen: { ...seen, revision: 4 } },
      { code: 'HEAD_MOVED', transient: true, message: expect.stringContaining('revision 5') },
    ],
    [
      'when head has moved back',
      { seen: { ...seen, revision: 6 } },
      { code: 'HEAD_MOVED', transient: true, message: expect.stringContaining('revision 5') },
    ],
    [
      'when head is of another incarnation',
      { next: { ...identity, incarnation: 'two' } },
      { code: 'HEAD_MOVED', transient: true, message: expect.any(String) },
    ],
    [
      'when there is a head and none was seen',
      { seen: undefined },
      { code: 'HEAD_MOVED', transient: true, message: expect.any(String) },
    ],
    [
      'when a document is missing, which is named',
      { becoming: ['m6', 'c', 'gone'] },
      { code: 'MISSING_DOCUMENT', transient: true, message: expect.stringContaining('gone') },
    ],
  ])('%s', async (_title, change, expected) => {
    await givenHead();
    const request = await aNext(change);
    const before = await contentsOf(redis);
    await expect(publish(redis, names, request)).rejects.toMatchObject({ name: 'StoreError', ...expected });
    expect(await contentsOf(redis)).toEqual(before);
  });

  it.each([0, 999, 1_000, 1_500, 2_000])('when of 2,001 documents the one at place %i is missing', async (place) => {
    await givenHead();
    const becoming = Array.from({ length: 2_001 }, (_, index) => `d${index}`);
    await writeDocuments(redis, names, becoming.map(aDocument));
    await redis.del(names.document(`d${place}`));
    const before = await redis.hgetall(names.head);
    await expect(publish(redis, names, await aNext({ becoming }))).rejects.toMatchObject({
      code: 'MISSING_DOCUMENT',
      message: expect.stringContaining(`d${place} `),
    });
    expect(await redis.hgetall(names.head)).toEqual(before);
    expect(await timeToLive('d500')).toBeGreaterThan(0);
  });

  it('when a head was seen and Redis has lost it since', async () => {
    await givenHead();
    const request = await aNext();
    await redis.del(names.head);
    const before = await contentsOf(redis);
    await expect(publish(redis, names, request)).rejects.toMatchObject({ code: 'HEAD_MOVED' });
    expect(await contentsOf(redis)).toEqual(before);
  });
});

describe('the time to live of a document', () => {
  it('is an hour while nothing refers to it', async () => {
    await writeDocuments(redis, names, [aDocument('a')]);
    expect(await timeToLive('a')).toBeGreaterThan(HOUR_MILLIS - 60_000);
    expect(await timeToLive('a')).toBeLessThanOrEqual(HOUR_MILLIS);
  });

  it('ends when it is published, begins again when it leaves, and ends again when it comes back', async () => {
    await givenHead();
    expect(await Promise.all(['m5', 'a', 'b'].map(timeToLive))).toEqual([-1, -1, -1]);
    await publish(redis, names, await aNext());
    expect(await Promise.all(['m6', 'a', 'c'].map(timeToLive))).toEqual([-1, -1, -1]);
    for (const left of ['m5', 'b']) {
      expect(await timeToLive(left)).toBeGreaterThan(HOUR_MILLIS - 60_000);
      expect(await timeToLive(left)).toBeLessThanOrEqual(HOUR_MILLIS);
    }
    await writeDocuments(redis, names, ['m5', 'b'].map(aDocument));
    await publish(redis, names, {
      ...(await aNext()),
      next: { incarnation: 'one', epoch: 3, revision: 7, manifest: 'm5' },
      becoming: ['m5', 'b'],
      leaving: ['m6', 'c'],
    });
    expect(await Promise.all(['m5', 'a', 'b'].map(timeToLive))).toEqual([-1, -1, -1]);
  });

  it('is never given to one in force, however often it is written and published', async () => {
    await givenHead();
    for (const revision of [6, 7]) {
      await writeDocuments(redis, names, ['m5', 'a', 'b'].map(aDocument));
      const next = { incarnation: 'one', epoch: 3, revision, manifest: 'm5' };
      await publish(redis, names, await aNext({ next, becoming: ['m5', 'a', 'b'], leaving: [] }));
      expect(await Promise.all(['m5', 'a', 'b'].map(timeToLive))).toEqual([-1, -1, -1]);
    }
    await writeDocuments(redis, names, [{ name: 'a', text: 'another text' }]);
    expect(await redis.get(names.document('a'))).toBe('the text of a');
  });
});

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
