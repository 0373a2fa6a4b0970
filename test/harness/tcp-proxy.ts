import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';

export type TcpProxy = {
  readonly port: number;
  /** Connections that are open through it now. */
  readonly connections: number;
  /** Requests still arrive, nothing comes back: neither replies nor the end of a connection. */
  holdReplies(): void;
  /** Lets through what was held, in order. */
  releaseReplies(): void;
  /** Breaks every connection with a reset. */
  reset(): void;
  close(): Promise<void>;
};

type Pair = { readonly client: Socket; readonly server: Socket };

/** Stands between a client and a server on this machine, to do to them what networks do. */
export async function startTcpProxy(targetPort: number): Promise<TcpProxy> {
  const pairs = new Set<Pair>();
  let isHolding = false;
  const listener = createServer((client) => {
    const pair: Pair = { client, server: connect(targetPort, '127.0.0.1') };
    pairs.add(pair);
    client.pipe(pair.server);
    pair.server.pipe(pair.client);
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
      for (const { client, server } of pairs) server.pipe(client);
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

function hold({ client, server }: Pair): void {
  server.unpipe(client);
  server.pause();
}
