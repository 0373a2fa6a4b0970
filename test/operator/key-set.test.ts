import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { KeySet } from '../../operator/key-set.ts';
import { hashOfKey, recordNameOf } from '../../policy/api-key.ts';
import type { RawResource, ValidConsumer } from '../../policy/resource.ts';
import { findConsumerKey } from '../../store/consumer-keys.ts';
import { createNames } from '../../store/names.ts';
import { type PrivateRedis, privateRedis } from '../harness/redis.ts';

const PEPPER = 'a pepper that is only for tests';
const names = createNames('key-set');
const writer = { owner: 'test', incarnation: 'one', epoch: 1, seenSequence: 0 };

let server: PrivateRedis;
beforeAll(async () => {
  server = await privateRedis();
});
afterAll(() => server.stop());
beforeEach(() => server.redis.flushall());

const aKeySet = (): KeySet => new KeySet({ redis: server.redis, names, peppers: [PEPPER] });

function aConsumer(
  name: string,
  keys: readonly string[],
  generation = 1,
  uid = `uid-${name}`,
): ValidConsumer & RawResource {
  const metadata = { namespace: 'shop', name, uid, generation, creationTimestamp: '' };
  return { kind: 'Consumer', metadata, spec: { apiKeyHashes: keys.map((key) => `sha256:${hashOfKey(key)}`) } };
}

async function ownerOf(key: string): Promise<string> {
  const lookup = await findConsumerKey(server.redis, names, writer.owner, recordNameOf(PEPPER, hashOfKey(key)));
  return lookup.kind === 'found' ? lookup.record.consumer : lookup.kind;
}

describe('the set of API keys', () => {
  it('follows additions, changes and removals', async () => {
    const keySet = aKeySet();
    const one = aConsumer('one', ['a', 'b']);
    await keySet.sync(writer, [one], [one]);
    expect([await ownerOf('a'), await ownerOf('b'), await ownerOf('c')]).toEqual(['one', 'one', 'unknown']);
    const edited = aConsumer('one', ['b', 'c'], 2);
    await keySet.sync(writer, [edited], [edited]);
    expect([await ownerOf('a'), await ownerOf('b'), await ownerOf('c')]).toEqual(['unknown', 'one', 'one']);
    await keySet.sync(writer, [], []);
    expect(await ownerOf('b')).toBe('unknown');
    expect(keySet.consumers.size).toBe(0);
  });

  it('keeps the keys of a consumer whose edit is refused, and drops them with it', async () => {
    const keySet = aKeySet();
    const one = aConsumer('one', ['a']);
    await keySet.sync(writer, [one], [one]);
    const refused = aConsumer('one', ['other'], 2);
    await keySet.sync(writer, [refused], []);
    expect([await ownerOf('a'), await ownerOf('other')]).toEqual(['one', 'unknown']);
    expect(keySet.consumers.get('Consumer/shop/one')).toMatchObject({ generation: 1 });
    await keySet.sync(writer, [], []);
    expect(await ownerOf('a')).toBe('unknown');
  });

  it('keeps them across a restart of the operator, says which generation they are of, and then drops them with it', async () => {
    const one = aConsumer('one', ['a']);
    await aKeySet().sync(writer, [one], [one]);
    const restarted = aKeySet();
    const refused = aConsumer('one', ['other'], 2);
    await restarted.sync({ ...writer, epoch: 2 }, [refused], []);
    expect(await ownerOf('a')).toBe('one');
    expect(restarted.consumers.get('Consumer/shop/one')).toMatchObject({ generation: 1 });
    await restarted.sync({ ...writer, epoch: 2 }, [], []);
    expect(await ownerOf('a')).toBe('unknown');
  });

  it('revokes an inherited key when its consumer is mended without it', async () => {
    const one = aConsumer('one', ['leaked']);
    await aKeySet().sync(writer, [one], [one]);
    const restarted = aKeySet();
    await restarted.sync({ ...writer, epoch: 2 }, [aConsumer('one', [], 2)], []);
    const mended = aConsumer('one', ['fresh'], 3);
    await restarted.sync({ ...writer, epoch: 2 }, [mended], [mended]);
    expect([await ownerOf('leaked'), await ownerOf('fresh')]).toEqual(['unknown', 'one']);
  });

  it('counts a consumer that was made anew under its name as another one', async () => {
    const keySet = aKeySet();
    const first = aConsumer('one', ['a']);
    await keySet.sync(writer, [first], [first]);
    const before = keySet.consumers.get('Consumer/shop/one');
    const second = aConsumer('one', ['b'], 1, 'another uid');
    await keySet.sync(writer, [second], [second]);
    expect(keySet.consumers.get('Consumer/shop/one')?.sequence).toBeGreaterThan(before?.sequence ?? Number.NaN);
    expect(await ownerOf('a')).toBe('unknown');
  });

  it('has a new sequence for a consumer when the peppers change, so that pods have to acknowledge its new records', async () => {
    const keySet = aKeySet();
    const one = aConsumer('one', ['a']);
    await keySet.sync(writer, [one], [one]);
    const sequence = (): number => keySet.consumers.get('Consumer/shop/one')?.sequence ?? Number.NaN;
    const before = sequence();
    await keySet.sync(writer, [one], [one]);
    expect(sequence()).toBe(before);
    keySet.usePeppers(['a pepper that replaces it', PEPPER]);
    await keySet.sync(writer, [one], [one]);
    expect(sequence()).toBeGreaterThan(before);
    expect(sequence()).toBe(keySet.sequence);
  });

  it('is written completely again when Redis lost it, with a sequence above all that were seen', async () => {
    const keySet = aKeySet();
    const one = aConsumer('one', ['a']);
    await keySet.sync({ ...writer, seenSequence: 40 }, [one], [one]);
    await server.redis.flushall();
    expect(await keySet.isDisplaced()).toBe(true);
    expect(await ownerOf('a')).toBe('unavailable');
    await keySet.sync({ ...writer, incarnation: 'two' }, [one], [one]);
    expect(await keySet.isDisplaced()).toBe(false);
    expect(await ownerOf('a')).toBe('one');
    expect(keySet.sequence).toBeGreaterThan(41);
  });
});
