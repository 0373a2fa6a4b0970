import fc from 'fast-check';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { referencesOf } from '../../operator/published.ts';
import { Publisher } from '../../operator/publisher.ts';
import { defaultDomain } from '../../policy/compile.ts';
import { FORMAT, type ManifestEntry, type StoredDocument, toStored } from '../../policy/documents.ts';
import type { ConfigurationIdentity } from '../../policy/snapshot.ts';
import { acknowledge, listPods } from '../../store/acknowledgements.ts';
import { findUnsafeDocuments, readDocuments, readHead } from '../../store/configuration.ts';
import { createNames } from '../../store/names.ts';
import { readHeadState } from '../../store/publish.ts';
import { type PrivateRedis, privateRedis } from '../harness/redis.ts';

const names = createNames('publisher');

let server: PrivateRedis;
beforeAll(async () => {
  server = await privateRedis();
});
afterAll(() => server.stop());
beforeEach(() => server.redis.flushall());

const aPublisher = (owner = 'test'): Publisher =>
  new Publisher(server.redis, names, owner, (floor) => Promise.resolve(floor + 1));

type Wanted = [ReadonlyMap<string, ManifestEntry>, ReadonlyMap<string, StoredDocument>];

/** A health object as the only thing to publish. */
function aConfiguration(reason: string, generation = 1): Wanted {
  const stored = toStored({ format: FORMAT, requires: [], kind: 'SystemHealth', name: 'main', mode: 'NORMAL', reason });
  const entry: ManifestEntry = {
    kind: 'SystemHealth',
    namespace: '',
    name: 'main',
    uid: 'uid',
    generation,
    revision: 0,
    document: stored.name,
  };
  return [new Map([['SystemHealth//main', entry]]), new Map([[stored.name, stored]])];
}

type Wish = { readonly name: string; readonly reason: string };

/** Entries that are in force as they are stay the same objects, as the operator has it. */
function wanted(
  wishes: readonly Wish[],
  inForce: ReadonlyMap<string, ManifestEntry> | undefined,
): { readonly entries: ReadonlyMap<string, ManifestEntry>; readonly documents: ReadonlyMap<string, StoredDocument> } {
  const entries = new Map<string, ManifestEntry>();
  const documents = new Map<string, StoredDocument>();
  for (const { name, reason } of wishes) {
    const kind = 'SystemHealth' as const;
    const stored = toStored({ format: FORMAT, requires: [], kind, name, mode: 'NORMAL', reason });
    const before = inForce?.get(`${kind}//${name}`);
    const entry = { kind, namespace: '', name, uid: name, generation: 1, revision: 0, document: stored.name };
    entries.set(`${kind}//${name}`, before?.document === stored.name ? before : entry);
    documents.set(stored.name, stored);
  }
  return { entries, documents };
}

const headIs = async (identity: ConfigurationIdentity): Promise<void> => {
  expect(await readHead(server.redis, names)).toEqual({ owner: 'test', ...identity });
};

describe('two publishers', () => {
  it('that start together end with two epochs, and the lower one is refused', async () => {
    const [one, other] = [aPublisher(), aPublisher()];
    const race = await Promise.allSettled([
      one.publish(...aConfiguration('one')),
      other.publish(...aConfiguration('other')),
    ]);
    expect(race.map(({ status }) => status).toSorted()).toEqual(['fulfilled', 'rejected']);
    const [winner, loser] = race[0].status === 'fulfilled' ? [one, other] : [other, one];
    await loser.publish(...aConfiguration('the loser tries again'));
    expect(loser.epoch).toBe(winner.epoch + 1);
    await expect(winner.publish(...aConfiguration('too late', 2))).rejects.toMatchObject({ code: 'SUPERSEDED' });
  });
});

