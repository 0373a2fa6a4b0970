import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { PenaltyState } from '../../policy/decision.ts';
import type { CompiledPenalty } from '../../policy/documents.ts';
import { subscribeToChanges } from '../../store/changes.ts';
import { RedisClock } from '../../store/clock.ts';
import { Decider } from '../../store/decide.ts';
import { createNames } from '../../store/names.ts';
import { listPenalties, listPenaltiesWith, type ListedPenalty, pardon } from '../../store/pardon.ts';
import { contentsOf } from '../harness/contents.ts';
import { eventually } from '../harness/eventually.ts';
import { driveTo, punishableRequest } from '../harness/penalties.ts';
import { type PrivateRedis, privateRedis } from '../harness/redis.ts';
import { onVirtualClock, setClock } from '../harness/virtual-clock.ts';

const names = createNames('default');
const START = 1_790_000_000_000_000n;
const SECOND = 1_000_000n;
const FOREVER = { block: { tempBlocks: 1, withinSeconds: 1_000, forSeconds: 0 } };
const pardonScript = onVirtualClock('pardon');
const listNow = listPenaltiesWith(onVirtualClock('list-penalties'));

let server: PrivateRedis;
let decider: Decider;

beforeAll(async () => {
  server = await privateRedis();
  const options = { deadlineMillis: 60_000, script: onVirtualClock('decide') };
  decider = new Decider(server.redis, names, new RedisClock(), options);
});
afterAll(() => server.stop());
beforeEach(async () => {
  await server.redis.flushall();
  await setClock(server.redis, START);
});

const index = names.penaltyIndex('p');

async function reach(state: PenaltyState, subject: string, penalty: Partial<CompiledPenalty> = {}): Promise<bigint> {
  const request = punishableRequest(subject, penalty);
  return (await driveTo(state, { redis: server.redis, decider, request, from: START })).at;
}

const lift = (subject: string) => pardon(server.redis, names, { partition: 'p', subject }, pardonScript);
const list = (most = 100): Promise<ListedPenalty[]> => listNow(server.redis, names, 'p', most);

async function stateOf(subject: string, penalty: Partial<CompiledPenalty> = {}): Promise<PenaltyState | undefined> {
  const { penalties } = await decider.decide({ ...punishableRequest(subject, penalty), isPeek: true });
  return penalties[0]?.before;
}

