import { afterAll, beforeAll, expect, it } from 'vitest';
import { startTestLimiter, targetOn, type TestLimiter, untilRevision } from '../harness/limiter.ts';
import { aPolicy, publishEntries } from '../harness/publish.ts';
import { type PrivateRedis, privateRedis } from '../harness/redis.ts';
import { type Backend, type Gateway, startBackend, startGateway } from './gateway.ts';
import { findEnvoy } from './programs.ts';

/** As docs/integrations/README.md has it, and where the limit comes from. */
const LIMIT = `limit:
                                  dynamic_metadata: { metadata_key: { key: sluice.limit, path: [{ key: per-client }] } }
                                actions:`;
const SET_LIMIT = `http_filters:
                  - name: envoy.filters.http.set_metadata
                    typed_config:
                      '@type': type.googleapis.com/envoy.extensions.filters.http.set_metadata.v3.Config
                      metadata:
                        - metadata_namespace: sluice.limit
                          value: { per-client: { requests_per_unit: 3, unit: HOUR } }`;

let server: PrivateRedis;
let limiter: TestLimiter;
let backend: Backend;
let gateway: Gateway;

beforeAll(async () => {
  server = await privateRedis();
  backend = await startBackend();
  const limits = [{ windowSeconds: 3_600, requests: 1 }];
  await publishEntries(targetOn(server), [
    aPolicy({
      domain: 'payments',
      rules: [{ name: 'per-consumer', countBy: ['consumer'], algorithm: 'TokenBucket', limits }],
    }),
  ]);
  limiter = await startTestLimiter({ redisUrl: server.url });
  await untilRevision(limiter, 1);
  const port = (address: string): string => address.split(':')[1] ?? '';
  gateway = await startGateway({
    program: await findEnvoy(),
    files: ['envoy-rls.yaml'],
    replacements: [
      [/address: sluice-limiter, port_value: 8081/, `address: 127.0.0.1, port_value: ${port(limiter.grpcAddress)}`],
      [/address: app, port_value: 8080/, `address: 127.0.0.1, port_value: ${backend.port}`],
      ['timeout: 0.1s', 'timeout: 10s'],
      ['actions:', LIMIT],
      ['http_filters:', SET_LIMIT],
    ],
    args: (configuration) => ['-c', configuration, '--concurrency', '1', '--use-dynamic-base-id', '-l', 'warning'],
  });
});
afterAll(async () => {
  await gateway.stop();
  await limiter.stop();
  await backend.stop();
  await server.stop();
});

it('counts by the limit that Envoy takes from its dynamic metadata, and Envoy tells it to clients', async () => {
  const answers = [];
  for (let i = 0; i < 4; i += 1) answers.push(await fetch(`${gateway.url}/v1/items`));
  expect(answers.map(({ status }) => status)).toEqual([200, 200, 200, 429]);
  expect(answers.map(({ headers }) => headers.get('x-ratelimit-remaining'))).toEqual(['2', '1', '0', '0']);
  expect(answers[0]?.headers.get('x-ratelimit-limit')).toBe('3, 3;w=3600;name="limit-per-hour"');
  expect(Number(answers[3]?.headers.get('retry-after'))).toBeGreaterThan(0);
});
