import { Client, type ClientReadableStream, credentials } from '@grpc/grpc-js';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Health } from '../../../limiter/grpc/health.ts';
import { loadProtocol, serviceOf } from '../../../limiter/grpc/protocol.ts';
import { HEALTH_SERVICE } from '../../../limiter/grpc/services.ts';
import { eventually } from '../../harness/eventually.ts';
import { type EchoServer, startEcho } from './http2/peer.ts';

const [SERVING, NOT_SERVING, SERVICE_UNKNOWN] = [1, 2, 3];
const protocol = loadProtocol();

let isServing = true;
let health: Health;
let server: EchoServer;
let client: Client;
beforeEach(async () => {
  isServing = true;
  health = new Health(['one'], () => isServing);
  server = await startEcho({ methods: new Map(health.methods) });
  client = new Client(`127.0.0.1:${server.port}`, credentials.createInsecure(), {
    'grpc.use_local_subchannel_pool': 1,
  });
});
afterEach(async () => {
  client.close();
  await server.close();
});

type Watching = { readonly seen: number[]; readonly ends: unknown[]; readonly stream: ClientReadableStream<object> };

function watch(service: string): Watching {
  const definition = serviceOf(protocol, HEALTH_SERVICE)['Watch'];
  if (definition === undefined) throw new Error('there is no such method');
  const { path, requestSerialize, responseDeserialize } = definition;
  const stream = client.makeServerStreamRequest<object, object>(path, requestSerialize, responseDeserialize, {
    service,
  });
  const watching: Watching = { seen: [], ends: [], stream };
  stream.on('data', (answer) => watching.seen.push(answer.status));
  stream.on('error', () => undefined);
  stream.on('status', ({ code }) => watching.ends.push(code));
  return watching;
}

describe('who watches the health of a service', () => {
  it('is told what it is now, and each change once', async () => {
    const [whole, one, none] = [watch(''), watch('one'), watch('none')];
    await eventually(() =>
      expect([whole.seen, one.seen, none.seen]).toEqual([[SERVING], [SERVING], [SERVICE_UNKNOWN]]),
    );
    isServing = false;
    health.tell();
    health.tell();
    await eventually(() =>
      expect([whole.seen, one.seen]).toEqual([
        [SERVING, NOT_SERVING],
        [SERVING, NOT_SERVING],
      ]),
    );
    health.close();
    await eventually(() => expect([whole.ends, one.ends, none.ends]).toEqual([[0], [0], [0]]));
    expect(none.seen).toEqual([SERVICE_UNKNOWN]);
  });

  it('makes room for another when it goes, and is refused beyond 1,000', async () => {
    const first = Array.from({ length: 999 }, () => watch(''));
    await eventually(() => expect(first.every(({ seen }) => seen.length === 1)).toBe(true));
    const last = watch('');
    await eventually(() => expect(last.seen).toEqual([SERVING]));
    // Over a connection of its own, as calls of one are limited as well.
    const own = client;
    client = new Client(`127.0.0.1:${server.port}`, credentials.createInsecure(), {
      'grpc.use_local_subchannel_pool': 1,
    });
    const tooMany = watch('');
    await eventually(() => expect(tooMany.ends).toEqual([8]));
    last.stream.cancel();
    await eventually(async () => {
      const next = watch('');
      await eventually(() => expect(next.seen.length + next.ends.length).toBe(1));
      expect(next.seen).toEqual([SERVING]);
    });
    own.close();
  });
});
