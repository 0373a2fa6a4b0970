import { join } from 'node:path';
import { freePort } from '../test/harness/redis.ts';
import { type ServerProcess, startServer } from './server-process.ts';
import type { WorldName } from './worlds.ts';

const HOST = '127.0.0.1';

/** Under which the API keys of the callers are kept. */
export const PEPPER = 'of the benchmark only';

/** Far above any answer: a pause of a busy machine must not turn decisions into the failure policy's. */
const REDIS_DEADLINE_MILLIS = 5_000;

export type Server = {
  readonly process: ServerProcess;
  readonly port: number;
  /** Of the limiter. */
  readonly grpcPort: number | undefined;
  readonly metricsUrl: string;
};

type ServerSpec = {
  readonly kind: 'bare' | 'evalsha' | 'limiter';
  /** Of a limiter: the installation whose configuration it enforces. */
  readonly world?: WorldName;
  readonly redisDelayMillis?: number;
};

export const SERVERS: Readonly<Record<ServerName, ServerSpec>> = {
  bare: { kind: 'bare' },
  evalsha: { kind: 'evalsha' },
  'evalsha-1ms': { kind: 'evalsha', redisDelayMillis: 1 },
  'evalsha-5ms': { kind: 'evalsha', redisDelayMillis: 5 },
  limiter: { kind: 'limiter', world: 'few' },
  'limiter-2': { kind: 'limiter', world: 'few' },
  'limiter-3': { kind: 'limiter', world: 'few' },
  'limiter-4': { kind: 'limiter', world: 'few' },
  'limiter-1ms': { kind: 'limiter', world: 'few', redisDelayMillis: 1 },
  'limiter-5ms': { kind: 'limiter', world: 'few', redisDelayMillis: 5 },
  'limiter-domains': { kind: 'limiter', world: 'domains' },
  'limiter-one-domain': { kind: 'limiter', world: 'one-domain' },
  'limiter-hundred': { kind: 'limiter', world: 'hundred' },
};

export type ServerName =
  | 'bare'
  | 'evalsha'
  | `evalsha-${1 | 5}ms`
  | 'limiter'
  | `limiter-${2 | 3 | 4}`
  | `limiter-${1 | 5}ms`
  | `limiter-${Exclude<WorldName, 'few'>}`;

export async function startFloor(name: 'bare' | 'evalsha', redisUrl: string, signal: AbortSignal): Promise<Server> {
  const port = await freePort();
  const metricsUrl = `http://${HOST}:${port}/metrics`;
  const spec = {
    name: `the server "${name}"`,
    args: [join(import.meta.dirname, 'servers', `${name}.ts`)],
    env: { PORT: String(port), REDIS_URL: redisUrl },
    readyUrl: metricsUrl,
  };
  return { process: await startServer(spec, signal), port, grpcPort: undefined, metricsUrl };
}

export async function startLimiter(
  { pod, world, redisUrl }: { readonly pod: string; readonly world: WorldName; readonly redisUrl: string },
  signal: AbortSignal,
): Promise<Server> {
  const [port, opsPort, grpcPort] = [await freePort(), await freePort(), await freePort()];
  const settings = {
    'redis-url': redisUrl,
    installation: world,
    owner: world,
    pepper: PEPPER,
    'log-level': 'warn',
    host: HOST,
    port,
    'ops-port': opsPort,
    'grpc-port': grpcPort,
    'pod-name': pod,
    'drain-ms': 0,
    'redis-deadline-ms': REDIS_DEADLINE_MILLIS,
  };
  const opsUrl = `http://${HOST}:${opsPort}`;
  const spec = {
    name: `the limiter "${pod}"`,
    args: [
      join(import.meta.dirname, '../cli/main.ts'),
      'limiter',
      ...Object.entries(settings).flatMap(([flag, value]) => [`--${flag}`, String(value)]),
    ],
    env: {},
    readyUrl: `${opsUrl}/readyz`,
  };
  return { process: await startServer(spec, signal), port, grpcPort, metricsUrl: `${opsUrl}/metrics` };
}
