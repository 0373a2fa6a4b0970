import { describe, expect, it } from 'vitest';
import type { DecideRequest } from '../../store/decide-wire.ts';
import { StoreError } from '../../store/errors.ts';
import { aWindow } from '../harness/limits.ts';
import { aPenalty, punishableRequest } from '../harness/penalties.ts';
import { aRule, plainRequest } from '../harness/plain.ts';
import { ADMITTED, aPod, blockOf, denialOf, penaltyOf, REDIS_MICROS } from './remembering-pod.ts';

const alice = plainRequest('p', [aWindow({ subject: 'alice', capacity: 5 })]);
const punished = punishableRequest('mallory');

describe('a denial', () => {
  it('is remembered until its retry_after, less what has passed, and not a moment longer', async () => {
    const pod = aPod();
    pod.say(denialOf(400_000));
    await pod.cache.decide(alice);
    pod.wait(150);
    expect(await pod.cache.decide(alice)).toEqual({
      ...denialOf(250_000),
      redisMicros: REDIS_MICROS + 150_000,
      rules: [
        { outcome: 'Denied', limits: [{ remaining: 0, retryAfterMicros: 250_000, resetAfterMicros: 59_850_000 }] },
      ],
    });
    pod.wait(249);
    expect(await pod.callsOf(alice)).toBe(0);
    pod.wait(1);
    expect(await pod.callsOf(alice)).toBe(1);
  });

  it('of one of several requests of a subject ends without those of the others', async () => {
    const pod = aPod();
    const costly = plainRequest('p', [aWindow({ subject: 'alice', capacity: 5 })], 2);
    pod.say(denialOf(100_000));
    await pod.cache.decide(alice);
    pod.say(denialOf(400_000));
    await pod.cache.decide(costly);
    pod.wait(100);
    pod.say(ADMITTED);
    expect(await pod.callsOf(alice)).toBe(1);
    expect(await pod.callsOf(costly)).toBe(0);
    pod.wait(300);
    expect(await pod.callsOf(costly)).toBe(1);
    expect(pod.cache.size).toBe(0);
  });

  it('is remembered for the configuration by which it was asked for, though another came before the answer', async () => {
    const pod = aPod();
    pod.say(denialOf(400_000));
    const asking = pod.cache.decide(alice);
    pod.configure('two');
    await asking;
    expect(await pod.callsOf(alice)).toBe(1);
    pod.configure('one');
    expect(await pod.callsOf(alice)).toBe(0);
  });

  it('is remembered for a second at most, also if it lasts for ever', async () => {
    for (const micros of [3_600_000_000, -1]) {
      const pod = aPod();
      pod.say(denialOf(micros));
      await pod.cache.decide(alice);
      pod.wait(999);
      expect(await pod.callsOf(alice)).toBe(0);
      expect(await pod.cache.decide(alice)).toMatchObject({ retryAfterMicros: micros < 0 ? -1 : micros - 999_000 });
      pod.wait(1);
      expect(await pod.callsOf(alice)).toBe(1);
    }
  });

  it('lasts from when it was asked for, and never says to come back before Redis would admit', async () => {
    const pod = aPod();
    pod.say(denialOf(400_000));
    pod.slow(100);
    await pod.cache.decide(alice);
    pod.slow(0);
    pod.wait(299);
    // Redis may have answered at the very end of the call: from then on it counts for the client.
    expect(await pod.cache.decide(alice)).toMatchObject({ retryAfterMicros: 101_000 });
    pod.wait(1);
    expect(await pod.callsOf(alice)).toBe(1);
    pod.say(denialOf(50_000));
    pod.slow(60);
    expect(await pod.callsOf(punished, punished)).toBe(2);
  });

  it('is remembered no longer than the penalty stays as it is, and not at all if it changed it', async () => {
    const pod = aPod();
    pod.say(denialOf(800_000, [penaltyOf('THROTTLE', 300_000)]));
    await pod.cache.decide(punished);
    pod.wait(299);
    expect(await pod.callsOf(punished)).toBe(0);
    pod.wait(1);
    expect(await pod.callsOf(punished)).toBe(1);
    const other = aPod();
    other.say(denialOf(800_000, [penaltyOf('WARN', 60_000_000, 'NORMAL')]));
    expect(await other.callsOf(punished, punished)).toBe(2);
  });

  it('is one of exactly that request: configuration, partition, subjects, numbers, cost, penalties', async () => {
    const pod = aPod();
    pod.say(denialOf(1_000_000));
    expect(await pod.callsOf(alice, alice)).toBe(1);
    const limits = [
      aWindow({ subject: 'bob', capacity: 5 }),
      aWindow({ subject: 'alice', capacity: 6 }),
      aWindow({ subject: 'alice', capacity: 5, windowSeconds: 61 }),
      { ...aWindow({ subject: 'alice', capacity: 5 }), refill: 4 },
      { ...aWindow({ subject: 'alice', capacity: 5 }), normalCapacity: 7 },
      { ...aWindow({ subject: 'alice', capacity: 5 }), normalRefill: 7 },
    ];
    const { rules } = alice.selection;
    const others = [
      ...limits.map((limit) => plainRequest('p', [limit])),
      plainRequest('q', [aWindow({ subject: 'alice', capacity: 5 })]),
      plainRequest('p', [aWindow({ subject: 'alice', capacity: 5 })], 2),
      { ...alice, selection: { rules: rules.map((rule) => ({ ...rule, group: 1 })), penalties: [] } },
      { ...alice, selection: { rules, penalties: [aPenalty('mallory')] } },
      { ...alice, selection: { rules, penalties: [aPenalty('trudy')] } },
    ];
    expect(await pod.callsOf(...others)).toBe(others.length);
    pod.configure('two');
    expect(await pod.callsOf(alice)).toBe(1);
  });

  it('is not remembered where a rule waits for others, nor for or from a peek', async () => {
    const pod = aPod();
    pod.say(denialOf(1_000_000));
    const rules = [aRule([aWindow({ subject: 'carol' })], { after: [{ rule: 0, outcome: 'Denied' }] })];
    const waiting: DecideRequest = { ...alice, selection: { rules, penalties: [] } };
    expect(await pod.callsOf(waiting, waiting)).toBe(2);
    expect(await pod.callsOf({ ...alice, isPeek: true }, alice, { ...alice, isPeek: true })).toBe(3);
  });

  it('is forgotten with what is given back to one of its subjects, in time for what is under way', async () => {
    for (const forget of [
      (pod: ReturnType<typeof aPod>) => pod.cache.forget('mallory'),
      (pod: ReturnType<typeof aPod>) => pod.cache.clear(),
    ]) {
      const pod = aPod();
      pod.say(denialOf(1_000_000, [penaltyOf('NORMAL')]));
      await pod.cache.decide(punished);
      pod.cache.forget('somebody else');
      expect(await pod.callsOf(punished)).toBe(0);
      const other = punishableRequest('mallory', {}, 2);
      const underWay = pod.cache.decide(other);
      forget(pod);
      await underWay;
      pod.wait(1);
      expect(await pod.callsOf(punished, other)).toBe(2);
      expect(await pod.callsOf(punished)).toBe(0);
    }
  });

  it.each(['the limit', 'the penalty'])(
    'is forgotten with what is given back to the subject of %s alone',
    async (subject) => {
      const pod = aPod();
      const rules = [aRule([aWindow({ subject: 'the limit' })], { penalty: 0 })];
      const request: DecideRequest = { partition: 'p', selection: { rules, penalties: [aPenalty('the penalty')] } };
      pod.say(denialOf(1_000_000, [penaltyOf('NORMAL')]));
      expect(await pod.callsOf(request, request)).toBe(1);
      pod.cache.forget(subject);
      pod.wait(1);
      expect(await pod.callsOf(request, request)).toBe(1);
    },
  );

  it('never says of one of its limits that it will not end, only because it ended before the others', async () => {
    const pod = aPod();
    const request = plainRequest('p', [aWindow(), aWindow({ windowSeconds: 3_600 })]);
    const limit = (retryAfterMicros: number) => ({ remaining: 0, retryAfterMicros, resetAfterMicros: 100_000 });
    const rules = [{ outcome: 'Denied' as const, limits: [limit(100_000), limit(400_000)] }];
    pod.say({ ...denialOf(400_000), rules });
    await pod.cache.decide(request);
    pod.wait(100);
    const limits = [
      { retryAfterMicros: 1, resetAfterMicros: 1 },
      { retryAfterMicros: 300_000, resetAfterMicros: 1 },
    ];
    expect(await pod.cache.decide(request)).toMatchObject({ retryAfterMicros: 300_000, rules: [{ limits }] });
    expect(pod.remembered()).toBe(1);
  });

  it('is no admission and no failure: these are never remembered', async () => {
    const pod = aPod();
    for (const answer of [ADMITTED, new StoreError('TIMEOUT', 'no answer'), new StoreError('REFUSED', 'OOM', 'OOM')]) {
      pod.say(answer);
      expect(await pod.callsOf(alice, alice, alice)).toBe(3);
    }
  });
});

