// What is read here is answered as Node would answer it, and all else is Node's: no caller can tell who read its request.
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Engine } from '../../../limiter/asked.ts';
import { eventually } from '../../harness/eventually.ts';
import { startDoors, type TestDoors } from '../../harness/doors.ts';
import { bytesInUse } from '../../harness/heap.ts';

/** Decisions wait while this is set. */
let held: Promise<void> | undefined;
let asked = 0;
const holding = (engine: Engine): Engine => ({
  async check(snapshot, request) {
    asked += 1;
    await held;
    return engine.check(snapshot, request);
  },
});

function hold(): () => void {
  const { promise, resolve } = Promise.withResolvers<void>();
  held = promise;
  return () => {
    held = undefined;
    resolve();
  };
}

let doors: TestDoors;
beforeAll(async () => {
  doors = await startDoors(holding);
});
afterAll(async () => {
  await doors.stop();
});

const CHECK = '{"domain":"payments","mode":"peek"}';

function post(path: string, body: string, extra = ''): string {
  const length = Buffer.byteLength(body);
  return `POST ${path} HTTP/1.1\r\nHost: a\r\nX-Request-ID: r\r\n${extra}Content-Length: ${length}\r\n\r\n${body}`;
}
const check = (id = 'r'): string => post('/v1/decision/check', CHECK).replace('X-Request-ID: r', `X-Request-ID: ${id}`);

/** A connection to the doors, and what was said on it. */
class Client {
  readonly socket: Socket;
  readonly #chunks: Buffer[] = [];

