// envoyproxy/ratelimit, where $RIVAL_RATELIMIT names its program: Envoy's own rate limit service, on the same Redis, asked
// the same by the same sender. It counts in fixed windows, by INCRBY and EXPIRE.
import { mkdtemp, mkdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { freePort } from '../test/harness/redis.ts';
import { type ServerProcess, startServer } from './server-process.ts';

const HOST = '127.0.0.1';

export type RivalServer = {
  readonly process: ServerProcess;
  readonly port: number;
  readonly grpcPort: number;
  readonly metricsUrl: string;
};

/** As many in a minute for each consumer as our rule admits. */
const CONFIGURATION = `domain: bench.one-rule
descriptors:
- key: consumer
  rate_limit: {unit: minute, requests_per_unit: 6000000}
`;

/** @param flushMicros what its manual calls REDIS_PIPELINE_WINDOW; 0 is its default, 150 to 500 its advice */
export async function startRival(
  { name, redisUrl, flushMicros }: { readonly name: string; readonly redisUrl: string; readonly flushMicros: number },
  signal: AbortSignal,
): Promise<RivalServer> {
  const program = process.env['RIVAL_RATELIMIT'];
  if (program === undefined) throw new TypeError('RIVAL_RATELIMIT must name the program of envoyproxy/ratelimit');
  const [port, grpcPort, debugPort, metricsPort] = [
    await freePort(),
    await freePort(),
    await freePort(),
    await freePort(),
  ];
  const folder = await mkdtemp(join(tmpdir(), 'sluice-bench-'));
  await mkdir(join(folder, 'config'));
  await writeFile(join(folder, 'config', 'one-rule.yaml'), CONFIGURATION);
  const env = {
    HOST,
    PORT: String(port),
    GRPC_HOST: HOST,
    GRPC_PORT: String(grpcPort),
    DEBUG_HOST: HOST,
    DEBUG_PORT: String(debugPort),
    RUNTIME_ROOT: folder,
    RUNTIME_WATCH_ROOT: 'false',
    REDIS_SOCKET_TYPE: 'tcp',
    REDIS_URL: new URL(redisUrl).host,
    REDIS_PIPELINE_WINDOW: `${flushMicros}us`,
    USE_STATSD: 'false',
    USE_PROMETHEUS: 'true',
    PROMETHEUS_ADDR: `${HOST}:${metricsPort}`,
    LOG_LEVEL: 'error',
  };
  const spec = { name: `the server "${name}"`, program, args: [], env, readyUrl: `http://${HOST}:${port}/healthcheck` };
  const server = await startServer(spec, signal);
  const stop = async (): Promise<void> => {
    await server.stop();
    await rm(folder, { recursive: true, force: true });
  };
  return { process: { ...server, stop }, port, grpcPort, metricsUrl: `http://${HOST}:${metricsPort}/metrics` };
}
