import { join } from 'node:path';
import { freePort } from '../test/harness/redis.ts';
import { type ServerProcess, startServer } from './server-process.ts';
import type { Store, StoreName } from './stores.ts';
import type { WorldName } from './worlds.ts';

const HOST = '127.0.0.1';

/** Under which the API keys of the callers are kept. */
export const PEPPER = 'of the benchmark only';

/** Far above any answer: a pause of a busy machine must not turn decisions into the failure policy's. */
const REDIS_DEADLINE_MILLIS = 5_000;

export type Server = {
  readonly process: ServerProcess;
  readonly port: number;
  /** Of those that speak gRPC. */
  readonly grpcPort: number | undefined;
  readonly metricsUrl: string;
  /** Where it counts; undefined if it does not. */
  readonly store: Store | undefined;
};

/** The files in servers/: what one would write without us, and the application that uses our middleware. */
type Program = 'bare' | 'evalsha' | 'express-bare' | 'express-evalsha' | 'express-sluice';

export type ServerSpec =
  | { readonly program: 'bare' | 'express-bare' }
  | { readonly program: 'evalsha' | 'express-evalsha'; readonly store: Where }
  | { readonly program: 'express-sluice'; readonly limiter: ServerName }
  /** envoyproxy/ratelimit, which writes to Redis at once (0) or so many microseconds later. */
  | { readonly flushMicros: number; readonly store: Where }
  /** A limiter that enforces the configuration of this installation. */
  | { readonly world: WorldName; readonly store: Where };

type Where = { readonly name: StoreName; readonly delayMillis?: number };

const MAIN: Where = { name: 'main' };

export const SERVERS: Readonly<Record<ServerName, ServerSpec>> = {
  bare: { program: 'bare' },
  evalsha: { program: 'evalsha', store: MAIN },
  'evalsha-1ms': { program: 'evalsha', store: { name: 'main', delayMillis: 1 } },
  'evalsha-5ms': { program: 'evalsha', store: { name: 'main', delayMillis: 5 } },
  'evalsha-cluster': { program: 'evalsha', store: { name: 'cluster' } },
  'express-bare': { program: 'express-bare' },
  'express-evalsha': { program: 'express-evalsha', store: MAIN },
  'express-sluice': { program: 'express-sluice', limiter: 'limiter' },
  'envoy-ratelimit': { flushMicros: 0, store: MAIN },
  'envoy-ratelimit-tuned': { flushMicros: 150, store: MAIN },
  limiter: { world: 'few', store: MAIN },
  'limiter-2': { world: 'few', store: MAIN },
  'limiter-3': { world: 'few', store: MAIN },
  'limiter-4': { world: 'few', store: MAIN },
  'limiter-1ms': { world: 'few', store: { name: 'main', delayMillis: 1 } },
  'limiter-5ms': { world: 'few', store: { name: 'main', delayMillis: 5 } },
  'limiter-domains': { world: 'domains', store: MAIN },
  'limiter-one-domain': { world: 'one-domain', store: MAIN },
  'limiter-million': { world: 'million', store: { name: 'million' } },
  'limiter-cluster': { world: 'partitions', store: { name: 'cluster' } },
};

export type ServerName =
  | Program
  | `evalsha-${1 | 5}ms`
  | 'evalsha-cluster'
  | `envoy-ratelimit${'' | '-tuned'}`
  | 'limiter'
  | `limiter-${2 | 3 | 4}`
  | `limiter-${1 | 5}ms`
  | `limiter-${'domains' | 'one-domain' | 'million' | 'cluster'}`;

/** Of the programs in servers/. `env` says where their Redis is, or their limiter. */
export async function startProgram(
  { name, program, env }: { readonly name: string; readonly program: Program; readonly env: Record<string, string> },
  signal: AbortSignal,
): Promise<Omit<Server, 'store'>> {
  const port = await freePort();
  const metricsUrl = `http://${HOST}:${port}/metrics`;
  const spec = {
    name: `the server "${name}"`,
    args: [join(import.meta.dirname, 'servers', `${program}.ts`)],
    env: { ...env, PORT: String(port) },
    readyUrl: metricsUrl,
  };
  return { process: await startServer(spec, signal), port, grpcPort: undefined, metricsUrl };
}

/** As the image starts it, in a container with the 512 MiB that the chart allows: 384 are 75 % of them. */
const NODE_FLAGS = ['--max-semi-space-size=16', '--max-old-space-size=384'];

type LimiterSpec = {
  /** What image/assemble.ts puts together: what is measured is what is delivered. */
  readonly folder: string;
  readonly pod: string;
  readonly world: WorldName;
  readonly redisUrl: string;
};

export async function startLimiter(
  { folder, pod, world, redisUrl }: LimiterSpec,
  signal: AbortSignal,
): Promise<Omit<Server, 'store'>> {
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
      ...NODE_FLAGS,
      join(folder, 'dist/cli/main.js'),
      'limiter',
      ...Object.entries(settings).flatMap(([flag, value]) => [`--${flag}`, String(value)]),
    ],
    env: {},
    readyUrl: `${opsUrl}/readyz`,
  };
  return { process: await startServer(spec, signal), port, grpcPort, metricsUrl: `${opsUrl}/metrics` };
}
