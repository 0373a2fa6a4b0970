import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { loadScript, readScript, Script } from '../../store/script.ts';
import { callsOf, resetCommandStats } from '../harness/command-stats.ts';
import { type PrivateRedis, privateRedis } from '../harness/redis.ts';

let server: PrivateRedis;

beforeAll(async () => {
  server = await privateRedis();
});
afterAll(() => server.stop());
beforeEach(async () => {
  await server.redis.flushall();
  await server.redis.script('FLUSH');
  await resetCommandStats(server.redis);
});

const calls = async (): Promise<{ evalsha: number; eval: number }> => ({
  evalsha: await callsOf(server.redis, 'evalsha'),
  eval: await callsOf(server.redis, 'eval'),
});

const increment = new Script("#!lua\nreturn redis.call('INCRBY', KEYS[1], ARGV[1])");

describe('a script', () => {
  it('is sent in full once, the first time, and by its hash from then on', async () => {
    for (const expected of [5, 10, 15]) expect(await increment.run(server.redis, ['key'], [5])).toBe(expected);
    expect(await calls()).toEqual({ evalsha: 3, eval: 1 });
  });

  it('is executed exactly once although Redis forgot it', async () => {
    await increment.run(server.redis, ['key'], [1]);
    await server.redis.script('FLUSH');
    expect(await increment.run(server.redis, ['key'], [1])).toBe(2);
    expect(await calls()).toEqual({ evalsha: 2, eval: 2 });
  });

  it('is not tried again when it fails', async () => {
    const failing = new Script("#!lua\nredis.call('INCR', KEYS[1])\nreturn redis.call('HGET', KEYS[1], 'field')");
    await expect(failing.run(server.redis, ['key'], [])).rejects.toMatchObject({ code: 'WRONG_TYPE' });
    expect(await server.redis.get('key')).toBe('1');
    await expect(failing.run(server.redis, ['key'], [])).rejects.toMatchObject({ code: 'WRONG_TYPE' });
    expect(await server.redis.get('key')).toBe('2');
    expect(await calls()).toEqual({ evalsha: 2, eval: 1 });
  });

  it.each([
    'acknowledge',
    'decide',
    'find-consumer-key',
    'list-penalties',
    'list-pods',
    'pardon',
    'publish',
    'refund',
    'write-consumer-keys',
  ])('is a file that Redis accepts, with its fragments in place: %s', async (name) => {
    const text = readScript(name);
    expect(text.startsWith('#!lua')).toBe(true);
    expect(text).not.toContain('@include');
    expect(await server.redis.script('LOAD', text)).toMatch(/^[0-9a-f]{40}$/);
    expect(loadScript(name).text).toBe(text);
  });
});
