import { afterAll, beforeAll, expect, it } from 'vitest';
import { Mirror } from '../../operator/mirror.ts';
import { Publisher } from '../../operator/publisher.ts';
import { FORMAT, toStored } from '../../policy/documents.ts';
import { createNames } from '../../store/names.ts';
import { type PrivateRedis, privateRedis } from '../harness/redis.ts';

const names = createNames('mirror');

let server: PrivateRedis;
beforeAll(async () => {
  server = await privateRedis();
});
afterAll(() => server.stop());

it('a standby copies what its own installation published, and never what another one did', async () => {
  const stored = toStored({ format: FORMAT, requires: [], kind: 'SystemHealth', name: 'main', mode: 'NORMAL' });
  const entry = { kind: 'SystemHealth', namespace: '', name: 'main', uid: 'u', generation: 1, revision: 0 } as const;
  const publisher = new Publisher(server.redis, names, 'one', (floor) => Promise.resolve(floor + 1));
  await publisher.publish(
    new Map([['SystemHealth//main', { ...entry, document: stored.name }]]),
    new Map([[stored.name, stored]]),
  );
  const [own, foreign] = [new Mirror(server.redis, names, 'one'), new Mirror(server.redis, names, 'other')];
  await Promise.all([own.refresh(), foreign.refresh()]);
  expect(own.copy?.documents.get(stored.name)).toEqual(stored);
  expect(foreign.copy).toBeUndefined();
});