describe('a publisher', () => {
  it('does nothing when head already says what is wanted, and claims its own epoch first', async () => {
    const first = await aPublisher().publish(...aConfiguration('same'));
    const restarted = aPublisher();
    const inForce = await restarted.readInForce();
    expect([...inForce.values()]).toEqual([...first.published.entries.values()]);
    const claimed = await restarted.publish(inForce, new Map());
    expect(claimed).toMatchObject({
      isNew: true,
      published: { identity: { epoch: 2, revision: 2, manifest: first.published.identity.manifest } },
    });
    expect(await restarted.publish(claimed.published.entries, new Map())).toMatchObject({ isNew: false });
  });

  it('keeps a document that is wanted still although nobody can compile it any more', async () => {
    const publisher = aPublisher();
    const { published } = await publisher.publish(...aConfiguration('kept'));
    await server.redis.flushall();
    const again = await publisher.publish(published.entries, new Map());
    expect(again.published.identity.revision).toBeGreaterThan(published.identity.revision);
    expect(again.published.identity.incarnation).not.toBe(published.identity.incarnation);
    const [entry] = again.published.entries.values();
    expect((await readDocuments(server.redis, names, [entry?.document ?? ''])).size).toBe(1);
    await headIs(again.published.identity);
  });

  it('starts anew when a part of what is published is lost, instead of standing still', async () => {
    const { published } = await aPublisher().publish(...aConfiguration('lost'));
    await server.redis.del(names.document(published.identity.manifest));
    const restarted = aPublisher();
    expect((await restarted.readInForce()).size).toBe(0);
    const again = await restarted.publish(...aConfiguration('lost'));
    expect(again.published.identity.revision).toBe(2);
    expect(await aPublisher().readInForce()).toEqual(again.published.entries);
  });

  it('knows the settings of domains in force after a restart, as far as they are not lost', async () => {
    const domains = ['kept', 'lost'].map((name) => toStored(defaultDomain(name)));
    const entries = domains.map(({ name: document }, index): [string, ManifestEntry] => {
      const [name, kind] = [String(index), 'RateLimitDomain' as const];
      return [
        `${kind}/shop/${name}`,
        { kind, namespace: 'shop', name, uid: name, generation: 1, revision: 0, document },
      ];
    });
    await aPublisher().publish(new Map(entries), new Map(domains.map((stored) => [stored.name, stored])));
    const [kept, lost] = domains;
    await server.redis.del(names.document(lost?.name ?? ''));
    const restarted = aPublisher();
    await restarted.readInForce();
    expect([...(restarted.published?.documents.values() ?? [])]).toEqual([kept]);
  });

  it('goes above a pod that holds something newer than head', async () => {
    const publisher = aPublisher();
    const { published } = await publisher.publish(...aConfiguration('behind'));
    const held = { ...published.identity, revision: 40, manifest: 'of a lost future' };
    const acknowledgement = { pod: 'p', instance: 'i', identity: held, formats: [FORMAT], keySequence: 0 };
    await acknowledge(server.redis, names, 'test', { acknowledgement, isNew: true });
    const { pods } = await listPods(server.redis, names);
    expect(await publisher.isDisplaced(pods)).toBe(true);
    const again = await publisher.publish(published.entries, new Map());
    expect(again.published.identity.revision).toBe(41);
    expect(await publisher.isDisplaced(pods)).toBe(false);
  });

  it('has in memory and in Redis what one that starts afresh would have, whatever it published before', async () => {
    const wish = fc.record({ name: fc.constantFrom('a', 'b', 'c', 'd', 'e'), reason: fc.constantFrom('one', 'other') });
    const step = fc.record({
      wishes: fc.uniqueArray(wish, { selector: ({ name }) => name }),
      isLost: fc.boolean(),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 2, maxLength: 6 }), async (steps) => {
        await server.redis.flushall();
        const publisher = aPublisher();
        for (const { wishes, isLost } of steps) {
          if (isLost) {
            const parts = publisher.published?.parts ?? [];
            await server.redis.del(['nothing', ...parts.map((part) => names.document(part))]);
            await publisher.audit();
          }
          const { entries, documents } = wanted(wishes, publisher.published?.entries);
          const { published } = await publisher.publish(entries, documents);
          const references = referencesOf(published);
          expect([...published.documents.keys()].toSorted()).toEqual(references.toSorted());
          expect(await findUnsafeDocuments(server.redis, names, references)).toEqual([]);
          const afresh = aPublisher();
          expect(new Map(await afresh.readInForce())).toEqual(new Map(published.entries));
          const stored = (await server.redis.keys(names.document('*'))).filter(
            (key) => !references.some((name) => key === names.document(name)),
          );
          for (const key of stored) expect(await server.redis.pttl(key)).toBeGreaterThan(0);
        }
      }),
      { numRuns: 30 },
    );
  });

  it.each([
    ['another text', (key: string) => server.redis.set(key, 'nobody of ours')],
    [
      'something that is no text',
      async (key: string) => server.redis.del(key).then(() => server.redis.rpush(key, 'x')),
    ],
  ])('finds %s under the key of a document, and writes the document again', async (_what, damage) => {
    const publisher = aPublisher();
    const [entries, documents] = aConfiguration('told');
    const { published } = await publisher.publish(entries, documents);
    const [name = ''] = documents.keys();
    expect(await publisher.audit()).toBe(0);
    await damage(names.document(name));
    expect(await publisher.audit()).toBe(1);
    await publisher.publish(published.entries, new Map());
    expect(await server.redis.get(names.document(name))).toBe(documents.get(name)?.text);
    expect(await publisher.audit()).toBe(0);
  });

  it('takes nothing for lost, nor writes it again, while what has left is not let go of', async () => {
    const publisher = aPublisher();
    const many = (reason: string): Wish[] => Array.from({ length: 300 }, (_, i) => ({ name: `m${i}`, reason }));
    for (const reason of ['one', 'other']) {
      const { entries, documents } = wanted(many(reason), publisher.published?.entries);
      await publisher.publish(entries, documents);
    }
    const { settling } = await readHeadState(server.redis, names);
    expect(settling).toBeDefined();
    expect(await publisher.audit()).toBe(0);
    const entries = publisher.published?.entries ?? new Map();
    expect(await publisher.publish(entries, new Map())).toMatchObject({ isNew: false });
    expect((await readHeadState(server.redis, names)).settling).toBeUndefined();
    expect(await publisher.audit()).toBe(0);
  });

  it('refuses a Redis that somebody else configures', async () => {
    await aPublisher().publish(...aConfiguration('ours'));
    const foreign = aPublisher('somebody else');
    await expect(foreign.readInForce()).rejects.toMatchObject({ code: 'OWNED_BY_OTHER' });
    await expect(foreign.publish(...aConfiguration('theirs'))).rejects.toMatchObject({ code: 'OWNED_BY_OTHER' });
  });
});
