import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { type ControlPlane, startControlPlane } from '../control-plane/control-plane.ts';
import { eventually } from './eventually.ts';
import { type SluiceProcess, startSluice } from './processes.ts';
import { freePort, type PrivateRedis, privateRedis } from './redis.ts';

const CRDS = join(import.meta.dirname, '../../crds');
const PEPPER = 'a pepper that is only for tests';

export type LimiterProcess = {
  readonly process: SluiceProcess;
  readonly url: string;
  readonly opsUrl: string;
  readonly name: string;
};

/** Sluice on a real API server and a real Redis, each part a process of its own. */
export type Installation = {
  readonly controlPlane: ControlPlane;
  readonly redis: PrivateRedis;
  /** Further arguments come after those that every operator gets. */
  startOperator(args?: readonly string[], env?: Readonly<Record<string, string>>): SluiceProcess;
  startLimiter(name: string): Promise<LimiterProcess>;
  stop(): Promise<void>;
};

export async function install(): Promise<Installation> {
  const [controlPlane, redis] = await Promise.all([startControlPlane(), privateRedis()]);
  const started: SluiceProcess[] = [];
  for (const file of readdirSync(CRDS).filter((name) => name.endsWith('.yaml'))) {
    await controlPlane.kubectl(['apply', '-f', join(CRDS, file)]);
  }
  await controlPlane.kubectl(['wait', '--for=condition=Established', 'crd', '--all', '--timeout=60s']);
  const shared = { SLUICE_REDIS_URL: redis.url, SLUICE_PEPPER: PEPPER };
  return {
    controlPlane,
    redis,
    startOperator: (args = [], env = {}) => {
      // A short lease: the operators of these tests are killed, and the next one has to wait for its end.
      const own = ['--kubeconfig', controlPlane.kubeconfigPath, '--lease-seconds', '6'];
      const ports = ['--host', '127.0.0.1', '--ops-port', '0'];
      const operator = startSluice(['operator', ...own, ...ports, ...args], { ...shared, ...env });
      started.push(operator);
      return operator;
    },
    startLimiter: async (name) => {
      const [port, grpcPort, opsPort] = [await freePort(), await freePort(), await freePort()];
      const ports = ['--host', '127.0.0.1', '--port', String(port), '--ops-port', String(opsPort)];
      ports.push('--grpc-port', String(grpcPort), '--drain-ms', '0');
      const limiter = startSluice(['limiter', '--pod-name', name, ...ports], shared);
      started.push(limiter);
      return { process: limiter, name, url: `http://127.0.0.1:${port}`, opsUrl: `http://127.0.0.1:${opsPort}` };
    },
    stop: async () => {
      await Promise.all(started.map((process) => process.stop()));
      await redis.stop();
      await controlPlane.stop();
    },
  };
}

export async function untilReady(limiter: LimiterProcess): Promise<void> {
  await eventually(async () => {
    const response = await fetch(`${limiter.opsUrl}/readyz`);
    if (response.status !== 200) throw new Error(`${limiter.name} is not ready: ${await response.text()}`);
  });
}
