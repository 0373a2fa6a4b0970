// The folder that becomes /app of the image, as a whole: it is the same each time, and has what each role needs.
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Client, credentials } from '@grpc/grpc-js';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { assemble, NODE_OPTIONS } from '../../image/assemble.ts';
import { startControlPlane } from '../control-plane/control-plane.ts';
import { installCrds } from '../harness/cluster.ts';
import { eventually } from '../harness/eventually.ts';
import { OWNER, PEPPER, targetOn } from '../harness/limiter.ts';
import { type SluiceProcess, startSluice } from '../harness/processes.ts';
import { aPolicy, publishEntries } from '../harness/publish.ts';
import { freePort, type PrivateRedis, privateRedis } from '../harness/redis.ts';

const folder = mkdtempSync(join(tmpdir(), 'sluice-image-'));
const app = join(folder, 'app');
let redis: PrivateRedis;
const running: SluiceProcess[] = [];

beforeAll(async () => {
  await assemble(app);
  redis = await privateRedis();
});
afterAll(async () => {
  await Promise.all(running.map((one) => one.stop()));
  await redis.stop();
  rmSync(folder, { recursive: true });
});

const read = (file: string): string => readFileSync(join(import.meta.dirname, '../..', file), 'utf8');

const filesOf = (root: string): string[] =>
  readdirSync(root, { recursive: true, encoding: 'utf8' })
    .filter((file) => statSync(join(root, file)).isFile())
    .toSorted();

/** Starts a role from the image's files alone. */
function start(args: readonly string[], env: Readonly<Record<string, string>> = {}): SluiceProcess {
  const settings = {
    SLUICE_REDIS_URL: redis.url,
    SLUICE_OWNER: OWNER,
    SLUICE_PEPPER: PEPPER,
    SLUICE_HOST: '127.0.0.1',
    NODE_OPTIONS,
  };
  const started = startSluice(args, { ...settings, ...env }, join(app, 'dist/cli/main.js'));
  running.push(started);
  return started;
}

async function untilReady(started: SluiceProcess, port: number): Promise<string> {
  return eventually(async () => {
    const answer = await fetch(`http://127.0.0.1:${port}/readyz`).catch((error: unknown) => {
      throw new Error(`${String(error)}\n${started.output()}`);
    });
    if (answer.status !== 200) throw new Error(`${answer.status} ${await answer.text()}\n${started.output()}`);
    return answer.text();
  }, 60_000);
}

/** The names of services that gRPC reflection lists, read without its library: they are text in the answer. */
async function reflect(port: number): Promise<string> {
  const client = new Client(`127.0.0.1:${port}`, credentials.createInsecure());
  const bytes = (message: Buffer): Buffer => message;
  const path = '/grpc.reflection.v1.ServerReflection/ServerReflectionInfo';
  const call = client.makeBidiStreamRequest(path, bytes, bytes);
  // list_services: "*", field 7.
  call.write(Buffer.from([0x3a, 0x01, 0x2a]));
  try {
    for await (const message of call) return String(message);
    return '';
  } finally {
    call.cancel();
    client.close();
  }
}

describe('what the image starts', () => {
  it('is the same in the Dockerfile and in the images for the local cluster', () => {
    const entrypoint = '["node", "/app/dist/cli/main.js"]';
    expect(read('Dockerfile')).toContain(`\nENTRYPOINT ${entrypoint}\n`);
    expect(read('Dockerfile')).toContain(` NODE_OPTIONS="${NODE_OPTIONS}" `);
    expect(read('test/cluster/run')).toContain(`--entrypoint '${entrypoint}'`);
    expect(read('test/cluster/run')).toContain(`--env 'NODE_OPTIONS=${NODE_OPTIONS}'`);
  });

  it('leaves it to NODE_OPTIONS how large the heap may be', () => {
    const [, entrypoint = '[]'] = /^ENTRYPOINT (.*)$/m.exec(read('Dockerfile')) ?? [];
    const flags = z.array(z.string()).parse(JSON.parse(entrypoint)).slice(1, -1);
    const env = { ...process.env, NODE_OPTIONS: '--max-old-space-size=128' };
    const heapWith = (given: readonly string[]): string =>
      execFileSync(process.execPath, [...given, '--print', 'v8.getHeapStatistics().heap_size_limit'], {
        env,
        encoding: 'utf8',
      });
    expect(heapWith(flags)).toBe(heapWith([]));
  });
});

