import type { Redis } from 'ioredis';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import {
  changeKeySet,
  type ConsumerRecord,
  findConsumerKey,
  type KeyWrite,
  type KeyWriter,
  listKeyNames,
  readKeyRecords,
  readKeySetState,
  writeKeySet,
} from '../../store/consumer-keys.ts';
import { createNames } from '../../store/names.ts';
import { contentsOf } from '../harness/contents.ts';
import { eventually } from '../harness/eventually.ts';
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

const aWriter = (change: Partial<KeyWriter> = {}): KeyWriter => ({
  owner: 'ours',
  incarnation: 'one',
  epoch: 3,
  seenSequence: 0,
  ...change,
});

const aRecord = (consumer: string): ConsumerRecord => ({
  consumer,
  namespace: 'payments',
  uid: `uid-of-${consumer}`,
  generation: 1,
  tier: 'pro',
  tenant: 'eu',
  limits: [
    {
      policy: 'payments/limits',
      rule: 'per-consumer',
      limits: [{ windowSeconds: 60, requests: 100, capacity: 150, degraded: 20 }],
    },
  ],
});

const acme: KeyWrite = { name: 'name-of-acme', record: aRecord('acme') };
const zeta: KeyWrite = { name: 'name-of-zeta', record: aRecord('zeta') };

const find = (name: string, owner = 'ours') => findConsumerKey(redis, names, owner, name);

/** What a process leaves behind that dies before it has written the whole set. */
async function givenPartialSet(incarnation: string): Promise<void> {
  await writeKeySet(redis, names, aWriter({ incarnation }), [acme]);
  await redis.hdel(names.consumerKeysMarker, 'complete');
}

/** A connection that notes, after each of its scripts, whether the set is complete. */
function observing(): { readonly observed: Redis; readonly states: readonly unknown[] } {
  const states: unknown[] = [];
  const observed = new Proxy(redis, {
    get: (target, property) => {
      if (property !== 'call') return Reflect.get(target, property, target);
      return async (...args: Parameters<Redis['call']>) => {
        const reply = await target.call(...args);
        states.push((await readKeySetState(redis, names))?.isComplete);
        return reply;
      };
    },
  });
  return { observed, states };
}

describe('a key', () => {
  it('is found with its record as soon as that is written', async () => {
    await writeKeySet(redis, names, aWriter(), [acme]);
    expect(await find(acme.name)).toEqual({ kind: 'found', record: acme.record });
    await givenPartialSet('one');
    expect(await find(acme.name)).toEqual({ kind: 'found', record: acme.record });
  });

  it('is unknown only if the set is complete', async () => {
    expect(await find('absent')).toEqual({ kind: 'unavailable' });
    await givenPartialSet('one');
    expect(await find('absent')).toEqual({ kind: 'unavailable' });
    await writeKeySet(redis, names, aWriter(), [acme]);
    expect(await find('absent')).toEqual({ kind: 'unknown' });
  });

  it('is neither found nor unknown in the set of another installation', async () => {
    await writeKeySet(redis, names, aWriter(), [acme]);
    expect(await find(acme.name, 'theirs')).toEqual({ kind: 'unavailable' });
    expect(await find('absent', 'theirs')).toEqual({ kind: 'unavailable' });
  });

  it('is an error, not unknown, if its record cannot be read', async () => {
    await writeKeySet(redis, names, aWriter(), []);
    await redis.set(names.consumerKey('broken'), '{"consumer": 1}');
    await expect(find('broken')).rejects.toMatchObject({ code: 'BAD_REPLY' });
    await redis.del(names.consumerKey('broken'));
    await redis.hset(names.consumerKey('broken'), 'of another', 'type');
    await expect(find('broken')).rejects.toMatchObject({ code: 'WRONG_TYPE' });
  });
});

describe('writing the whole set', () => {
  it('leaves exactly what was written, in any number', async () => {
    const writes = Array.from({ length: 1_201 }, (_, i): KeyWrite => ({ name: `n${i}`, record: aRecord(`c${i}`) }));
    const { observed, states } = observing();
    await writeKeySet(observed, names, aWriter(), writes);
    // At most 500 in one go, so that Redis is never long at it.
    expect(states).toEqual([false, false, false, true]);
    const wanted = writes.map(({ name }) => name);
    expect(await listKeyNames(redis, names)).toEqual(new Set(wanted));
    expect(await readKeyRecords(redis, names, [...wanted, 'absent'])).toEqual(
      new Map(writes.map(({ name, record }) => [name, record])),
    );
  });

  it('removes what it is told to, from the index too', async () => {
    await writeKeySet(redis, names, aWriter(), [acme, zeta]);
    await writeKeySet(redis, names, aWriter(), [acme, { name: zeta.name, record: undefined }]);
    expect(await find(zeta.name)).toEqual({ kind: 'unknown' });
    expect(await listKeyNames(redis, names)).toEqual(new Set([acme.name]));
  });

  it('makes the set of another incarnation incomplete until all is written', async () => {
    await writeKeySet(redis, names, aWriter(), [acme]);
    const { observed, states } = observing();
    await writeKeySet(observed, names, aWriter({ incarnation: 'two' }), [zeta]);
    expect(states).toEqual([false, true]);
  });

  it('leaves a complete set of the same incarnation complete all the while', async () => {
    await writeKeySet(redis, names, aWriter(), [acme]);
    const { observed, states } = observing();
    await writeKeySet(observed, names, aWriter(), [acme, zeta]);
    expect(states).toEqual([true, true]);
    expect(await readKeySetState(redis, names)).toMatchObject({ incarnation: 'one', epoch: 3, isComplete: true });
  });
});