describe('denials that are answered from memory', () => {
  it('are told to Redis in one go, each once, with only what denied', async () => {
    const pod = aPod();
    pod.say(denialOf(1_000_000, [penaltyOf('NORMAL')]));
    const [one, two] = [punishableRequest('one'), punishableRequest('two')];
    await pod.callsOf(one, two);
    expect(pod.isFlushDue()).toBe(false);
    expect(await pod.callsOf(one, one, two, one)).toBe(0);
    expect(pod.isFlushDue()).toBe(true);
    expect(await pod.told()).toEqual([3, 1]);
    expect(pod.asked.at(-1)?.selection.rules).toHaveLength(1);
    expect(await pod.told()).toEqual([]);
    expect(await pod.callsOf(one, one)).toBe(0);
    expect(await pod.told()).toEqual([2]);
    pod.wait(1_000);
    expect(await pod.told()).toEqual([]);
  });

  it('are told also when what they were answered from is over', async () => {
    const pod = aPod({ maxEntries: 1 });
    pod.say(denialOf(300_000, [penaltyOf('NORMAL')]));
    await pod.callsOf(punished, punished, punished);
    pod.wait(301);
    await pod.callsOf(alice);
    expect(await pod.told()).toEqual([2]);
  });

  it('are not told again when nobody knows whether they were counted', async () => {
    const pod = aPod();
    pod.say(denialOf(1_000_000, [penaltyOf('NORMAL')]));
    await pod.callsOf(punished, punished);
    pod.say(new StoreError('TIMEOUT', 'no answer'));
    expect(await pod.told()).toEqual([1]);
    expect(await pod.told()).toEqual([]);
  });

  it('end when they have changed the penalty: the next request hears of it', async () => {
    const pod = aPod();
    pod.say(denialOf(1_000_000, [penaltyOf('NORMAL')]));
    await pod.callsOf(punished, punished);
    pod.say(denialOf(0, [penaltyOf('TEMP_BLOCK', 60_000_000, 'NORMAL')]));
    await pod.told();
    pod.say(blockOf('TEMP_BLOCK', 60_000_000));
    expect(await pod.cache.decide(punished)).toMatchObject({ code: 'blocked' });
  });

  it('count for nothing by a block, and without a penalty', async () => {
    const pod = aPod();
    pod.say(blockOf('BLOCK', -1));
    expect(await pod.callsOf(punished, punished, punished)).toBe(1);
    pod.say(denialOf(1_000_000));
    expect(await pod.callsOf(alice, alice)).toBe(1);
    expect(await pod.told()).toEqual([]);
  });

  it('are told a thousand subjects at a time, so that no decision has to wait for them', async () => {
    const pod = aPod({ maxEntries: 5_000 });
    pod.say(denialOf(1_000_000, [penaltyOf('NORMAL')]));
    for (let i = 0; i < 2_500; i += 1) await pod.callsOf(punishableRequest(`s${i}`), punishableRequest(`s${i}`));
    for (const [count, isMoreDue] of [
      [1_000, true],
      [1_000, true],
      [500, false],
    ]) {
      expect(await pod.told()).toHaveLength(Number(count));
      expect(pod.isFlushDue()).toBe(isMoreDue);
    }
  });

  it('are told when the pod stops, and nothing is due after it', async () => {
    const pod = aPod();
    pod.say(denialOf(1_000_000, [penaltyOf('NORMAL')]));
    await pod.callsOf(punished, punished, punished);
    await pod.cache.stop();
    expect(pod.asked.at(-1)?.rememberedDenials).toBe(2);
    expect(pod.isFlushDue()).toBe(false);
  });

  it('bring no block back that a pardon ended while Redis was told of them', async () => {
    const pod = aPod();
    pod.say(denialOf(1_000_000, [penaltyOf('NORMAL')]));
    await pod.callsOf(punished, punished);
    pod.say(denialOf(0, [penaltyOf('BLOCK', -1, 'NORMAL')]));
    const telling = pod.cache.flush();
    pod.cache.forget('mallory');
    await telling;
    const away = new StoreError('UNAVAILABLE', 'there is no connection to Redis');
    pod.say(away);
    await expect(pod.cache.decide(punished)).rejects.toBe(away);
  });
});

