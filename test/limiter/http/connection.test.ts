// What is read here is answered as Node would answer it, and all else is Node's: no caller can tell who read its request.
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { eventually } from '../../harness/eventually.ts';
import { check, CHECK, Client, FOR_NODE, idsOf, post, sendInPieces, type HeldDoors, startHeldDoors } from './caller.ts';

let doors: HeldDoors;
beforeAll(async () => {
  doors = await startHeldDoors();
});
afterAll(async () => {
  await doors.stop();
});

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
    const release = doors.hold();
    const askedBefore = doors.asked();
    using client = new Client(doors.port);
    client.socket.write(check('one'));
    await eventually(() => expect(doors.asked()).toBe(askedBefore + 1));
    await sendInPieces(client, [check('two').slice(0, 30), check('two').slice(30), check('three')]);
    release();
    expect(idsOf(await client.untilAnswered(3))).toEqual(['one', 'two', 'three']);
    expect(doors.asked()).toBe(askedBefore + 3);
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
    const release = doors.hold();
    const askedBefore = doors.asked();
    using gone = new Client(doors.port);
    gone.socket.write(check());
    await eventually(() => expect(doors.asked()).toBe(askedBefore + 1));
    gone.socket.resetAndDestroy();
    await gone.untilClosed();
    release();
    using other = new Client(doors.port);
    other.socket.write(check('other'));
    expect(idsOf(await other.untilAnswered(1))).toEqual(['other']);
    expect(doors.events).toEqual([]);
  });
});
