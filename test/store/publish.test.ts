import type { Redis } from 'ioredis';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { StoredDocument } from '../../policy/documents.ts';
import { readHead, writeDocuments } from '../../store/configuration.ts';
import { createNames } from '../../store/names.ts';
import { AT_ONCE, publish, type PublishRequest, readHeadState, settle } from '../../store/publish.ts';
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
    await publish(redis, names, await aNext());
    const head = { owner: 'ours', incarnation: 'one', epoch: 3, revision: 6, manifest: 'm6' };
    expect(await readHead(redis, names)).toEqual(head);
    const micros = Number(await redis.hget(names.head, 'publishedAt'));
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

const MANY = 4 * AT_ONCE;
const many = (prefix: string): string[] => Array.from({ length: MANY }, (_, index) => `${prefix}${index}`);

/** After `givenHead`: the documents a0, a1, … with the manifest m6, then b0, b1, … with m7 instead of them. */
async function givenMany(): Promise<PublishRequest> {
  await givenHead();
  const [first, second] = [many('a'), many('b')];
  await writeDocuments(redis, names, ['m6', 'm7', ...first, ...second].map(aDocument));
  await publish(redis, names, await aNext({ becoming: ['m6', ...first] }));
  const { head, settling } = await readHeadState(redis, names);
  if (settling === undefined) throw new Error('this was to be a publish of many');
  await settle(redis, names, { owner: 'ours', head, settling, leaving: ['m5', 'b'] });
  return {
    owner: 'ours',
    seen: await readHead(redis, names),
    next: { incarnation: 'one', epoch: 3, revision: 7, manifest: 'm7' },
    becoming: ['m7', ...second],
    leaving: ['m6', ...first],
  };
}

/** Of these documents, how many have no time to live. */
const permanent = async (documents: readonly string[]): Promise<number> =>
  (await Promise.all(documents.map(timeToLive))).filter((millis) => millis === -1).length;

describe('a publish of many documents', () => {
  it('has the new ones permanent when head moves, and the old ones until it is settled', async () => {
    const request = await givenMany();
    const settling = await publish(redis, names, request);
    expect(await readHeadState(redis, names)).toEqual({ head: { owner: 'ours', ...request.next }, settling });
    expect(settling?.manifest).toBe('m6');
    expect(await permanent([...request.becoming, ...request.leaving])).toBe(2 * MANY + 2);
    if (settling === undefined) throw new Error('unreachable');
    const head = await readHead(redis, names);
    await settle(redis, names, { owner: 'ours', head, settling, leaving: request.leaving });
    expect(await permanent(request.becoming)).toBe(MANY + 1);
    expect(await permanent(request.leaving)).toBe(0);
    expect(await readHeadState(redis, names)).toEqual({ head, settling: undefined });
  });

  it('announces its revision once, when everything is there', async () => {
    const request = await givenMany();
    const listener = redis.duplicate();
    const announced: { message: string; permanent: Promise<number> }[] = [];
    listener.on('message', (_channel, message) => announced.push({ message, permanent: permanent(request.becoming) }));
    await listener.subscribe(names.changes);
    const settling = await publish(redis, names, request);
    if (settling === undefined) throw new Error('this was to be a publish of many');
    await settle(redis, names, { ...request, head: await readHead(redis, names), settling });
    await redis.publish(names.changes, 'the end');
    await eventually(() => expect(announced.map(({ message }) => message)).toEqual(['head 7', 'the end']));
    expect(await announced[0]?.permanent).toBe(MANY + 1);
    listener.disconnect();
  });

  it('asks Redis for few documents at once', async () => {
    const request = await givenMany();
    await redis.config('SET', 'slowlog-log-slower-than', '0');
    await redis.config('SET', 'slowlog-max-len', '100000');
    await redis.slowlog('RESET');
    const settling = await publish(redis, names, request);
    if (settling === undefined) throw new Error('this was to be a publish of many');
    await settle(redis, names, { ...request, head: await readHead(redis, names), settling });
    const counts = await calledWith();
    expect(counts.length).toBeGreaterThan((2 * MANY) / AT_ONCE);
    expect(Math.max(...counts)).toBe(AT_ONCE + 1);
  });

  it.each([0, AT_ONCE - 1, AT_ONCE, MANY - 1])('leaves head where it is when document %i is missing', async (place) => {
    const request = await givenMany();
    await redis.del(names.document(`b${place}`));
    await expect(publish(redis, names, request)).rejects.toMatchObject({
      code: 'MISSING_DOCUMENT',
      message: expect.stringContaining(`b${place} `),
    });
    const { head, settling } = await readHeadState(redis, names);
    expect(head).toEqual(request.seen);
    expect(await permanent(request.leaving)).toBe(MANY + 1);
    // What was made permanent in vain is said, and can be let go of.
    expect((await permanent(request.becoming)) > 0).toBe(settling !== undefined);
    if (settling === undefined) return;
    expect(settling.manifest).toBe('m7');
    await settle(redis, names, { owner: 'ours', head, settling, leaving: request.becoming });
    expect(await permanent(request.becoming)).toBe(0);
    expect(await readHeadState(redis, names)).toEqual({ head, settling: undefined });
  });

  it('is refused at its next step when somebody else published, or settled, meanwhile', async () => {
    const request = await givenMany();
    const settling = await publish(redis, names, request);
    if (settling === undefined) throw new Error('this was to be a publish of many');
    const head = await readHead(redis, names);
    const ours = { owner: 'ours', head, settling, leaving: request.leaving };
    const other = { ...ours, head: head && { ...head, revision: 6 } };
    await expect(settle(redis, names, other)).rejects.toMatchObject({ code: 'HEAD_MOVED' });
    await settle(redis, names, { ...ours, leaving: [] });
    await expect(settle(redis, names, ours)).rejects.toMatchObject({
      code: 'HEAD_MOVED',
      message: expect.stringContaining('somebody else'),
    });
    await expect(settle(redis, names, { ...ours, owner: 'theirs' })).rejects.toMatchObject({ code: 'OWNED_BY_OTHER' });
    expect(await permanent([...request.becoming, ...request.leaving])).toBe(2 * MANY + 2);
  });
});

/** Numbers of keys of the calls of the script that Redis remembers. */
async function calledWith(): Promise<number[]> {
  const entries = (await redis.slowlog('GET', 100_000)) as [number, number, number, string[]][];
  return entries.filter(([, , , [name]]) => name === 'evalsha').map(([, , , call]) => Number(call[2]));
}
