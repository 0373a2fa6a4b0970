import { beforeEach, describe, expect, it } from 'vitest';
import { KeyCache } from '../../limiter/key-cache.ts';
import type { KeyLookup } from '../../store/consumer-keys.ts';
import { StoreError } from '../../store/errors.ts';

const SECOND = 1_000;
const HOUR = 3_600 * SECOND;

const found = (consumer: string): KeyLookup => ({
  kind: 'found',
  record: { consumer, namespace: 'payments', uid: `uid-of-${consumer}`, generation: 1 },
});
const unknown: KeyLookup = { kind: 'unknown' };
const unavailable: KeyLookup = { kind: 'unavailable' };

/** What Redis says of each key, how often it was asked, and the time. */
let answers: Map<string, KeyLookup | Error>;
let asked: string[];
let now: number;
let cache: KeyCache;

beforeEach(() => {
  answers = new Map();
  asked = [];
  now = 5_000;
  cache = new KeyCache({
    find: async (name) => {
      asked.push(name);
      const answer = answers.get(name) ?? unknown;
      if (answer instanceof Error) throw answer;
      return answer;
    },
    monotonicMillis: () => now,
  });
  cache.follow(1);
});

describe('a valid key', () => {
  beforeEach(() => answers.set('acme', found('acme')));

  it('is looked up once and then answered from memory, without a promise, for 30 seconds', async () => {
    expect(await cache.lookUp('acme')).toEqual(found('acme'));
    now += 30 * SECOND;
    expect(cache.lookUp('acme')).toEqual(found('acme'));
    expect(asked).toEqual(['acme']);
    now += 1;
    expect(await cache.lookUp('acme')).toEqual(found('acme'));
    expect(asked).toEqual(['acme', 'acme']);
  });

  it('is looked up again as soon as the key set has changed', async () => {
    await cache.lookUp('acme');
    answers.set('acme', found('renamed'));
    cache.follow(2);
    expect(await cache.lookUp('acme')).toEqual(found('renamed'));
    cache.follow(3);
    answers.set('acme', unknown);
    expect(await cache.lookUp('acme')).toEqual(unknown);
  });

  it('does not count as looked up in the new key set if the question was asked in the old one', async () => {
    const answer = Promise.withResolvers<KeyLookup>();
    const slow = new KeyCache({ find: () => answer.promise, monotonicMillis: () => now });
    slow.follow(1);
    const lookup = slow.lookUp('acme');
    slow.follow(2);
    answer.resolve(found('acme'));
    expect(await lookup).toEqual(found('acme'));
    expect(slow.lookUp('acme')).toBeInstanceOf(Promise);
  });

  it('is as old as the question, however long the answer took', async () => {
    const answer = Promise.withResolvers<KeyLookup>();
    const slow = new KeyCache({ find: () => answer.promise, monotonicMillis: () => now });
    const lookup = slow.lookUp('acme');
    now += 20 * SECOND;
    answer.resolve(found('acme'));
    await lookup;
    now += 10 * SECOND;
    expect(slow.lookUp('acme')).toEqual(found('acme'));
    now += 1;
    expect(slow.lookUp('acme')).toBeInstanceOf(Promise);
  });

  it('is one of at most 50,000 that are remembered, those that were asked for last', async () => {
    for (let i = 0; i <= 50_000; i += 1) {
      answers.set(`key-${i}`, found('acme'));
      await cache.lookUp(`key-${i}`);
    }
    expect(cache.lookUp('key-1')).toEqual(found('acme'));
    expect(cache.lookUp('key-0')).toBeInstanceOf(Promise);
  });

  it.each<[string, KeyLookup | Error]>([
    ['Redis fails', new StoreError('UNAVAILABLE', 'there is no connection to Redis')],
    ['Redis is too slow', new StoreError('TIMEOUT', 'no answer from Redis')],
    ['the record cannot be read', new StoreError('BAD_REPLY', 'a record of a key cannot be read')],
    ['the key set is incomplete', unavailable],
  ])('is still answered for an hour while %s', async (_title, failure) => {
    await cache.lookUp('acme');
    answers.set('acme', failure);
    now += HOUR;
    expect(await cache.lookUp('acme')).toEqual(found('acme'));
    cache.follow(2);
    expect(await cache.lookUp('acme')).toEqual(found('acme'));
    now += 1;
    expect(await cache.lookUp('acme')).toEqual(unavailable);
  });

  it('is not answered any more once Redis has said that it is unknown', async () => {
    await cache.lookUp('acme');
    answers.set('acme', unknown);
    cache.follow(2);
    expect(await cache.lookUp('acme')).toEqual(unknown);
    answers.set('acme', unavailable);
    cache.follow(3);
    expect(await cache.lookUp('acme')).toEqual(unavailable);
  });
});

describe('an unknown key', () => {
  it('is answered from memory for 5 seconds', async () => {
    expect(await cache.lookUp('wrong')).toEqual(unknown);
    now += 5 * SECOND;
    expect(cache.lookUp('wrong')).toEqual(unknown);
    now += 1;
    await cache.lookUp('wrong');
    expect(asked).toEqual(['wrong', 'wrong']);
  });

  it('is found at once when it is added to the key set', async () => {
    await cache.lookUp('new');
    answers.set('new', found('new'));
    cache.follow(2);
    expect(await cache.lookUp('new')).toEqual(found('new'));
    expect(cache.lookUp('new')).toEqual(found('new'));
  });

  it('is nothing that is kept while Redis cannot say so', async () => {
    answers.set('wrong', unavailable);
    expect(await cache.lookUp('wrong')).toEqual(unavailable);
    answers.set('wrong', unknown);
    expect(await cache.lookUp('wrong')).toEqual(unknown);
  });

  it('takes no room from valid ones, in whatever number they come', async () => {
    answers.set('acme', found('acme'));
    await cache.lookUp('acme');
    for (let i = 0; i < 60_000; i += 1) await cache.lookUp(`wrong-${i}`);
    expect(cache.lookUp('acme')).toEqual(found('acme'));
    // The latest are remembered, the first ones are not: their number is bounded.
    expect(cache.lookUp('wrong-59999')).toEqual(unknown);
    expect(cache.lookUp('wrong-0')).toBeInstanceOf(Promise);
  });
});
