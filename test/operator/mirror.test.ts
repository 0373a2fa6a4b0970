import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
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

afterEach(() => server.redis.flushall());

/** An operator of this installation that has published one object. */
async function publishOne(): Promise<string> {
  const stored = toStored({ format: FORMAT, requires: [], kind: 'SystemHealth', name: 'main', mode: 'NORMAL' });
  const entry = { kind: 'SystemHealth', namespace: '', name: 'main', uid: 'u', generation: 1, revision: 0 } as const;
  const publisher = new Publisher(server.redis, names, 'one', (floor) => Promise.resolve(floor + 1));
  await publisher.publish(
    new Map([['SystemHealth//main', { ...entry, document: stored.name }]]),
    new Map([[stored.name, stored]]),
  );
  return stored.name;
}

it('a standby copies what its own installation published, and never what another one did', async () => {
  const name = await publishOne();
  const [own, foreign] = [new Mirror(server.redis, names, 'one'), new Mirror(server.redis, names, 'other')];
  await Promise.all([own.refresh(), foreign.refresh()]);
  expect(own.copy?.documents.get(name)?.name).toBe(name);
  expect(foreign.copy).toBeUndefined();
});

it('a standby keeps its copy while an operator of another version publishes what it cannot read', async () => {
  await publishOne();
  const mirror = new Mirror(server.redis, names, 'one');
  await mirror.refresh();
  const before = mirror.copy;
  await server.redis.set(
    names.document('of-tomorrow'),
    JSON.stringify({ format: FORMAT + 1, requires: [], shards: [] }),
  );
  await server.redis.hset(names.head, { manifest: 'of-tomorrow', revision: '2' });
  await mirror.refresh();
  await mirror.refresh();
  expect(mirror.copy).toBe(before);
  await server.redis.hset(names.head, { manifest: before?.identity.manifest ?? '', revision: '3' });
  await mirror.refresh();
  expect(mirror.copy?.identity.revision).toBe(3);
});
