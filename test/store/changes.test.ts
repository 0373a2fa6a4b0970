import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { type Change, subscribeToChanges, type Subscription } from '../../store/changes.ts';
import { createNames } from '../../store/names.ts';
import { eventually } from '../harness/eventually.ts';
import { type PrivateRedis, privateRedis } from '../harness/redis.ts';
import { startTcpProxy, type TcpProxy } from '../harness/tcp-proxy.ts';

const names = createNames('default');

let server: PrivateRedis;
let proxy: TcpProxy;
let changes: Change[];
let subscription: Subscription;

beforeAll(async () => {
  server = await privateRedis();
});
afterAll(() => server.stop());
beforeEach(async () => {
  proxy = await startTcpProxy(server.port);
  changes = [];
  subscription = subscribeToChanges(url(), names, ['head', 'key'], (change) => changes.push(change));
  await eventually(() => {
    if (changes.length < 2) throw new Error('not subscribed yet');
  });
  changes = [];
});
afterEach(async () => {
  subscription.close();
  await proxy.close();
});

const url = (): string => `redis://127.0.0.1:${proxy.port}`;

describe('a subscription to changes', () => {
  it('tells of every kind when it begins, because something may have been missed', async () => {
    const begun: Change[] = [];
    const another = subscribeToChanges(url(), names, ['ack', 'head'], (change) => begun.push(change));
    await eventually(() => expect(begun).toEqual(['ack', 'head']));
    another.close();
  });

  it('tells of the kinds that were asked for, in order, and of nothing else', async () => {
    const messages = ['key 4', 'ack pod-a', 'head 7', 'header 8', 'head', '', 'key 5'];
    for (const message of messages) await server.redis.publish(names.changes, message);
    await server.redis.publish(createNames('another').changes, 'head 1');
    await server.redis.publish(names.changes, 'head 9');
    await eventually(() => expect(changes).toEqual(['key', 'head', 'key', 'head']));
  });

  it('tells of every kind again after the connection broke', async () => {
    proxy.reset();
    await eventually(() => expect(changes).toEqual(['head', 'key']));
    await server.redis.publish(names.changes, 'key 1');
    await eventually(() => expect(changes).toEqual(['head', 'key', 'key']));
  });

  it('subscribes once when the connection is back: what the client library sends by itself, nobody could catch', async () => {
    const subscribed = async (): Promise<number> =>
      Number(/cmdstat_subscribe:calls=(\d+)/.exec(await server.redis.info('commandstats'))?.[1]);
    const before = await subscribed();
    proxy.reset();
    await eventually(() => expect(changes).toEqual(['head', 'key']));
    expect(await subscribed()).toBe(before + 1);
  });

  it('is silent once it is closed', async () => {
    subscription.close();
    await eventually(() => expect(proxy.connections).toBe(0));
    await server.redis.publish(names.changes, 'key 1');
    expect(changes).toEqual([]);
  });
});
