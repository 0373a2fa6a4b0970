// How connections begin, are kept, and end, whoever reads them.
import { once } from 'node:events';
import type { Socket } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startDoors } from '../../harness/doors.ts';
import { eventually } from '../../harness/eventually.ts';
import { bytesInUse } from '../../harness/heap.ts';
import { check, Client, idsOf, type HeldDoors, startHeldDoors } from './caller.ts';

let doors: HeldDoors;
beforeAll(async () => {
  doors = await startHeldDoors();
});
afterAll(async () => {
  await doors.stop();
});

describe('a connection', () => {
  /** The limiter's end of the next connection. */
  const nextSocket = async (): Promise<Socket> => {
    const [socket]: Socket[] = await once(doors.doors.server, 'connection');
    if (socket === undefined) throw new Error('there is no connection');
    return socket;
  };

  it('whose caller does not read its answers is not read from', async () => {
    const accepting = nextSocket();
    using client = new Client(doors.port);
    const socket = await accepting;
    client.socket.pause();
    const readBefore = doors.readByNode();
    const filler = Buffer.alloc(32 * 1024 * 1024, ' ');
    socket.write(filler);
    const askedBefore = doors.asked();
    client.socket.write(check('one'));
    await eventually(() => expect(doors.asked()).toBe(askedBefore + 1));
    await eventually(() => expect(socket.isPaused()).toBe(true));
    client.socket.write(check('two'));
    await pause(50);
    expect(doors.asked()).toBe(askedBefore + 1);
    client.socket.resume();
    await eventually(() => expect(idsOf([client.text.slice(client.text.indexOf('two') - 20)])).toEqual(['two']));
    expect(doors.readByNode()).toBe(readBefore);
  });

  it('that sends nothing, or never the rest, is closed', async () => {
    using silent = new Client(doors.port);
    using noHead = new Client(doors.port);
    noHead.socket.write('POST /check HTTP/1.1\r\n');
    using noBody = new Client(doors.port);
    noBody.socket.write(check().slice(0, -1));
    await Promise.all([silent, noHead, noBody].map((client) => client.untilClosed()));
    expect(silent.text).toBe('');
    expect([noHead, noBody].map(({ text }) => text.slice(0, 12))).toEqual(['HTTP/1.1 408', 'HTTP/1.1 408']);
  });

  it('is kept for a second more than callers are told', async () => {
    const accepting = nextSocket();
    using client = new Client(doors.port);
    const socket = await accepting;
    expect(socket.timeout).toBe(5_000);
    client.socket.write(check());
    await client.untilAnswered(1);
    expect(socket.timeout).toBe(76_000);
  });

  it('is closed when it is idle and all such are, and not while it is answered or its request comes', async () => {
    using idle = new Client(doors.port);
    idle.socket.write(check());
    await idle.untilAnswered(1);
    const release = doors.hold();
    const askedBefore = doors.asked();
    using busy = new Client(doors.port);
    busy.socket.write(check('busy'));
    await eventually(() => expect(doors.asked()).toBe(askedBefore + 1));
    doors.doors.closeIdleConnections();
    await idle.untilClosed();
    release();
    expect(idsOf(await busy.untilAnswered(1))).toEqual(['busy']);
    expect(busy.socket.closed).toBe(false);
  });

  it('is not closed as an idle one while its first request is on the way, or the rest of one', async () => {
    const accepting = nextSocket();
    using fresh = new Client(doors.port);
    await accepting;
    const acceptingNext = nextSocket();
    using partly = new Client(doors.port);
    const socket = await acceptingNext;
    partly.socket.write(check());
    await partly.untilAnswered(1);
    const [request, before] = [check('rest'), socket.bytesRead];
    partly.socket.write(request.slice(0, -5));
    await eventually(() => expect(socket.bytesRead).toBe(before + request.length - 5));
    doors.doors.closeIdleConnections();
    fresh.socket.write(check('first'));
    partly.socket.write(request.slice(-5));
    expect(idsOf(await fresh.untilAnswered(1))).toEqual(['first']);
    expect(idsOf(await partly.untilAnswered(2))).toEqual(['r', 'rest']);
  });

  it('that Node has got is not closed while Node answers on it', async () => {
    const release = doors.hold();
    const askedBefore = doors.asked();
    using client = new Client(doors.port);
    client.socket.write(`${check('one')}${check('two')}`);
    await eventually(() => expect(doors.asked()).toBeGreaterThan(askedBefore));
    doors.doors.closeIdleConnections();
    release();
    expect(idsOf(await client.untilAnswered(2))).toEqual(['one', 'two']);
  });

  it('ends when its caller ends it, between two requests and within one', async () => {
    using between = new Client(doors.port);
    between.socket.write(check());
    await between.untilAnswered(1);
    using within = new Client(doors.port);
    within.socket.write(check().slice(0, -1));
    using before = new Client(doors.port);
    for (const client of [between, within, before]) client.socket.end();
    await Promise.all([between, within, before].map((client) => client.untilClosed()));
    expect(between.answers).toHaveLength(1);
    expect(within.text).toBe('');
  });

  it('is forgotten when it is closed', async () => {
    const sockets: WeakRef<Socket>[] = [];
    const note = (socket: Socket): void => void sockets.push(new WeakRef(socket));
    doors.doors.server.on('connection', note);
    for (let i = 0; i < 10; i += 1) {
      using client = new Client(doors.port);
      client.socket.write(check());
      await client.untilAnswered(1);
      client.socket.end();
      await client.untilClosed();
    }
    doors.doors.server.off('connection', note);
    expect(sockets).toHaveLength(10);
    await eventually(() => {
      bytesInUse();
      expect(sockets.filter((socket) => socket.deref() !== undefined).length).toBeLessThan(5);
    });
  });

  it.each([
    ['within a request', [check().slice(0, -1)]],
    ['while one is answered and the next has come', [check('one'), check('two')]],
  ])('that breaks off %s is forgotten', async (_when, pieces) => {
    const sockets: WeakRef<Socket>[] = [];
    const note = (socket: Socket): void => void sockets.push(new WeakRef(socket));
    doors.doors.server.on('connection', note);
    const release = doors.hold();
    for (let i = 0; i < 10; i += 1) {
      using client = new Client(doors.port);
      let sent = 0;
      for (const piece of pieces) {
        client.socket.write(piece);
        sent += piece.length;
        await eventually(() => expect(sockets[i]?.deref()?.bytesRead).toBe(sent));
      }
      client.socket.resetAndDestroy();
      await client.untilClosed();
    }
    await eventually(() => expect(sockets.every((socket) => socket.deref()?.closed !== false)).toBe(true));
    release();
    doors.doors.server.off('connection', note);
    await eventually(() => {
      bytesInUse();
      expect(sockets.filter((socket) => socket.deref() !== undefined).length).toBeLessThan(5);
    });
  });

  it('that sends without end while it is answered is not read from', async () => {
    const accepting = nextSocket();
    using client = new Client(doors.port);
    const socket = await accepting;
    const release = doors.hold();
    const askedBefore = doors.asked();
    client.socket.write(check());
    await eventually(() => expect(doors.asked()).toBe(askedBefore + 1));
    client.socket.write(Buffer.alloc(16 * 1024 * 1024, check('more')));
    await eventually(() => expect(socket.isPaused()).toBe(true));
    await pause(50);
    expect(socket.bytesRead).toBeLessThan(1024 * 1024);
    client.socket.resetAndDestroy();
    release();
  });

  it('that has ended within a request still gets the answers before', async () => {
    const accepting = nextSocket();
    using client = new Client(doors.port);
    const socket = await accepting;
    const filler = Buffer.alloc(32 * 1024 * 1024, ' ');
    client.socket.pause();
    socket.write(filler);
    client.socket.write(check().slice(0, -1));
    await eventually(() => expect(socket.bytesRead).toBe(check().length - 1));
    client.socket.end();
    await once(socket, 'end');
    // Longer than the rest of a body is awaited.
    await pause(1_500);
    expect(socket.destroyed).toBe(false);
    client.socket.resume();
    await client.untilClosed();
    expect(client.text.length).toBeGreaterThanOrEqual(filler.length);
  });

  it('is closed with all others while it is answered, too', async () => {
    const release = doors.hold();
    const askedBefore = doors.asked();
    using client = new Client(doors.port);
    client.socket.write(check());
    await eventually(() => expect(doors.asked()).toBe(askedBefore + 1));
    doors.doors.closeAllConnections();
    await client.untilClosed();
    release();
    expect(client.text).toBe('');
  });

  it('is told to end when the limiter drains', async () => {
    const draining = await startDoors();
    using client = new Client(draining.port);
    client.socket.write(check());
    await client.untilAnswered(1);
    draining.doors.drain();
    client.socket.write(check('last'));
    await client.untilClosed();
    expect(idsOf(client.answers)).toEqual(['r', 'last']);
    expect(client.answers[1]).toContain('\r\nConnection: close\r\n');
    await draining.stop();
  });
});
