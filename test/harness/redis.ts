import { createServer } from 'node:net';
import { Redis } from 'ioredis';
import { findRedisServer, type RedisProcess, startRedis } from '../../cli/dev/find-redis.ts';

export type PrivateRedis = {
  readonly url: string;
  readonly port: number;
  /** A connection for the test itself. */
  readonly redis: Redis;
  /** Stops the server; the port stays reserved for `start`. */
  stopServer(): Promise<void>;
  startServer(): Promise<void>;
  stop(): Promise<void>;
};

/** A redis-server of this test's own, on a free port, without persistence. */
export async function privateRedis(args: readonly string[] = []): Promise<PrivateRedis> {
  const server = await findRedisServer();
  const port = await freePort();
  let running: RedisProcess = await startRedis(server, { port, args });
  const redis = new Redis(running.url, { retryStrategy: () => 50 });
  redis.on('error', () => undefined);
  return {
    url: running.url,
    port,
    redis,
    stopServer: () => running.stop(),
    startServer: async () => {
      running = await startRedis(server, { port, args });
    },
    stop: async () => {
      redis.disconnect();
      await running.stop();
    },
  };
}

/** Below the ports from which systems take the local ends of connections: between here and its use nobody takes it. */
const PORTS = { first: 10_000, count: 22_000 } as const;

export async function freePort(): Promise<number> {
  for (;;) {
    const port = PORTS.first + Math.floor(Math.random() * PORTS.count);
    if (await canListen(port)) return port;
  }
}

function canListen(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once('error', () => resolve(false));
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)));
  });
}
