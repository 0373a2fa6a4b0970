import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { connect, disconnect, whenReady, type RedisClient } from '../../store/connection.ts';
import { eventually } from '../harness/eventually.ts';
import { freePort, type PrivateRedis, privateRedis } from '../harness/redis.ts';
import { startTcpProxy, type TcpProxy } from '../harness/tcp-proxy.ts';

let server: PrivateRedis;
let proxy: TcpProxy;
let events: string[];

beforeAll(async () => {
  server = await privateRedis();
});
afterAll(() => server.stop());
beforeEach(async () => {
  proxy = await startTcpProxy(server.port);
  events = [];
});
afterEach(() => proxy.close());

function connectThroughProxy(): RedisClient {
  return connect(`redis://127.0.0.1:${proxy.port}`, {
    onDown: () => events.push('down'),
    onReady: () => events.push('ready'),
  });
}

describe('a connection', () => {
  it('tells of each outage once, and reconnects by itself', async () => {
    const redis = connectThroughProxy();
    for (let outage = 1; outage <= 3; outage += 1) {
      await eventually(() => expect(events.at(-1)).toBe('ready'));
      proxy.reset();
      await eventually(() => expect(events.filter((event) => event === 'down')).toHaveLength(outage));
    }
    await eventually(() => expect(events).toEqual(['ready', 'down', 'ready', 'down', 'ready', 'down', 'ready']));
    disconnect(redis);
  });

  it('tells once of a Redis that is not there, and of it when it comes', async () => {
    await server.stopServer();
    const redis = connect(server.url, { onDown: () => events.push('down'), onReady: () => events.push('ready') });
    const attempts: string[] = [];
    redis.on('reconnecting', () => attempts.push('again'));
    await eventually(() => expect(attempts.length).toBeGreaterThan(2));
    expect(events).toEqual(['down']);
    await server.startServer();
    await eventually(() => expect(events).toEqual(['down', 'ready']));
    disconnect(redis);
  });

  it('queues nothing while it is down', async () => {
    const redis = connect(`redis://127.0.0.1:${await freePort()}`, {
      onDown: () => undefined,
      onReady: () => undefined,
    });
    await expect(redis.set('key', 'value')).rejects.toThrow(/Stream isn't writeable/);
    disconnect(redis);
  });

  it('is given up and made anew when Redis does not answer any more', async () => {
    const redis = connectThroughProxy();
    await whenReady(redis, AbortSignal.timeout(30_000));
    proxy.holdReplies();
    const lost = redis.set('key', 'value').catch(() => 'lost');
    expect(await lost).toBe('lost');
    proxy.releaseReplies();
    await eventually(() => expect(events).toEqual(['ready', 'down', 'ready']));
    disconnect(redis);
  });

  it('says nothing when it is closed on purpose', async () => {
    const redis = connectThroughProxy();
    await whenReady(redis, AbortSignal.timeout(30_000));
    disconnect(redis);
    await eventually(() => expect(proxy.connections).toBe(0));
    expect(events).toEqual(['ready']);
  });

  it('can be waited for, until the one who waits has had enough', async () => {
    const redis = connectThroughProxy();
    await whenReady(redis, AbortSignal.timeout(30_000));
    await expect(whenReady(redis, AbortSignal.abort())).resolves.toBeUndefined();
    const nowhere = connect(`redis://127.0.0.1:${await freePort()}`, {
      onDown: () => undefined,
      onReady: () => undefined,
    });
    const impatience = new AbortController();
    const waiting = whenReady(nowhere, impatience.signal);
    impatience.abort();
    await expect(waiting).rejects.toThrow('stopped while waiting for Redis');
    disconnect(redis);
    disconnect(nowhere);
  });
});
