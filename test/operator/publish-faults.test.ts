// Publishes of many documents by operators that die, lose calls and replies, lead two at a time, are of an older version,
// on a Redis that may lose its last writes. Whatever happens, what head refers to is there and stays, and what else
// stays is said.
import fc from 'fast-check';
import type { Redis } from 'ioredis';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Publisher } from '../../operator/publisher.ts';
import { FORMAT, type ManifestEntry, type StoredDocument, toStored } from '../../policy/documents.ts';
import { StoreError } from '../../store/errors.ts';
import { createNames } from '../../store/names.ts';
import { publishAsBefore } from '../harness/older-publish.ts';
import { type PrivateRedis, privateRedis } from '../harness/redis.ts';
import { rollBack, save } from '../harness/roll-back.ts';
import { type Fate, Stepwise } from '../harness/stepwise.ts';

const names = createNames('faults');
const OWNER = 'test';
/** With those that leave, more than one step takes; the single one is published in one. */
const BLOCKS = { a: 100, b: 100, c: 100, single: 1 } as const;
type Block = keyof typeof BLOCKS;
/** Which of two forms each block has; 0 = it is not there. */
type Wish = Readonly<Record<Block, 0 | 1 | 2>>;

let server: PrivateRedis;
beforeAll(async () => {
  server = await privateRedis();
});
afterAll(() => server.stop());

type Stated = { readonly entry: ManifestEntry; readonly stored: StoredDocument };

const kind = 'SystemHealth' as const;
const statedBy = new Map(
  (Object.keys(BLOCKS) as Block[]).flatMap((block) =>
    [1, 2].map((form): [string, Stated[]] => [
      `${block}${form}`,
      Array.from({ length: BLOCKS[block] }, (_, index) => state(`${block}-${index}`, form)),
    ]),
  ),
);

function state(name: string, form: number): Stated {
  const stored = toStored({ format: FORMAT, requires: [], kind, name, mode: 'NORMAL', reason: `form ${form}` });
  const entry = { kind, namespace: '', name, uid: name, generation: form, revision: 0, document: stored.name };
  return { entry, stored };
}

const wished = (wish: Wish): Stated[] =>
  (Object.keys(BLOCKS) as Block[]).flatMap((block) => statedBy.get(`${block}${wish[block]}`) ?? []);

async function put(publisher: Publisher, wish: Wish): Promise<void> {
  const inForce = await publisher.readInForce();
  const stated = wished(wish);
  const entries = stated.map(({ entry }): [string, ManifestEntry] => {
    const id = `${kind}//${entry.name}`;
    const before = inForce.get(id);
    return [id, before?.document === entry.document ? before : entry];
  });
  await publisher.publish(new Map(entries), new Map(stated.map(({ stored }) => [stored.name, stored])));
  await publisher.settle();
}

/** What happens next: to a call of one of the operators, or to Redis. */
type Event = { readonly operator: 0 | 1; readonly fate: Fate | 'Redis saves' | 'Redis rolls back' };
type Action = { readonly wish: Wish; readonly isOlder: boolean };

/** A lease: each leader has an epoch above all before it. */
type Lease = (floor: number) => Promise<number>;

function aLease(): Lease {
  let epoch = 0;
  return async (floor) => (epoch = Math.max(epoch, floor) + 1);
}

/** One operator after the other in one place: after a death, and one that was superseded, the next. */
function aPlace(actions: readonly Action[], lease: Lease): Stepwise {
  return new Stepwise(server.redis, async (redis, self) => {
    let publisher = new Publisher(redis, names, OWNER, lease);
    for (const { wish, isOlder } of actions) {
      try {
        if (isOlder) await putAsBefore(redis, wish);
        else await put(publisher, wish);
      } catch (error) {
        if (!(error instanceof StoreError)) throw error;
        if (!self.isDead && error.transient) continue;
        self.replace();
        publisher = new Publisher(redis, names, OWNER, lease);
      }
    }
  });
}

async function putAsBefore(redis: Redis, wish: Wish): Promise<void> {
  const stated = wished(wish);
  const [entries, documents] = [stated.map(({ entry }) => entry), stated.map(({ stored }) => stored)];
  await publishAsBefore(redis, names, OWNER, { entries, documents });
}

type Needed = { readonly parts: ReadonlySet<string>; readonly all: ReadonlySet<string> };

/** What is in Redis, read without any code of ours but the names of keys. */
async function found(): Promise<{
  head: Record<string, string>;
  inForce: Needed;
  besides: Needed;
  permanent: ReadonlySet<string>;
}> {
  const head = await server.redis.hgetall(names.head);
  const prefix = names.document('');
  const keys = await server.redis.keys(`${prefix}*`);
  const pipeline = server.redis.pipeline();
  for (const key of keys) pipeline.pttl(key);
  const lives = (await pipeline.exec()) ?? [];
  const permanent = keys.filter((_key, index) => lives[index]?.[1] === -1).map((key) => key.slice(prefix.length));
  const [other = ''] = head['settling']?.split(' ') ?? [];
  const [inForce, besides] = await Promise.all([neededBy(head['manifest'] ?? ''), neededBy(other)]);
  return { head, inForce, besides, permanent: new Set(permanent) };
}