describe('the files of the image', () => {
  it('are the same each time that they are made', async () => {
    const again = join(folder, 'again');
    await assemble(again);
    const digests = (root: string): string[] =>
      filesOf(root).map(
        (file) =>
          `${file} ${createHash('sha256')
            .update(readFileSync(join(root, file)))
            .digest('hex')}`,
      );
    expect(digests(again)).toEqual(digests(app));
  });

  it('name each package that is in them, with its licence', () => {
    const { version } = JSON.parse(readFileSync(join(app, 'node_modules/express/package.json'), 'utf8'));
    expect(version).toMatch(/^5\./);
    expect(existsSync(join(app, 'node_modules/express/LICENSE'))).toBe(true);
    // Its code is in the bundle.
    expect(existsSync(join(app, 'node_modules/express/lib'))).toBe(false);
  });

  it('are few, and know nothing of where they were made', () => {
    const files = filesOf(app);
    const bytes = files.reduce((sum, file) => sum + statSync(join(app, file)).size, 0);
    expect(bytes).toBeLessThan(16_000_000);
    const root = join(import.meta.dirname, '../..');
    expect(files.filter((file) => readFileSync(join(app, file), 'latin1').includes(root))).toEqual([]);
  });
});

describe('from the files of the image', () => {
  it('a limiter decides, describes itself, and answers reflection', async () => {
    const limits = [{ windowSeconds: 60, requests: 1 }];
    const rule = { name: 'one', countBy: ['consumer' as const], algorithm: 'TokenBucket' as const, limits };
    await publishEntries(targetOn(redis), [aPolicy({ domain: 'payments', rules: [rule] })]);
    const [port, opsPort, grpcPort] = [await freePort(), await freePort(), await freePort()];
    const ports = { SLUICE_PORT: `${port}`, SLUICE_OPS_PORT: `${opsPort}`, SLUICE_GRPC_PORT: `${grpcPort}` };
    // A slow machine is not to be taken for a slow Redis.
    await untilReady(start(['limiter'], { ...ports, SLUICE_REDIS_DEADLINE_MS: '10000' }), opsPort);
    const body = JSON.stringify({ domain: 'payments', consumer: 'alice' });
    const check = async (): Promise<unknown> =>
      (await fetch(`http://127.0.0.1:${port}/v1/decision/check`, { method: 'POST', body })).json();
    expect([await check(), await check()]).toMatchObject([{ action: 'ALLOW' }, { action: 'THROTTLE' }]);
    for (const path of ['/docs/', '/docs/swagger-ui-bundle.js', '/openapi.json', '/metrics']) {
      expect([path, (await fetch(`http://127.0.0.1:${opsPort}${path}`)).status]).toEqual([path, 200]);
    }
    expect(await reflect(grpcPort)).toContain('envoy.service.ratelimit.v3.RateLimitService');
  });

  it('an operator follows the resources of a cluster', async () => {
    await using controlPlane = await startControlPlane();
    await installCrds(controlPlane);
    const opsPort = await freePort();
    const env = {
      KUBECONFIG: controlPlane.kubeconfigPath,
      SLUICE_POD_NAMESPACE: 'default',
      SLUICE_POD_NAME: 'operator-a',
    };
    const operator = start(['operator'], { ...env, SLUICE_OPS_PORT: `${opsPort}` });
    expect(await untilReady(operator, opsPort)).toContain('ok');
    await operator.stop();
  });
});
