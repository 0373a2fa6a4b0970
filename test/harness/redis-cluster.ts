import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { eventually } from './eventually.ts';
import { freePort, type PrivateRedis, privateRedis } from './redis.ts';

export type PrivateCluster = {
  readonly nodes: readonly PrivateRedis[];
  readonly urls: readonly string[];
  stop(): Promise<void>;
};

const SLOTS = 16_384;

/** A Redis Cluster of masters on this machine, each with an equal part of the slots. */
export async function privateCluster(size = 3): Promise<PrivateCluster> {
  const folder = await mkdtemp(join(tmpdir(), 'sluice-cluster-'));
  const started = await Promise.all(Array.from({ length: size }, (_, i) => startNode(folder, i)));
  const nodes = started.map(({ node }) => node);
  await Promise.all(
    nodes.map(({ redis }, i) => {
      const [first, last] = [Math.floor((i * SLOTS) / size), Math.floor(((i + 1) * SLOTS) / size) - 1];
      return redis.call('CLUSTER', 'ADDSLOTSRANGE', first, last);
    }),
  );
  const [first] = nodes;
  for (const { node, busPort } of started.slice(1)) {
    await first?.redis.call('CLUSTER', 'MEET', '127.0.0.1', node.port, busPort);
  }
  await eventually(async () => {
    for (const { redis } of nodes) {
      const info = String(await redis.call('CLUSTER', 'INFO'));
      if (!info.includes('cluster_state:ok') || !info.includes(`cluster_known_nodes:${size}`)) throw new Error(info);
    }
  });
  return {
    nodes,
    urls: nodes.map(({ url }) => url),
    stop: async () => {
      await Promise.all(nodes.map((node) => node.stop()));
      await rm(folder, { recursive: true, force: true });
    },
  };
}

async function startNode(folder: string, index: number): Promise<{ node: PrivateRedis; busPort: number }> {
  // By default the bus is 10,000 ports above, which may be no port at all.
  const busPort = await freePort();
  const flags = ['--cluster-enabled', 'yes', '--cluster-port', String(busPort), '--dir', folder];
  const node = await privateRedis([...flags, '--cluster-config-file', `nodes-${index}.conf`]);
  return { node, busPort };
}