async function neededBy(manifest: string): Promise<Needed> {
  if (manifest === '') return { parts: new Set(), all: new Set() };
  const text = async (name: string): Promise<string> => {
    const stored = await server.redis.get(names.document(name));
    if (stored === null) throw new Error(`${name} of the manifest ${manifest} is not there`);
    return stored;
  };
  const { shards } = JSON.parse(await text(manifest)) as { shards: string[] };
  const texts = await Promise.all(shards.map(text));
  const documents = texts.flatMap((shard) =>
    (JSON.parse(shard) as { entries: { document: string }[] }).entries.map(({ document }) => document),
  );
  return { parts: new Set([manifest, ...shards]), all: new Set([manifest, ...shards, ...documents]) };
}

/** @param isFound whether what stays besides can be found however late: only operators of before do not see to it. */
async function expectNothingLost(isFound: boolean): Promise<void> {
  const { inForce, besides, permanent } = await found();
  expect([...inForce.all].filter((name) => !permanent.has(name))).toEqual([]);
  const needless = [...permanent].filter((name) => !inForce.all.has(name));
  expect(needless.filter((name) => !besides.all.has(name))).toEqual([]);
  if (!isFound || needless.every((name) => besides.parts.has(name))) return;
  expect([...besides.parts].filter((name) => !permanent.has(name))).toEqual([]);
}

/** Nothing fails any more: the next operator puts everything right. */
async function expectAllSettled(lease: Lease, wish: Wish): Promise<void> {
  const publisher = new Publisher(server.redis, names, OWNER, lease);
  await put(publisher, wish);
  expect(await publisher.audit()).toBe(0);
  const { head, inForce, permanent } = await found();
  expect([...permanent].toSorted()).toEqual([...inForce.all].toSorted());
  expect(head).not.toHaveProperty('settling');
  for (const { stored } of wished(wish)) expect(inForce.all).toContain(stored.name);
}

const form = fc.constantFrom<0 | 1 | 2>(0, 1, 2);
const aWish = fc.record({ a: form, b: form, c: form, single: form });
const anAction = fc.record({
  wish: aWish,
  isOlder: fc.oneof({ weight: 4, arbitrary: fc.constant(false) }, fc.constant(true)),
});
const anEvent: fc.Arbitrary<Event> = fc.record({
  operator: fc.constantFrom<0 | 1>(0, 1),
  fate: fc.oneof(
    { weight: 30, arbitrary: fc.constant<Event['fate']>('runs') },
    fc.constantFrom<Event['fate']>('call lost', 'reply lost', 'dies before', 'dies after'),
    fc.constantFrom<Event['fate']>('Redis saves', 'Redis rolls back'),
  ),
});

async function play(places: readonly Stepwise[], events: readonly Event[], isFound = true): Promise<void> {
  let saved = await save(server.redis);
  for (const { operator, fate } of events) {
    if (fate === 'Redis saves') saved = await save(server.redis);
    else if (fate === 'Redis rolls back') await rollBack(server.redis, saved);
    else await places[operator]?.let(fate);
    await expectNothingLost(isFound);
  }
  for (const place of places) {
    while (!place.isOver) {
      await place.let('runs');
      await expectNothingLost(isFound);
    }
  }
}

describe('publishing while everything fails', { timeout: 300_000 }, () => {
  it('never lets go of what head refers to, says what else stays, and ends with nothing else', async () => {
    const actions = fc.array(anAction, { minLength: 1, maxLength: 4, size: 'max' });
    const events = fc.array(anEvent, { maxLength: 90, size: 'max' });
    await fc.assert(
      fc.asyncProperty(fc.tuple(actions, actions), events, aWish, async (actionsOf, happens, last) => {
        await server.redis.flushall();
        const lease = aLease();
        const places = actionsOf.map((its) => aPlace(its, lease));
        await play(places, happens, !actionsOf.flat().some(({ isOlder }) => isOlder));
        await expectAllSettled(lease, last);
      }),
      { numRuns: 20 },
    );
  });

  const before: Wish = { a: 1, b: 1, c: 0, single: 1 };
  const after: Wish = { a: 2, b: 2, c: 0, single: 0 };

  /** An operator that is about to replace one configuration by the other, and tries again if it could not. */
  async function aReplacement(tries = 2): Promise<{ place: Stepwise; lease: Lease }> {
    await server.redis.flushall();
    const lease = aLease();
    await put(new Publisher(server.redis, names, OWNER, lease), before);
    const actions = Array.from({ length: tries }, (): Action => ({ wish: after, isOlder: false }));
    return { place: aPlace(actions, lease), lease };
  }

  async function callsOfReplacement(): Promise<number> {
    const { place } = await aReplacement(1);
    for (let calls = 0; ; calls += 1) {
      if (place.isOver) return calls;
      await place.let('runs');
    }
  }

  it.each<Fate>(['call lost', 'reply lost', 'dies before', 'dies after'])(
    'ends well if of a publish any one call is: %s',
    async (fate) => {
      const calls = await callsOfReplacement();
      for (let call = 0; call < calls; call += 1) {
        const { place, lease } = await aReplacement();
        for (let earlier = 0; earlier < call; earlier += 1) await place.let('runs');
        await play([place], [{ operator: 0, fate }]);
        await expectAllSettled(lease, after);
      }
    },
  );

  it('ends well if Redis loses any of the last calls of a publish that goes on', async () => {
    const calls = await callsOfReplacement();
    for (let kept = 0; kept < calls; kept += 1) {
      for (let lost = 1; kept + lost < calls; lost += 1) {
        const { place, lease } = await aReplacement();
        for (let call = 0; call < kept; call += 1) await place.let('runs');
        const saved = await save(server.redis);
        for (let call = 0; call < lost; call += 1) await place.let('runs');
        await rollBack(server.redis, saved);
        await place.finish();
        await expectNothingLost(true);
        await expectAllSettled(lease, after);
      }
    }
  });
});