describe('a pardon', () => {
  it.each<PenaltyState>(['WARN', 'THROTTLE', 'TEMP_BLOCK', 'BLOCK'])(
    '[P44] is what the very next decision finds, and says that %s was the state before',
    async (state) => {
      await reach(state, 'alice');
      expect(await stateOf('alice')).toBe(state);
      expect(await lift('alice')).toEqual({ before: state });
      expect(await stateOf('alice')).toBe('NORMAL');
    },
  );

  it('lifts a block that would never end', async () => {
    await reach('BLOCK', 'alice', FOREVER);
    await setClock(server.redis, START + 10_000_000n * SECOND);
    expect(await stateOf('alice', FOREVER)).toBe('BLOCK');
    expect(await lift('alice')).toEqual({ before: 'BLOCK' });
    expect(await stateOf('alice', FOREVER)).toBe('NORMAL');
  });

  it('takes away state, history, meters and the entry of the index, and of nobody else', async () => {
    await reach('TEMP_BLOCK', 'alice', { tolerancePercent: 100 });
    await reach('WARN', 'bob');
    const before = await contentsOf(server.redis);
    await lift('alice');
    const { [names.penalty('p', 'alice')]: penalty, [index]: _index, ...others } = before;
    expect(penalty).toBeDefined();
    const { [index]: kept, ...after } = await contentsOf(server.redis);
    expect(after).toEqual(others);
    expect(kept).toBeDefined();
    expect(await server.redis.zrange(index, '0', '-1')).toEqual(['bob']);
  });

  it('begins anew: as many violations as ever lead to the next state', async () => {
    await reach('THROTTLE', 'alice');
    await lift('alice');
    const { verdict } = await driveTo('WARN', {
      redis: server.redis,
      decider,
      request: punishableRequest('alice'),
      from: START + 10n * SECOND,
    });
    expect(verdict.penalties).toMatchObject([{ before: 'NORMAL', after: 'WARN', violations: 1 }]);
  });

  it('of somebody who was never punished, or has stepped down by now, says so', async () => {
    expect(await lift('nobody')).toEqual({ before: 'NORMAL' });
    const at = await reach('TEMP_BLOCK', 'alice');
    await setClock(server.redis, at + 30n * SECOND);
    expect(await lift('alice')).toEqual({ before: 'THROTTLE' });
    await reach('TEMP_BLOCK', 'bob');
    await setClock(server.redis, at + 180n * SECOND);
    expect(await lift('bob')).toEqual({ before: 'NORMAL' });
  });

  it('is announced with partition and subject', async () => {
    const told: unknown[] = [];
    const subscription = subscribeToChanges(server.url, names, ['pardon'], (kind, detail) => told.push([kind, detail]));
    await eventually(() => expect(told).toEqual([['pardon', undefined]]));
    await lift('alice');
    await eventually(() => expect(told.slice(1)).toEqual([['pardon', 'p alice']]));
    subscription.close();
  });

  it('works after Redis forgot the script', async () => {
    await reach('WARN', 'alice');
    await server.redis.script('FLUSH');
    expect(await lift('alice')).toEqual({ before: 'WARN' });
  });

  it.each([names.penalty('p', 'alice'), index])('changes nothing if %s holds something else', async (key) => {
    await reach('WARN', 'alice');
    await server.redis.set(key, 'planted');
    const before = await contentsOf(server.redis);
    await expect(lift('alice')).rejects.toMatchObject({ code: 'WRONG_TYPE', transient: false });
    expect(await contentsOf(server.redis)).toEqual(before);
  });

  it('is refused before any write when Redis is out of memory', async () => {
    await reach('WARN', 'alice');
    const before = await contentsOf(server.redis);
    await server.redis.config('SET', 'maxmemory', '1');
    try {
      await expect(lift('alice')).rejects.toMatchObject({ code: 'REFUSED', transient: true });
    } finally {
      await server.redis.config('SET', 'maxmemory', '0');
    }
    expect(await contentsOf(server.redis)).toEqual(before);
  });
});

describe('the list of those above NORMAL', () => {
  it('has each with its text, its state and when that ends, those that stay longest first', async () => {
    const warned = await reach('WARN', 'alice');
    const stopped = await reach('TEMP_BLOCK', 'bob');
    await reach('BLOCK', 'carol', FOREVER);
    await decider.decide(punishableRequest('dave'));
    const ends = (at: bigint, seconds: bigint): number => Number(at + seconds * SECOND);
    expect(await list()).toEqual([
      { subject: 'carol', text: 'test/policy consumer=carol', state: 'BLOCK', endsAtMicros: undefined },
      { subject: 'bob', text: 'test/policy consumer=bob', state: 'TEMP_BLOCK', endsAtMicros: ends(stopped, 30n) },
      { subject: 'alice', text: 'test/policy consumer=alice', state: 'WARN', endsAtMicros: ends(warned, 100n) },
    ]);
    expect((await list(2)).map(({ subject }) => subject)).toEqual(['carol', 'bob']);
    expect(await list(0)).toEqual([]);
  });

  it('shows who has stepped down where he is now, and nobody who is NORMAL again', async () => {
    const at = await reach('TEMP_BLOCK', 'alice');
    const seen = [];
    for (const seconds of [29n, 30n, 79n, 80n, 179n, 180n]) {
      await setClock(server.redis, at + seconds * SECOND);
      const [listed] = await list();
      seen.push([listed?.state, listed?.endsAtMicros === undefined ? undefined : BigInt(listed.endsAtMicros) - at]);
    }
    expect(seen).toEqual([
      ['TEMP_BLOCK', 30n * SECOND],
      ['THROTTLE', 80n * SECOND],
      ['THROTTLE', 80n * SECOND],
      ['WARN', 180n * SECOND],
      ['WARN', 180n * SECOND],
      [undefined, undefined],
    ]);
  });

  it('is empty of a partition in which nobody was punished, and goes by the clock of Redis', async () => {
    expect(await list()).toEqual([]);
    await reach('BLOCK', 'alice', FOREVER);
    await reach('WARN', 'bob');
    const named = await listPenalties(server.redis, names, 'p', 10);
    // The virtual times are of September 2026, long past.
    expect(named.map(({ subject }) => subject)).toEqual(['alice']);
  });

  it('fails if the index holds something else, and no decision does', async () => {
    await server.redis.set(index, 'planted');
    await reach('TEMP_BLOCK', 'alice');
    await expect(list()).rejects.toMatchObject({ code: 'WRONG_TYPE' });
    expect(await server.redis.get(index)).toBe('planted');
    expect(await stateOf('alice')).toBe('TEMP_BLOCK');
  });

  it('leaves out what is no penalty', async () => {
    await reach('WARN', 'alice');
    await server.redis.zadd(index, 5_000_000_000, 'planted');
    await server.redis.set(names.penalty('p', 'planted'), 'not a hash');
    expect((await list()).map(({ subject }) => subject)).toEqual(['alice']);
  });
});

