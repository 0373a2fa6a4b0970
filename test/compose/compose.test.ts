import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { limiterOptions } from '../../cli/settings/limiter.ts';
import { operatorOptions } from '../../cli/settings/operator.ts';
import { eventually } from '../harness/eventually.ts';
import { type SluiceProcess, startSluice } from '../harness/processes.ts';
import { freePort, type PrivateRedis, privateRedis } from '../harness/redis.ts';

const ROOT = join(import.meta.dirname, '../..');

type Service = {
  readonly image: string;
  readonly command?: readonly string[];
  readonly environment?: Readonly<Record<string, string>>;
  readonly depends_on?: Readonly<Record<string, unknown>>;
  readonly configs?: readonly { readonly source: string }[];
  readonly healthcheck?: { readonly test: readonly string[] };
};
type Compose = {
  readonly services: Readonly<Record<string, Service>>;
  readonly configs: Readonly<Record<string, { readonly content: string }>>;
};

// Compose is not here to judge the file: this runs the processes that it declares, with their own words.
const compose = parse(readFileSync(join(ROOT, 'compose.yaml'), 'utf8'), { merge: true }) as Compose;
const services = Object.entries(compose.services);
const ours = services.filter(([, { image }]) => image === 'sluice:dev');

let redis: PrivateRedis;
const running = new Map<string, { process: SluiceProcess; port: number; opsPort: number }>();

/** The words of the file, with the names of the other services as they are reached from here. */
function here(text: string): string {
  const limiter = `http://127.0.0.1:${running.get('limiter-1')?.port ?? 0}`;
  return text
    .replace('redis://redis:6379', redis.url)
    .replace('http://balancer:80', limiter)
    .replace('/resources', join(ROOT, 'examples/dev'))
    .replace(/^\$\{SLUICE_PEPPER:-(.*)\}$/, '$1');
}

async function start(name: string, service: Service): Promise<void> {
  const [port, opsPort, grpcPort] = [await freePort(), await freePort(), await freePort()];
  const environment = Object.entries(service.environment ?? {}).map(([key, value]) => [key, here(value)]);
  const numbers = { SLUICE_PORT: port, SLUICE_OPS_PORT: opsPort, SLUICE_GRPC_PORT: grpcPort };
  const ports = Object.fromEntries(Object.entries(numbers).map(([key, value]) => [key, String(value)]));
  const process = startSluice((service.command ?? []).map(here), {
    ...Object.fromEntries(environment),
    ...ports,
    SLUICE_HOST: '127.0.0.1',
  });
  running.set(name, { process, port, opsPort });
}

beforeAll(async () => {
  redis = await privateRedis();
  for (const [name, service] of ours) await start(name, service);
});
afterAll(async () => {
  await Promise.all([...running.values()].map(({ process }) => process.stop()));
  await redis.stop();
});

const portOf = (name: string): number => running.get(name)?.port ?? 0;

describe('compose.yaml', () => {
  it('declares Redis, the operator, two limiters, a load balancer and the demo application', () => {
    expect(Object.keys(compose.services)).toEqual(['redis', 'operator', 'limiter-1', 'limiter-2', 'balancer', 'demo']);
    expect(ours.map(([name]) => name)).toEqual(['operator', 'limiter-1', 'limiter-2', 'demo']);
  });

  it('names only services and configurations that it declares', () => {
    for (const [, service] of services) {
      for (const name of Object.keys(service.depends_on ?? {})) expect(compose.services).toHaveProperty([name]);
      for (const { source } of service.configs ?? []) expect(compose.configs).toHaveProperty([source]);
    }
    const upstreams = compose.configs['balancer']?.content.match(/server (\S+):8080;/g);
    expect(upstreams).toEqual(['server limiter-1:8080;', 'server limiter-2:8080;']);
  });

  it('lets limiters start from the operator while Redis is away', () => {
    for (const name of ['limiter-1', 'limiter-2']) {
      const url = new URL(compose.services[name]?.environment?.['SLUICE_SNAPSHOT_URL'] ?? '');
      expect(compose.services).toHaveProperty([url.hostname]);
      expect([url.hostname, url.port, url.pathname]).toEqual(['operator', '9090', '/snapshot']);
    }
  });

  it('sets only variables that the programs read', () => {
    const known = new Set([...operatorOptions(), ...limiterOptions()].map(({ envVar }) => envVar));
    known.add('SLUICE_LIMITERS');
    for (const [, { environment }] of ours) {
      expect(Object.keys(environment ?? {}).filter((name) => !known.has(name))).toEqual([]);
    }
  });

  it('gets limiters ready, as its own probes see it', async () => {
    for (const name of ['operator', 'limiter-1', 'limiter-2']) {
      const probe = compose.services[name]?.healthcheck?.test.join(' ');
      expect(probe).toContain('127.0.0.1:9090/readyz');
      await eventually(async () => {
        const { status } = await fetch(`http://127.0.0.1:${running.get(name)?.opsPort}/readyz`);
        if (status !== 200) throw new Error(`${name}: ${running.get(name)?.process.output()}`);
      });
    }
  });

  it('limits the demo application by the files in examples/dev', async () => {
    const statuses: number[] = [];
    await eventually(async () => {
      const { status } = await fetch(`http://127.0.0.1:${portOf('demo')}/health`);
      expect(status).toBe(200);
    });
    for (let i = 0; i < 12; i += 1) statuses.push((await fetch(`http://127.0.0.1:${portOf('demo')}/api/data`)).status);
    expect(statuses.filter((status) => status === 200)).toHaveLength(10);
    expect(statuses.filter((status) => status === 429)).toHaveLength(2);
    const body = JSON.stringify({ identifier: 'test-client', tier: 'free' });
    const check = await fetch(`http://127.0.0.1:${portOf('limiter-2')}/check`, { method: 'POST', body });
    expect(await check.json()).toMatchObject({ allowed: true, limit: 20 });
  });
});

describe('what is wrong with the settings of these programs', () => {
  const failing = async (args: string[]): Promise<string> => {
    const process = startSluice(args, { SLUICE_PEPPER: 'a pepper that is long enough' });
    expect(await process.exited()).toBe(2);
    return process.output();
  };

  it.each([
    [['operator', '--resources', '/nowhere'], '--resources (SLUICE_RESOURCES) "/nowhere": must be a directory'],
    [['demo', '--port', 'many'], '--port (SLUICE_PORT) "many": must be a whole number from 0 to 65535'],
    [['demo', '--limiters', 'http://a,b'], '--limiters (SLUICE_LIMITERS) "b": must be http:// or https://'],
  ])('is said: %j', async (args, message) => {
    expect(await failing(args)).toContain(message);
  });
});
