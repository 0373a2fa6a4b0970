import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { PEPPER, startTestLimiter, targetOn, type TestLimiter, untilRevision } from '../harness/limiter.ts';
import { aPolicy, publishEntries, publishKeys } from '../harness/publish.ts';
import { type PrivateRedis, privateRedis } from '../harness/redis.ts';
import { parseList } from '../harness/structured-fields.ts';
import { type Backend, type Gateway, type GatewaySpec, startBackend, startGateway } from './gateway.ts';
import { findEnvoy, findGateway, findTraefik } from './programs.ts';

type Named = {
  readonly name: string;
  readonly spec: (addresses: { http: string; grpc: string; app: string }) => Promise<GatewaySpec>;
  /** What it says to clients on allowed requests. */
  readonly saysOnAllowed: readonly string[];
  /** What it answers when the limiter is gone. */
  readonly whenGone?: number;
};

const port = (address: string): string => address.split(':')[1] ?? '';

const envoyWith = (file: string, name: string, saysOnAllowed: readonly string[]): Named => ({
  name,
  saysOnAllowed,
  spec: async ({ http, grpc, app }) => ({
    program: await findEnvoy(),
    files: [file],
    replacements: [
      [/address: sluice-limiter, port_value: 8080/, `address: 127.0.0.1, port_value: ${port(http)}`],
      [/address: sluice-limiter, port_value: 8081/, `address: 127.0.0.1, port_value: ${port(grpc)}`],
      [/address: app, port_value: 8080/, `address: 127.0.0.1, port_value: ${port(app)}`],
      ['timeout: 0.1s', 'timeout: 10s'],
    ],
    args: (configuration) => ['-c', configuration, '--concurrency', '1', '--use-dynamic-base-id', '-l', 'warning'],
  }),
});

const traefik = await findTraefik();

/** It gives clients no header of the limiter with an allowed answer, and lets nothing through without the limiter. */
const TRAEFIK: readonly Named[] =
  traefik === undefined
    ? []
    : [
        {
          name: 'Traefik',
          saysOnAllowed: [],
          whenGone: 500,
          spec: async ({ http, app }) => ({
            program: traefik,
            files: ['traefik-dynamic.yaml'],
            replacements: [
              ['sluice-limiter:8080', http],
              ['app:8080', app],
            ],
            args: (configuration, _folder, listenOn) => [
              `--providers.file.filename=${configuration}`,
              `--entryPoints.web.address=127.0.0.1:${listenOn}`,
              '--global.checkNewVersion=false',
              '--global.sendAnonymousUsage=false',
            ],
          }),
        },
      ];

// Only addresses, ports and time-outs (a slow machine is no dead limiter) are not as documented.
const GATEWAYS: readonly Named[] = [
  {
    name: 'nginx',
    saysOnAllowed: ['ratelimit', 'ratelimit-policy'],
    spec: async ({ http, app }) => ({
      program: await findGateway('nginx'),
      files: ['nginx.conf'],
      replacements: [
        ['sluice-limiter:8080', http],
        ['app:8080', app],
        ['listen 8000', 'listen 127.0.0.1:8000'],
        ['proxy_connect_timeout 50ms', 'proxy_connect_timeout 10s'],
        ['proxy_read_timeout 100ms', 'proxy_read_timeout 10s'],
        [
          'http {\n',
          `http {\n${['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((kind) => `${kind}_temp_path FOLDER/${kind};`).join('\n')}\naccess_log off;\n`,
        ],
      ],
      args: (configuration, folder) => [
        '-c',
        configuration,
        '-p',
        folder,
        '-e',
        'stderr',
        '-g',
        `daemon off; pid ${folder}/pid; worker_processes 1;${process.getuid?.() === 0 ? ' user root;' : ''}`,
      ],
    }),
  },
  {
    name: 'HAProxy',
    saysOnAllowed: ['ratelimit', 'ratelimit-policy'],
    spec: async ({ http, app }) => ({
      program: await findGateway('haproxy'),
      files: ['haproxy.cfg', 'haproxy-sluice.lua'],
      replacements: [
        ['sluice-limiter:8080', http],
        ['app:8080', app],
        ['bind :8000', 'bind 127.0.0.1:8000'],
        ['TIMEOUT_MILLIS = 100', 'TIMEOUT_MILLIS = 10000'],
      ],
      args: (configuration) => ['-db', '-f', configuration],
    }),
  },
  envoyWith('envoy-rls.yaml', 'Envoy (rate limit filter)', [
    'ratelimit',
    'ratelimit-policy',
    'x-ratelimit-limit',
    'x-ratelimit-remaining',
  ]),
  envoyWith('envoy-ext-authz.yaml', 'Envoy (ext_authz)', ['ratelimit', 'ratelimit-policy', 'x-ratelimit-limit']),
  ...TRAEFIK,
];

