import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { countInvalidKey } from '../../store/invalid-keys.ts';
import { createNames } from '../../store/names.ts';
import { textsOf } from '../../store/reply.ts';
import { type PrivateRedis, privateRedis } from '../harness/redis.ts';
import { onVirtualClock, setClock } from '../harness/virtual-clock.ts';

const names = createNames('default');
const CLIENT = 'client';
const KEY = names.invalidKeys(CLIENT);
const START = 1_780_000_000_000_000n;
const SECOND = 1_000_000n;

let server: PrivateRedis;
const script = onVirtualClock('count-invalid-key');

beforeAll(async () => {
  server = await privateRedis();
});
afterAll(() => server.stop());
beforeEach(async () => {
  await server.redis.flushall();
});

/** Three within 60 seconds lead to a block of 900. */
async function count(micros: bigint, mode = 1): Promise<readonly string[]> {
  await setClock(server.redis, START + micros);
  return textsOf(await script.run(server.redis, [KEY], [3, 60, 900, mode]));
}

const look = (micros: bigint): Promise<readonly string[]> => count(micros, 0);

const COUNTED = ['0', '0'];
const LED_TO_THE_BLOCK = ['0', '1'];
const blockedFor = (micros: bigint): readonly string[] => [String(micros), '0'];

/** Three at once, the last of which leads to the block. */
async function block(): Promise<void> {
  expect([await count(0n), await count(0n), await count(0n)]).toEqual([COUNTED, COUNTED, LED_TO_THE_BLOCK]);
}

describe('requests with invalid keys', () => {
  it('lead to a block when there are too many, from the next one on', async () => {
    await block();
    expect(await count(0n)).toEqual(blockedFor(900n * SECOND));
    expect(await count(300n * SECOND)).toEqual(blockedFor(600n * SECOND));
  });

  it('are blocked up to the last microsecond, and nothing makes that longer', async () => {
    await block();
    for (let i = 1n; i < 10n; i += 1n) await count(i * SECOND);
    expect(await count(900n * SECOND - 1n)).toEqual(blockedFor(1n));
    expect(await count(900n * SECOND)).toEqual(COUNTED);
    expect(await count(900n * SECOND)).toEqual(COUNTED);
    expect(await count(900n * SECOND)).toEqual(LED_TO_THE_BLOCK);
  });

  it('count together within the time from the first of them, and no longer', async () => {
    expect([await count(0n), await count(0n)]).toEqual([COUNTED, COUNTED]);
    expect(await count(60n * SECOND)).toEqual(COUNTED);
    expect(await count(61n * SECOND)).toEqual(COUNTED);
    expect(await count(120n * SECOND - 1n)).toEqual(LED_TO_THE_BLOCK);
  });

  it('are not blocked for longer after the clock stepped back', async () => {
    await block();
    expect(await count(-1n)).toEqual(COUNTED);
    expect(await count(0n)).toEqual(COUNTED);
  });

  it('are not counted by a look, which tells of the block', async () => {
    for (let i = 0; i < 5; i += 1) expect(await look(0n)).toEqual(COUNTED);
    expect(await server.redis.exists(KEY)).toBe(0);
    await block();
    expect(await look(300n * SECOND)).toEqual(blockedFor(600n * SECOND));
  });

  it('leave nothing behind when they do not matter any more', async () => {
    await count(0n);
    const counting = await server.redis.pttl(KEY);
    await server.redis.del(KEY);
    await block();
    const blocking = await server.redis.pttl(KEY);
    expect(counting).toBeGreaterThan(50_000);
    expect(counting).toBeLessThanOrEqual(61_000);
    expect(blocking).toBeGreaterThan(890_000);
    expect(blocking).toBeLessThanOrEqual(901_000);
  });

  it('are counted by the clock of Redis, for each client by itself', async () => {
    const settings = { invalidKeys: 2, withinSeconds: 60, forSeconds: 900, enforced: true };
    const counted = [];
    for (let i = 0; i < 3; i += 1) counted.push(await countInvalidKey(server.redis, names, CLIENT, settings));
    expect(counted.slice(0, 2)).toEqual([
      { blockedForMicros: 0, isNew: false },
      { blockedForMicros: 0, isNew: true },
    ]);
    expect(counted[2]).toMatchObject({ isNew: false });
    expect(counted[2]?.blockedForMicros).toBeGreaterThan(0);
    expect(counted[2]?.blockedForMicros).toBeLessThanOrEqual(900_000_000);
    expect(await countInvalidKey(server.redis, names, 'another', settings)).toEqual({
      blockedForMicros: 0,
      isNew: false,
    });
  });
});
