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