  constructor(port: number) {
    this.socket = connect(port, '127.0.0.1');
    this.socket.setNoDelay(true);
    this.socket.on('error', () => undefined);
    this.socket.on('data', (chunk: Buffer) => this.#chunks.push(chunk));
  }

  get text(): string {
    return Buffer.concat(this.#chunks).toString('utf8');
  }

  /** Whole answers, each as text, without what differs between two of them. */
  get answers(): string[] {
    const bytes = Buffer.concat(this.#chunks);
    const answers: string[] = [];
    let at = 0;
    while (at < bytes.length) {
      const end = bytes.indexOf('\r\n\r\n', at);
      if (end === -1) break;
      const head = bytes.toString('latin1', at, end);
      const length = Number(/content-length: (\d+)/i.exec(head)?.[1] ?? 0);
      if (bytes.length < end + 4 + length) break;
      answers.push(bytes.toString('utf8', at, end + 4 + length).replace(/\r\nDate: [^\r]+ GMT\r\n/, '\r\nDate: …\r\n'));
      at = end + 4 + length;
    }
    return answers;
  }

  async untilAnswered(count: number): Promise<string[]> {
    await eventually(() => expect(this.answers).toHaveLength(count));
    return this.answers;
  }

  async untilClosed(): Promise<void> {
    if (!this.socket.closed) await once(this.socket, 'close');
  }

  [Symbol.dispose](): void {
    this.socket.destroy();
  }
}

/** Sends each piece when what was sent before has probably been read by itself. */
async function sendInPieces({ socket }: Client, pieces: readonly (string | Buffer)[]): Promise<void> {
  if (socket.connecting) await once(socket, 'connect');
  for (const piece of pieces) {
    socket.write(piece);
    await pause(1);
  }
}

const idsOf = (answers: readonly string[]): unknown[] =>
  answers.map((answer) => /x-request-id: (\S+)/.exec(answer)?.[1]);

/** Node reads this one, and all that follow it. */
const FOR_NODE = 'GET /health HTTP/1.1\r\nHost: a\r\nX-A: 1\r\nX-A: 2\r\n\r\n';

describe('an answer', () => {
  it.each([
    ['a decision', check()],
    ['a batch', post('/v1/decision/batch', `{"checks":[${CHECK.replace('}', ',"request_id":"one"}')}]}`)],
    ['a refund of nothing', post('/v1/decision/refund', '{"request_id":"never"}')],
    ['a gateway', 'GET /authz/payments/a?b=c HTTP/1.1\r\nHost: a\r\nX-Request-ID: r\r\n\r\n'],
    ['health', 'GET /health HTTP/1.1\r\nHost: a\r\nX-Request-ID: r\r\n\r\n'],
    ['no endpoint', 'GET /nowhere HTTP/1.1\r\nHost: a\r\nX-Request-ID: r\r\n\r\n'],
    ['another method', 'DELETE /check HTTP/1.1\r\nHost: a\r\nX-Request-ID: r\r\n\r\n'],
    ['a body where none is read', post('/nowhere', 'x'.repeat(1_000))],
    ['a body that is not JSON', post('/v1/decision/check', '{')],
    [
      'a body that is not UTF-8',
      Buffer.from(`${post('/v1/decision/check', '').replace('Length: 0', 'Length: 1')}\xff`, 'latin1'),
    ],
    ['a field in other letters than ours', post('/v1/decision/check', '{"domain":"payments","größe":"ü"}')],
    ['a body that is too large', post('/v1/decision/check', ' '.repeat(70_000))],
  ])('is that of Node to the byte: %s', async (_what, request) => {
    const readBefore = doors.readByNode();
    using here = new Client(doors.port);
    here.socket.write(request);
    const [mine] = await here.untilAnswered(1);
    expect(doors.readByNode()).toBe(readBefore);
    using there = new Client(doors.port);
    there.socket.write(FOR_NODE);
    await there.untilAnswered(1);
    there.socket.write(request);
    const [, nodes] = await there.untilAnswered(2);
    expect(doors.readByNode()).toBe(readBefore + 2);
    const unlike = /"(remaining|reset_after)":[\d.]+|[tr]=\d+|(?<=x-ratelimit-(remaining|reset): )\d+/g;
    expect(mine?.replaceAll(unlike, '')).toBe(nodes?.replaceAll(unlike, ''));
    expect(mine).toContain('\r\nKeep-Alive: timeout=75\r\n');
  });
});

describe('a request', () => {
  it('may come in two pieces, wherever it is cut; within its head it is Node’s', async () => {
    const request = check();
    const head = request.indexOf('\r\n\r\n') + 4;
    const cuts = Array.from({ length: request.length - 1 }, (_, index) => index + 1);
    const readBefore = doors.readByNode();
    for (const cut of cuts) {
      using client = new Client(doors.port);
      await sendInPieces(client, [request.slice(0, cut), request.slice(cut)]);
      const [answer] = await client.untilAnswered(1);
      expect(answer).toMatch(/^HTTP\/1\.1 200 OK\r\n/);
    }
    // Some pieces may have arrived as one.
    expect(doors.readByNode() - readBefore).toBeLessThan(head);
    expect(doors.readByNode() - readBefore).toBeGreaterThan(0);
  });

  it('may come byte by byte, again and again', async () => {
    using client = new Client(doors.port);
    const bytes = `${check('one')}${check('two')}`.split('');
    await sendInPieces(client, bytes);
    expect(idsOf(await client.untilAnswered(2))).toEqual(['one', 'two']);
  });

  it('is answered here again and again on one connection, with its body in pieces or not', async () => {
    const readBefore = doors.readByNode();
    using client = new Client(doors.port);
    for (const [index, cut] of [0, 30, 0, 5, 1].entries()) {
      const request = check(`r${index}`);
      const at = request.length - cut;
      await sendInPieces(
        client,
        [request.slice(0, at), request.slice(at)].filter((piece) => piece !== ''),
      );
      await client.untilAnswered(index + 1);
    }
    expect(idsOf(client.answers)).toEqual(['r0', 'r1', 'r2', 'r3', 'r4']);
    expect(doors.readByNode()).toBe(readBefore);
  });

  it('is answered in its turn when several come at once', async () => {
    using client = new Client(doors.port);
    const ids = Array.from({ length: 20 }, (_, index) => `r${index}`);
    client.socket.write(ids.map(check).join(''));
    expect(idsOf(await client.untilAnswered(20))).toEqual(ids);
  });

  it('that comes while the one before is answered is answered after it, once', async () => {
    const release = hold();
    const askedBefore = asked;
    using client = new Client(doors.port);
    client.socket.write(check('one'));
    await eventually(() => expect(asked).toBe(askedBefore + 1));
    await sendInPieces(client, [check('two').slice(0, 30), check('two').slice(30), check('three')]);
    release();
    expect(idsOf(await client.untilAnswered(3))).toEqual(['one', 'two', 'three']);
    expect(asked).toBe(askedBefore + 3);
  });

  it('whose body is late is Node’s to wait for', async () => {
    const readBefore = doors.readByNode();
    using client = new Client(doors.port);
    const request = check('late');
    client.socket.write(request.slice(0, -5));
    await eventually(() => expect(doors.readByNode()).toBe(readBefore + 1));
    client.socket.write(request.slice(-5));
    expect(idsOf(await client.untilAnswered(1))).toEqual(['late']);
  });

  it('that is large is Node’s, which does not keep what nobody wants', async () => {
    const readBefore = doors.readByNode();
    using client = new Client(doors.port);
    client.socket.write(post('/nowhere', 'x'.repeat(300_000)));
    const [answer] = await client.untilAnswered(1);
    expect(answer).toMatch(/^HTTP\/1\.1 404 /);
    expect(doors.readByNode()).toBe(readBefore + 1);
  });

  it('is answered to a caller that has ended its side, and the connection ends', async () => {
    using client = new Client(doors.port);
    client.socket.end(check('last'));
    await client.untilClosed();
    expect(idsOf(client.answers)).toEqual(['last']);
  });

  it('of a caller that goes away meanwhile troubles nobody', async () => {
    const release = hold();
    const askedBefore = asked;
    using gone = new Client(doors.port);
    gone.socket.write(check());
    await eventually(() => expect(asked).toBe(askedBefore + 1));
    gone.socket.resetAndDestroy();
    await gone.untilClosed();
    release();
    using other = new Client(doors.port);
    other.socket.write(check('other'));
    expect(idsOf(await other.untilAnswered(1))).toEqual(['other']);
    expect(doors.events).toEqual([]);
  });
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
    const askedBefore = asked;
    client.socket.write(check('one'));
    await eventually(() => expect(asked).toBe(askedBefore + 1));
    await eventually(() => expect(socket.isPaused()).toBe(true));
    client.socket.write(check('two'));
    await pause(50);
    expect(asked).toBe(askedBefore + 1);
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
    const release = hold();
    const askedBefore = asked;
    using busy = new Client(doors.port);
    busy.socket.write(check('busy'));
    await eventually(() => expect(asked).toBe(askedBefore + 1));
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
    const release = hold();
    const askedBefore = asked;
    using client = new Client(doors.port);
    client.socket.write(`${check('one')}${check('two')}`);
    await eventually(() => expect(asked).toBeGreaterThan(askedBefore));
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
    const release = hold();
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
    const release = hold();
    const askedBefore = asked;
    client.socket.write(check());
    await eventually(() => expect(asked).toBe(askedBefore + 1));
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
    const release = hold();
    const askedBefore = asked;
    using client = new Client(doors.port);
    client.socket.write(check());
    await eventually(() => expect(asked).toBe(askedBefore + 1));
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