describe('the index of those above NORMAL', () => {
  const scoreOf = async (subject: string): Promise<number> => Number(await server.redis.zscore(index, subject));

  it('says when a subject is NORMAL again, all steps down counted, and follows a state that is prolonged', async () => {
    const at = await reach('WARN', 'alice', { throttle: { violations: 100, forSeconds: 1, limitPercent: 50 } });
    expect(await scoreOf('alice')).toBe(Number(at / SECOND) + 100);
    await setClock(server.redis, at + 7n * SECOND);
    await decider.decide(
      punishableRequest('alice', { throttle: { violations: 100, forSeconds: 1, limitPercent: 50 } }),
    );
    expect(await scoreOf('alice')).toBe(Number(at / SECOND) + 107);
    const stopped = await reach('TEMP_BLOCK', 'bob');
    expect(await scoreOf('bob')).toBe(Number(stopped / SECOND) + 30 + 50 + 100);
    await reach('BLOCK', 'carol', FOREVER);
    expect(await server.redis.zscore(index, 'carol')).toBe('inf');
  });

  it('has nobody who is NORMAL, however many of his requests were denied', async () => {
    const request = punishableRequest('alice', { tolerancePercent: 100 }, 50);
    for (let i = 0; i < 80; i += 1) await decider.decide(request);
    expect(await server.redis.hlen(names.penalty('p', 'alice'))).toBeGreaterThan(0);
    expect(await server.redis.exists(index)).toBe(0);
  });

  it('drops those that have ended when somebody is added', async () => {
    const at = await reach('WARN', 'alice');
    await setClock(server.redis, at + 200n * SECOND);
    const bob = { redis: server.redis, decider, request: punishableRequest('bob'), from: at + 200n * SECOND };
    await driveTo('WARN', bob);
    expect(await server.redis.zrange(index, '0', '-1')).toEqual(['bob']);
  });

  it('holds 10,000 at most: those that end first go', async () => {
    const soon = Number(START / SECOND) + 50;
    for (let first = 0; first < 10_000; first += 1_000) {
      const members = Array.from({ length: 1_000 }, (_, i) => [soon + first + i, `s${first + i}`]);
      await server.redis.zadd(index, ...members.flat());
    }
    await reach('TEMP_BLOCK', 'alice');
    expect(await server.redis.zcard(index)).toBe(10_000);
    expect(await server.redis.zscore(index, 's0')).toBeNull();
    expect(await server.redis.zscore(index, 's1')).not.toBeNull();
    expect(await server.redis.zscore(index, 'alice')).not.toBeNull();
  });

  it('lives as long as anything in it, for ever if a block never ends', async () => {
    await reach('WARN', 'alice');
    const ttl = await server.redis.pttl(index);
    expect(ttl).toBeGreaterThan(90_000);
    expect(ttl).toBeLessThanOrEqual(102_000);
    await reach('BLOCK', 'bob', FOREVER);
    expect(await server.redis.pttl(index)).toBe(-1);
    await lift('bob');
    await reach('THROTTLE', 'carol');
    expect(await server.redis.pttl(index)).toBeGreaterThan(0);
  });

  it('is written by a peek no more than anything else', async () => {
    await driveTo('NORMAL', { redis: server.redis, decider, request: punishableRequest('alice'), from: START });
    await decider.decide({ ...punishableRequest('alice'), isPeek: true });
    expect(await server.redis.exists(index)).toBe(0);
  });
});
