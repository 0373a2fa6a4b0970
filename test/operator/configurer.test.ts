import { pino } from 'pino';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { Configurer } from '../../operator/configurer.ts';
import { alone } from '../../operator/leadership.ts';
import type { RawResource } from '../../policy/resource.ts';
import { createNames } from '../../store/names.ts';
import { type PrivateRedis, privateRedis } from '../harness/redis.ts';

let server: PrivateRedis;
beforeAll(async () => {
  server = await privateRedis();
});
afterAll(() => server.stop());

const object = (kind: RawResource['kind'], name: string, spec: unknown, generation = 1): RawResource => ({
  kind,
  metadata: { namespace: 'shop', name, uid: `uid-${name}`, generation, creationTimestamp: '2026-01-01T00:00:00Z' },
  spec,
});
const aPolicy = (name: string, axis: string): RawResource => {
  const limits = [{ windowSeconds: 60, requests: 5 }];
  return object('RateLimitPolicy', name, {
    rules: [{ name: 'all', countBy: [axis], algorithm: 'TokenBucket', limits }],
  });
};

const anOperator = (): Configurer =>
  new Configurer({
    redis: server.redis,
    names: createNames('configurer'),
    owner: 'test',
    pepper: 'a pepper that is only for tests',
    leadership: alone(),
    log: pino({ level: 'silent' }),
  });

it('a restarted operator judges by the domain that is in force, while its edit is not valid', async () => {
  const fits = aPolicy('fits', 'tenant');
  await anOperator().pass([object('RateLimitDomain', 'shop', { partitionBy: 'tenant' }), fits]);
  const restarted = anOperator();
  const invalid = object('RateLimitDomain', 'shop', { partitionBy: 'moon' }, 2);
  await restarted.pass([invalid, fits, aPolicy('late', 'consumer')]);
  expect([...(restarted.desired?.problems.keys() ?? [])]).toEqual([
    'RateLimitDomain/shop/shop',
    'RateLimitPolicy/shop/late',
  ]);
  expect(restarted.desired?.problems.get('RateLimitPolicy/shop/late')).toMatchObject([
    { reason: 'CrossPartitionRule' },
  ]);
  expect([...(restarted.publisher.published?.entries.keys() ?? [])].toSorted()).toEqual([
    'RateLimitDomain/shop/shop',
    'RateLimitPolicy/shop/fits',
  ]);
});

it('lets go of many policies at once in the pass that replaces them, and keeps what replaces them', async () => {
  await server.redis.flushall();
  const names = createNames('configurer');
  const operator = anOperator();
  const many = (generation: number): RawResource[] =>
    Array.from({ length: 300 }, (_, index) => {
      const limits = [{ windowSeconds: 60, requests: generation }];
      const rules = [{ name: 'all', countBy: ['consumer'], algorithm: 'TokenBucket', limits }];
      return object('RateLimitPolicy', `policy-${index}`, { domain: `shop.d${index}`, rules }, generation);
    });
  const stay = async (): Promise<string[]> => {
    const keys = await server.redis.keys(names.document('*'));
    const lives = await Promise.all(keys.map((key) => server.redis.pttl(key)));
    return keys.filter((_key, index) => lives[index] === -1).toSorted();
  };
  const needed = (): string[] =>
    [...(operator.publisher.published?.documents.keys() ?? [])].map((name) => names.document(name)).toSorted();
  await operator.pass(many(1));
  const before = needed();
  expect(before.length).toBeGreaterThan(300);
  expect(await stay()).toEqual(before);
  await operator.pass(many(2));
  expect(needed()).not.toEqual(before);
  expect(await stay()).toEqual(needed());
});
