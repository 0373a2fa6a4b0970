import { Cluster, type Redis } from 'ioredis';
import type { ConnectionEvents } from './connection.ts';

/**
 * A connection to a Redis Cluster that fails fast like `connect`: nothing is queued, and nothing is sent again but what a
 * node refused to execute because a slot is elsewhere. A connection that breaks fails what was under way on it.
 *
 * @param urls some of its nodes; the others are learned from them
 */
export function connectCluster(urls: readonly string[], events: ConnectionEvents): Cluster {
  const cluster = new Cluster([...urls], {
    enableAutoPipelining: false,
    enableOfflineQueue: false,
    // 0: a call on a connection that closed may have been executed, it is not sent to another node.
    retryDelayOnFailover: 0,
    retryDelayOnClusterDown: 0,
    clusterRetryStrategy: (attempt) => Math.min(50 * 2 ** Math.min(attempt, 5), 1_000) * (0.8 + 0.4 * Math.random()),
    redisOptions: {
      enableAutoPipelining: false,
      autoResendUnfulfilledCommands: false,
      connectTimeout: 2_000,
      socketTimeout: 5_000,
      keepAlive: 5_000,
      noDelay: true,
    },
  });
  // By default a node is connected to by the first call for it, which fails, as nothing is queued.
  cluster.on('+node', (node: Redis) => {
    if (node.status === 'wait') node.connect().catch(() => undefined);
  });
  let isDown = false;
  const down = (message: string): void => {
    if (isDown) return;
    isDown = true;
    events.onDown(message);
  };
  cluster.on('error', (error: Error) => down(error.message));
  cluster.on('node error', (error: Error) => down(error.message));
  cluster.on('close', () => down('the connections were closed'));
  cluster.on('ready', () => {
    isDown = false;
    events.onReady();
  });
  return cluster;
}