describe('changing a complete set', () => {
  it('writes and removes, and announces the new state of the set', async () => {
    await writeKeySet(redis, names, aWriter(), [acme]);
    const listener = redis.duplicate();
    const announced: string[] = [];
    listener.on('message', (_channel, message) => announced.push(message));
    await listener.subscribe(names.changes);
    const sequence = await changeKeySet(redis, names, aWriter(), [zeta, { name: acme.name, record: undefined }]);
    expect(await listKeyNames(redis, names)).toEqual(new Set([zeta.name]));
    expect((await readKeySetState(redis, names))?.sequence).toBe(sequence);
    await eventually(() => expect(announced).toEqual([`key ${sequence}`]));
    listener.disconnect();
  });

  it('leaves all of them changed, in any number, and says the last state of the set', async () => {
    const writes = Array.from({ length: 1_201 }, (_, i): KeyWrite => ({ name: `n${i}`, record: aRecord(`c${i}`) }));
    await writeKeySet(redis, names, aWriter(), []);
    const sequence = await changeKeySet(redis, names, aWriter(), writes);
    expect(await listKeyNames(redis, names)).toEqual(new Set(writes.map(({ name }) => name)));
    expect(await find('n1200')).toEqual({ kind: 'found', record: aRecord('c1200') });
    expect((await readKeySetState(redis, names))?.sequence).toBe(sequence);
  });

  it.each([
    ['there is none', async () => void (await redis.flushall())],
    ['it is incomplete', () => givenPartialSet('one')],
    [
      'it is of another incarnation',
      async () => void (await writeKeySet(redis, names, aWriter({ incarnation: 'two' }), [])),
    ],
  ])('is refused if %s: all of it has to be written', async (_title, given) => {
    await given();
    const before = await contentsOf(redis);
    await expect(changeKeySet(redis, names, aWriter(), [zeta])).rejects.toMatchObject({
      code: 'HEAD_MOVED',
      transient: true,
    });
    expect(await contentsOf(redis)).toEqual(before);
  });
});

describe('writers are fenced', () => {
  it.each([
    ['another owner', aWriter({ owner: 'theirs', epoch: 9 }), { code: 'OWNED_BY_OTHER', transient: false }],
    ['a lower epoch', aWriter({ epoch: 2 }), { code: 'SUPERSEDED', transient: false }],
  ])('%s changes nothing', async (_title, writer, expected) => {
    await writeKeySet(redis, names, aWriter(), [acme]);
    const before = await contentsOf(redis);
    await expect(writeKeySet(redis, names, writer, [zeta])).rejects.toMatchObject(expected);
    await expect(changeKeySet(redis, names, writer, [zeta])).rejects.toMatchObject(expected);
    expect(await contentsOf(redis)).toEqual(before);
  });

  it('a higher epoch takes over', async () => {
    await writeKeySet(redis, names, aWriter(), [acme]);
    await changeKeySet(redis, names, aWriter({ epoch: 4 }), [zeta]);
    expect((await readKeySetState(redis, names))?.epoch).toBe(4);
    await expect(changeKeySet(redis, names, aWriter(), [acme])).rejects.toMatchObject({ code: 'SUPERSEDED' });
  });
});

describe('the sequence number of the set', () => {
  it('grows with every write', async () => {
    const sequences = [
      await writeKeySet(redis, names, aWriter(), [acme]),
      await changeKeySet(redis, names, aWriter(), [zeta]),
      await writeKeySet(redis, names, aWriter(), [acme]),
      await writeKeySet(redis, names, aWriter({ incarnation: 'two' }), []),
    ];
    expect(sequences).toEqual(sequences.toSorted((one, other) => one - other));
    expect(new Set(sequences).size).toBe(sequences.length);
  });

  it('is above every one that was seen before Redis lost its data', async () => {
    await writeKeySet(redis, names, aWriter(), [acme]);
    await redis.flushall();
    expect(await readKeySetState(redis, names)).toBeUndefined();
    expect(await writeKeySet(redis, names, aWriter({ seenSequence: 41 }), [acme])).toBeGreaterThan(41);
  });
});
