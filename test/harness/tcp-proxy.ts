import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';
import { Transform } from 'node:stream';
import { setTimeout as pause } from 'node:timers/promises';

export type TcpProxy = {
  readonly port: number;
  /** Connections that are open through it now. */
  readonly connections: number;
  /** Requests still arrive, nothing comes back: neither replies nor the end of a connection. */
  holdReplies(): void;
  /** Lets through what was held, in order. */
  releaseReplies(): void;
  /** From now on replies come in pieces, each so much later; 0: as they are. */
  slowDown(millis: number): void;
  /** Breaks every connection with a reset. */
  reset(): void;
  close(): Promise<void>;
};

type Pair = { readonly client: Socket; readonly server: Socket; readonly replies: Transform };

/** Stands between a client and a server on this machine, to do to them what networks do. */
export async function startTcpProxy(targetPort: number): Promise<TcpProxy> {
  const pairs = new Set<Pair>();
  let isHolding = false;
  let lateMillis = 0;
  const listener = createServer((client) => {
    const pair: Pair = { client, server: connect(targetPort, '127.0.0.1'), replies: trickle(() => lateMillis) };
    pairs.add(pair);
    client.pipe(pair.server);
    pair.server.pipe(pair.replies).pipe(client);
    if (isHolding) hold(pair);
    const drop = (): void => {
      pairs.delete(pair);
      client.destroy();
      pair.server.destroy();
    };
    for (const socket of [client, pair.server]) socket.once('close', drop).on('error', drop);
  });
  listener.listen(0, '127.0.0.1');
  await once(listener, 'listening');
  const address = listener.address();
  if (typeof address !== 'object' || address === null) throw new Error('the proxy has no port');
  return {
    port: address.port,
    get connections() {
      return pairs.size;
    },
    holdReplies: () => {
      isHolding = true;
      pairs.forEach(hold);
    },
    releaseReplies: () => {
      isHolding = false;
      for (const { server, replies } of pairs) server.pipe(replies);
    },
    slowDown: (millis) => {
      lateMillis = millis;
    },
    reset: () => {
      for (const { client, server } of pairs) {
        client.resetAndDestroy();
        server.destroy();
      }
    },
    close: async () => {
      const closed = once(listener, 'close');
      listener.close();
      for (const { client } of pairs) client.destroy();
      await closed;
    },
  };
}

const PIECE = 4_096;

/** Passes on what comes; in pieces while they are to be late. */
function trickle(lateMillis: () => number): Transform {
  return new Transform({
    async transform(chunk: Buffer, _encoding, done) {
      for (let start = 0; start < chunk.length; start += PIECE) {
        if (lateMillis() > 0) await pause(lateMillis());
        this.push(chunk.subarray(start, start + PIECE));
      }
      done();
    },
  });
}

function hold({ server, replies }: Pair): void {
  server.unpipe(replies);
  server.pause();
}
