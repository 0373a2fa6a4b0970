// Measures how long the roles take from the start of their process to the first 200 of /readyz, from the files of the
// image: `node bench/start.ts`; RUNS (7) repeats it, APP=FOLDER measures a folder that image/assemble.ts made before.
// The limiter finds its configuration in Redis, the operator a real API server. Nothing here asserts a time. Processor
// time is the figure to compare: unlike the time of the clock it is not that of the neighbours. Linux only.
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { assemble } from '../image/assemble.ts';
import { startControlPlane } from '../test/control-plane/control-plane.ts';
import { installCrds } from '../test/harness/cluster.ts';
import { OWNER, PEPPER, targetOn } from '../test/harness/limiter.ts';
import { startSluice } from '../test/harness/processes.ts';
import { aPolicy, publishEntries } from '../test/harness/publish.ts';
import { freePort, privateRedis } from '../test/harness/redis.ts';
import { positive } from './settings.ts';
import { table } from './table.ts';

const LOOK_MILLIS = 2;
/** Of /proc/PID/stat, on every Linux that Node runs on. */
const TICK_MILLIS = 10;

type Start = { readonly wallMillis: number; readonly cpuMillis: number; readonly peakMebibytes: number };

async function measure(main: string, role: string, env: Readonly<Record<string, string>>): Promise<Start> {
  const opsPort = await freePort();
  const ports = { SLUICE_PORT: `${await freePort()}`, SLUICE_GRPC_PORT: `${await freePort()}` };
  const began = performance.now();
  const started = startSluice(
    [role],
    { ...env, ...ports, SLUICE_OPS_PORT: `${opsPort}`, NODE_ENV: 'production' },
    main,
  );
  try {
    while ((await statusOf(opsPort)) !== 200) {
      if (performance.now() - began > 120_000) throw new Error(`${role} does not become ready:\n${started.output()}`);
      await pause(LOOK_MILLIS);
    }
    const wallMillis = performance.now() - began;
    return { wallMillis, ...(await usageOf(started.pid)) };
  } finally {
    await started.kill();
  }
}

const statusOf = (port: number): Promise<number> =>
  fetch(`http://127.0.0.1:${port}/readyz`).then(
    async (answer) => {
      await answer.text();
      return answer.status;
    },
    () => 0,
  );

async function usageOf(pid: number): Promise<Omit<Start, 'wallMillis'>> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8');
  const status = await readFile(`/proc/${pid}/status`, 'utf8');
  // After the name, which may hold anything, in parentheses: user and system time are the 12th and 13th.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  const peakKibibytes = Number(/VmHWM:\s+(\d+)/.exec(status)?.[1]);
  return { cpuMillis: (Number(fields[11]) + Number(fields[12])) * TICK_MILLIS, peakMebibytes: peakKibibytes / 1_024 };
}

async function series(times: number, once: () => Promise<Start>): Promise<Start[]> {
  const starts: Start[] = [];
  for (let time = 0; time < times; time += 1) starts.push(await once());
  return starts;
}

function row(role: string, starts: readonly Start[]): string[] {
  const of = (pick: (start: Start) => number): string => {
    const sorted = starts.map(pick).toSorted((a, b) => a - b);
    return `${Math.round(sorted[Math.floor(sorted.length / 2)] ?? NaN)} (${Math.round(sorted[0] ?? NaN)})`;
  };
  return [role, of((start) => start.wallMillis), of((start) => start.cpuMillis), of((start) => start.peakMebibytes)];
}

async function compare(): Promise<void> {
  const runs = positive('RUNS', process.env['RUNS'], 7, 1_000);
  const folder = await mkdtemp(join(tmpdir(), 'sluice-start-'));
  const app = process.env['APP'] ?? join(folder, 'app');
  if (process.env['APP'] === undefined) await assemble(app);
  const main = join(app, 'dist/cli/main.js');
  const redis = await privateRedis();
  await using controlPlane = await startControlPlane();
  try {
    await installCrds(controlPlane);
    const limits = [{ windowSeconds: 60, requests: 10 }];
    const rule = { name: 'one', countBy: ['consumer' as const], algorithm: 'TokenBucket' as const, limits };
    await publishEntries(targetOn(redis), [aPolicy({ domain: 'payments', rules: [rule] })]);
    const env = { SLUICE_REDIS_URL: redis.url, SLUICE_OWNER: OWNER, SLUICE_PEPPER: PEPPER, SLUICE_HOST: '127.0.0.1' };
    const cluster = { KUBECONFIG: controlPlane.kubeconfigPath, SLUICE_POD_NAMESPACE: 'default' };
    const limiters = await series(runs, () => measure(main, 'limiter', env));
    const operators = await series(runs, () => measure(main, 'operator', { ...env, ...cluster }));
    const head = ['role', 'ms to ready: median (least)', 'ms of processor time', 'peak MiB'];
    console.log(table(head, [row('limiter', limiters), row('operator', operators)]));
  } finally {
    await redis.stop();
    await rm(folder, { recursive: true });
  }
}

await compare();
