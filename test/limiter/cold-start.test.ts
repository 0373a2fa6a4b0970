import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readManifest, readDocuments, readHead } from '../../store/configuration.ts';
import { eventually } from '../harness/eventually.ts';
import { get, OWNER, startTestLimiter, targetOn, type TestLimiter, untilRevision } from '../harness/limiter.ts';
import { aPolicy, publishEntries } from '../harness/publish.ts';
import { type PrivateRedis, privateRedis } from '../harness/redis.ts';

type HandedOut = { format: number; head: Record<string, unknown>; documents: Record<string, string> };

let server: PrivateRedis;
let operator: Server;
let url: string;
/** What the operator's endpoint answers; its form is held by the operator's own tests. */
let handsOut: { status: number; body: string };
let configuration: HandedOut;

beforeAll(async () => {
  server = await privateRedis();
  const target = targetOn(server);
  const rule = {
    countBy: ['consumer' as const],
    algorithm: 'TokenBucket' as const,
    limits: [{ windowSeconds: 3_600, requests: 4 }],
  };
  await publishEntries(target, [
    aPolicy({ domain: 'payments', rules: [{ ...rule, name: 'local', failurePolicy: 'LocalFallback' }] }),
    aPolicy({ domain: 'payments.closed', rules: [{ ...rule, name: 'closed', failurePolicy: 'Closed' }] }, 'closed'),
  ]);
  const head = await readHead(server.redis, target.names);
  if (head === undefined) throw new Error('nothing was published');
  const { entries, parts } = await readManifest(server.redis, target.names, head.manifest);
  const names = [...parts, ...[...entries.values()].map(({ document }) => document)];
  const documents = Object.fromEntries(await readDocuments(server.redis, target.names, names));
  configuration = { format: 1, head: { ...head }, documents };
  operator = createServer((_request, response) => {
    response.statusCode = handsOut.status;
    response.end(handsOut.body);
  });
  operator.listen(0, '127.0.0.1');
  await once(operator, 'listening');
  const address = operator.address();
  url = `http://127.0.0.1:${typeof address === 'object' && address !== null ? address.port : 0}/snapshot`;
  await server.stopServer();
});
afterAll(async () => {
  operator.close();
  await server.stop();
});

const start = (pod: string): Promise<TestLimiter> =>
  startTestLimiter({ redisUrl: server.url, pod, snapshotUrl: url, redisDeadlineMillis: 300 });

describe('a limiter that starts while Redis is away', () => {
  it('is ready with what the operator hands out, its failure policies active, and follows Redis when it is back', async () => {
    handsOut = { status: 200, body: JSON.stringify(configuration) };
    const limiter = await start('pod-a');
    await untilRevision(limiter, 1);
    expect((await get(`${limiter.url}/health`)).body).toMatchObject({ status: 'ok', redis: 'unreachable' });
    const decided = (domain: string) => limiter.check({ domain, consumer: 'alice' });
    expect((await decided('payments')).body).toMatchObject({ action: 'ALLOW', reason: 'LOCAL_FALLBACK' });
    // Of how many pods there are it knows nothing: it takes the least.
    expect((await decided('payments')).body).toMatchObject({ action: 'THROTTLE', reason: 'LOCAL_FALLBACK_EXCEEDED' });
    expect((await decided('payments.closed')).body).toMatchObject({ action: 'THROTTLE', reason: 'FAIL_CLOSED' });
    await server.startServer();
    await publishEntries(targetOn(server), [
      aPolicy(
        {
          domain: 'payments.new',
          rules: [
            {
              name: 'all',
              countBy: ['global'],
              algorithm: 'TokenBucket',
              limits: [{ windowSeconds: 60, requests: 9 }],
            },
          ],
        },
        'new',
      ),
    ]);
    await eventually(async () => {
      const { body } = await limiter.check({ domain: 'payments.new', mode: 'peek' });
      expect(body).toMatchObject({ reason: 'WITHIN_LIMIT', limit: 9 });
    });
    expect((await get(`${limiter.opsUrl}/readyz`)).status).toBe(200);
    await limiter.stop();
    await server.stopServer();
  });

  it.each<[string, () => { status: number; body: string }, string]>([
    ['nothing', () => ({ status: 503, body: '' }), 'the operator answered 503'],
    ['no JSON', () => ({ status: 200, body: '<html>' }), 'JSON'],
    [
      'somebody else’s configuration',
      () => ({
        status: 200,
        body: JSON.stringify({ ...configuration, head: { ...configuration.head, owner: 'other' } }),
      }),
      `the operator configures "other", not "${OWNER}"`,
    ],
    ['a part of it', () => ({ status: 200, body: JSON.stringify({ ...configuration, documents: {} }) }), 'is missing'],
    [
      'what was damaged',
      () => {
        const documents = Object.entries(configuration.documents).map(([name, text]) => [name, `${text} `]);
        return { status: 200, body: JSON.stringify({ ...configuration, documents: Object.fromEntries(documents) }) };
      },
      'is not what its name says',
    ],
  ])('is not ready with %s, says why, and looks again', async (_title, answer, why) => {
    handsOut = answer();
    const limiter = await start('pod-b');
    await eventually(async () => {
      const { status, body } = await get(`${limiter.opsUrl}/readyz`);
      expect(status).toBe(503);
      expect(body['problem']).toContain(why);
    });
    handsOut = { status: 200, body: JSON.stringify(configuration) };
    await untilRevision(limiter, 1);
    await limiter.stop();
  });
});