let server: PrivateRedis;
let backend: Backend;
beforeAll(async () => {
  server = await privateRedis();
  backend = await startBackend();
  const bucket = { algorithm: 'TokenBucket' } as const;
  await publishEntries(targetOn(server), [
    aPolicy({
      domain: 'payments',
      rules: [
        {
          ...bucket,
          name: 'reads',
          match: { methods: ['GET'], paths: [{ type: 'Prefix', value: '/v1' }] },
          countBy: ['consumer'],
          limits: [{ windowSeconds: 3_600, requests: 2 }],
        },
        {
          ...bucket,
          name: 'writes',
          match: { methods: ['POST'], paths: [{ type: 'Prefix', value: '/v1/pay' }] },
          countBy: ['consumer'],
          limits: [{ windowSeconds: 3_600, requests: 1 }],
        },
      ],
    }),
  ]);
  const keys = GATEWAYS.flatMap(({ name }) => [`key-of-${name}`, `writer-of-${name}`]);
  await publishKeys(
    targetOn(server),
    keys.map((key) => ({ key, consumer: key.replaceAll(/[^a-z]/gi, '') })),
    PEPPER,
  );
});
afterAll(async () => {
  await backend.stop();
  await server.stop();
});

describe.each(GATEWAYS)('$name', ({ name, spec, saysOnAllowed, whenGone = 200 }) => {
  let limiter: TestLimiter;
  let gateway: Gateway;
  beforeAll(async () => {
    limiter = await startTestLimiter({ redisUrl: server.url, pod: name.toLowerCase().replaceAll(/[^a-z]/g, '') });
    await untilRevision(limiter, 1);
    const http = new URL(limiter.url).host;
    gateway = await startGateway(await spec({ http, grpc: limiter.grpcAddress, app: `127.0.0.1:${backend.port}` }));
  });
  afterAll(async () => {
    await gateway.stop();
    await limiter.stop();
  });

  const ask = (path: string, init: RequestInit & { key?: string } = {}): Promise<Response> => {
    const { key, ...rest } = init;
    const headers = new Headers(rest.headers);
    if (key !== undefined) headers.set('x-api-key', key);
    return fetch(`${gateway.url}${path}`, { ...rest, headers });
  };

  it('lets allowed requests through as they are, and denies with 429 and Retry-After', async () => {
    const key = `key-of-${name}`;
    const first = await ask('/v1/items?page=2', { key });
    expect([first.status, await first.text()]).toEqual([200, 'hello from the application']);
    expect(backend.seen).toContain('GET /v1/items?page=2');
    expect(saysOnAllowed.filter((header) => !first.headers.has(header))).toEqual([]);
    for (const header of saysOnAllowed.filter((one) => one.startsWith('ratelimit'))) {
      expect(parseList(first.headers.get(header) ?? '').map(({ value }) => value)).toEqual(['reads']);
    }
    expect((await ask('/v1/items', { key })).status).toBe(200);
    const reached = backend.seen.length;
    const denied = await ask('/v1/items', { key });
    expect(denied.status).toBe(429);
    expect(Number(denied.headers.get('retry-after'))).toBeGreaterThan(0);
    expect(parseList(denied.headers.get('ratelimit') ?? '')[0]?.parameters.get('r')).toBe(0);
    expect(backend.seen.length).toBe(reached);
  });

  it('tells the limiter method and path, whatever the client claims', async () => {
    const key = `writer-of-${name}`;
    const claims = { 'x-forwarded-uri': '/v2/free', 'x-forwarded-method': 'GET' };
    expect((await ask('/v1/pay?x=/v2', { method: 'POST', key })).status).toBe(200);
    expect((await ask('/v1/pay', { method: 'POST', key, headers: claims })).status).toBe(429);
    // Another method and another path are not this rule's.
    expect((await ask('/v2/pay', { method: 'POST', key })).status).toBe(200);
    expect((await ask('/v1/pay', { method: 'GET', key })).status).toBe(200);
  });

  it('turns an invalid key away', async () => {
    const reached = backend.seen.length;
    const { status } = await ask('/v1/items', { key: 'not-a-key' });
    // The rate limit filter knows one status for all denials.
    expect(status).toBe(name.includes('rate limit filter') ? 429 : 401);
    expect(backend.seen.length).toBe(reached);
  });

  it('does not let a broken path by', async () => {
    const reached = backend.seen.length;
    const { status } = await ask('/v1/%00', { key: `key-of-${name}` });
    expect(status).toBeGreaterThanOrEqual(400);
    expect(status).toBeLessThan(500);
    expect(backend.seen.length).toBe(reached);
  });

  it('does what is documented when the limiter is gone', async () => {
    await limiter.stop();
    expect((await ask('/v1/items', { key: `key-of-${name}` })).status).toBe(whenGone);
  });
});