describe('a block that the pod was told of', () => {
  const away = new StoreError('UNAVAILABLE', 'there is no connection to Redis');

  it('holds until its end while Redis is away, and says when that is', async () => {
    const pod = aPod();
    pod.say(blockOf('TEMP_BLOCK', 60_000_000));
    await pod.cache.decide(punished);
    pod.say(away);
    pod.wait(59_000);
    const penalties = [{ before: 'TEMP_BLOCK', after: 'TEMP_BLOCK', endsInMicros: 1_000_000 }];
    expect(await pod.cache.decide(punished)).toMatchObject({ code: 'blocked', retryAfterMicros: 1_000_000, penalties });
    expect(await pod.cache.decide({ ...punished, isPeek: true })).toMatchObject({ code: 'blocked' });
    await expect(pod.cache.decide(punishableRequest('somebody else'))).rejects.toBe(away);
    pod.wait(1_000);
    await expect(pod.cache.decide(punished)).rejects.toBe(away);
  });

  it('holds for ever if it has no end, through a Redis that comes and goes', async () => {
    const pod = aPod();
    pod.say(blockOf('BLOCK', -1));
    await pod.cache.decide(punished);
    pod.cache.clear();
    pod.say(away);
    pod.wait(1e9);
    expect(await pod.cache.decide(punished)).toMatchObject({ code: 'blocked', retryAfterMicros: -1 });
  });

  it('ends with a pardon, and with a word of Redis that it is over', async () => {
    const pardoned = aPod();
    pardoned.say(blockOf('BLOCK', -1));
    await pardoned.cache.decide(punished);
    pardoned.cache.forget('mallory');
    pardoned.say(away);
    await expect(pardoned.cache.decide(punished)).rejects.toBe(away);
    const freed = aPod();
    freed.say(blockOf('BLOCK', -1));
    await freed.cache.decide(punished);
    freed.wait(1_000);
    freed.say(ADMITTED);
    await freed.cache.decide(punished);
    freed.say(away);
    await expect(freed.cache.decide(punished)).rejects.toBe(away);
  });

  it('is none in shadow', async () => {
    const pod = aPod();
    const shadow = punishableRequest('mallory', { enforced: false });
    pod.say(denialOf(1_000, [penaltyOf('BLOCK', -1)]));
    await pod.cache.decide(shadow);
    pod.wait(1);
    pod.say(away);
    await expect(pod.cache.decide(shadow)).rejects.toBe(away);
    pod.say(blockOf('BLOCK', -1));
    await pod.cache.decide(punished);
    pod.say(away);
    await expect(pod.cache.decide({ ...shadow, isPeek: true })).rejects.toBe(away);
    expect(await pod.cache.decide({ ...punished, isPeek: true })).toMatchObject({ code: 'blocked' });
  });
});
