import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';

export type FarRedis = { readonly port: number; close(): Promise<void> };

/**
 * Stands before a Redis and holds every reply back for so many milliseconds, without holding up those behind it: a
 * longer way, not a narrower one.
 */
export async function startFarRedis(redisPort: number, delayMillis: number): Promise<FarRedis> {
  const clients = new Set<Socket>();
  const listener = createServer((client) => {
    const server = connect(redisPort, '127.0.0.1').setNoDelay(true);
    clients.add(client.setNoDelay(true));
    client.pipe(server);
    server.on('data', (chunk: Buffer) => void setTimeout(() => client.writable && client.write(chunk), delayMillis));
    const drop = (): void => {
      clients.delete(client);
      client.destroy();
      server.destroy();
    };
    for (const socket of [client, server]) socket.once('close', drop).on('error', drop);
  });
  listener.listen(0, '127.0.0.1');
  await once(listener, 'listening');
  const address = listener.address();
  if (typeof address !== 'object' || address === null) throw new Error('the far Redis has no port');
  return {
    port: address.port,
    close: async () => {
      const closed = once(listener, 'close');
      listener.close();
      for (const client of clients) client.destroy();
      await closed;
    },
  };
}
