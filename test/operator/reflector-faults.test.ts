import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { Registry } from 'prom-client';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { ApiClient } from '../../operator/kubernetes/api-client.ts';
import { loadKubeConfig } from '../../operator/kubernetes/connection.ts';
import { ClusterSource } from '../../operator/kubernetes/cluster-source.ts';
import { Reflector, type ReflectorTimes } from '../../operator/kubernetes/reflector.ts';
import { WatchMetrics } from '../../operator/metrics/cluster.ts';
import { allKinds } from '../../policy/schema/kinds.ts';
import { type ApiProxy, kubeConfigFor, refuse, startApiProxy } from '../harness/api-proxy.ts';
import { type Cluster, startCluster } from '../harness/cluster.ts';
import { eventually } from '../harness/eventually.ts';
import { startTcpProxy, type TcpProxy } from '../harness/tcp-proxy.ts';

const TIMES: Partial<ReflectorTimes> = { firstBackOffMillis: 20, longestBackOffMillis: 500, listMillis: 3_000 };
const WATCH = /watch=true/;
const CONSUMERS = /\/consumers\?/;

let cluster: Cluster;
let http: ApiProxy;
let tcp: TcpProxy;
beforeAll(async () => {
  cluster = await startCluster();
});
afterAll(() => cluster.stop());

let client: ApiClient;
let source: ClusterSource;
let registry: Registry;
beforeEach(async () => {
  http = await startApiProxy(cluster.controlPlane);
  tcp = await startTcpProxy(http.port);
  registry = new Registry();
});
afterEach(async () => {
  http.intervene(undefined);
  tcp.releaseReplies();
  await source.stop();
  await client.close();
  await tcp.close();
  await http.close();
});

async function follow(times: Partial<ReflectorTimes> = {}, user = {}): Promise<void> {
  client = new ApiClient(kubeConfigFor(tcp.port, user));
  source = new ClusterSource({
    client,
    log: pino({ level: 'silent' }),
    observer: new WatchMetrics(registry),
    times: { ...TIMES, ...times },
  });
  source.start(() => undefined);
  await eventually(() => expect(source.hasSynced()).toBe(true));
}

async function restarts(reason: string): Promise<number> {
  const metric = await registry.getSingleMetric('sluice_watch_restarts_total')?.get();
  const found = metric?.values.filter(({ labels }) => labels['reason'] === reason) ?? [];
  return found.reduce((sum, { value }) => sum + value, 0);
}

const names = (): string[] =>
  source
    .list('Consumer')
    .map(({ metadata }) => metadata.name)
    .toSorted();

/** What is known is exactly what is there, after something was created and something deleted. */
async function isUpToDate(label: string): Promise<void> {
  await cluster.apply('Consumer', label, { tier: 'free' });
  for (const { metadata } of await cluster.list('Consumer')) {
    if (metadata.name !== label) await cluster.remove('Consumer', metadata.name);
  }
  await eventually(() => expect(names()).toEqual([label]), 60_000);
}

type Answer = (request: IncomingMessage, response: ServerResponse) => 'answered';

/** The next `times` requests that match are answered like this. */
function answerNext(pattern: RegExp, times: number, answer: Answer): () => boolean {
  let left = times;
  http.intervene((request, response) => {
    if (left === 0 || !pattern.test(request.url ?? '')) return undefined;
    left -= 1;
    return answer(request, response);
  });
  return () => left === 0;
}

const watchError =
  (code: number, reason: string): Answer =>
  (_request, response) => {
    response.writeHead(200, { 'content-type': 'application/json' });
    response.end(
      `${JSON.stringify({ type: 'ERROR', object: { kind: 'Status', code, reason, message: 'of the test' } })}\n`,
    );
    return 'answered';
  };

describe('what is followed is right again, without a restart, after', () => {
  it.each<[string, string, number, Answer]>([
    [
      'the server has forgotten the version',
      'expired',
      3,
      (_, response) => refuse(response, 410, { reason: 'Expired' }),
    ],
    ['the server says so in the watch', 'expired', 3, watchError(410, 'Expired')],
    ['another error in the watch', 'server', 3, watchError(500, 'InternalError')],
    ['errors of the server', 'server', 5, (_, response) => refuse(response, 500)],
    ['a forbidden watch', 'forbidden', 4, (_, response) => refuse(response, 403, { reason: 'Forbidden' })],
    ['too many requests', 'throttled', 3, (_, response) => refuse(response, 429, { headers: { 'retry-after': '1' } })],
    [
      'an answer that is no JSON',
      'other',
      2,
      (_, response) => {
        response.writeHead(200);
        response.end('<html>\n');
        return 'answered';
      },
    ],
  ])(
    '%s',
    async (_fault, reason, times, answer) => {
      await follow();
      // One that was not yet under way would be answered, and reset before the answer arrives.
      await eventually(() => expect(http.count(WATCH)).toBeGreaterThanOrEqual(allKinds.length));
      const isOver = answerNext(WATCH, times, answer);
      tcp.reset();
      await eventually(() => expect(isOver()).toBe(true), 60_000);
      await isUpToDate(`after-${reason}`);
      // The answer may still be on its way to another watch than the one that is up to date.
      await eventually(async () => expect(await restarts(reason)).toBeGreaterThan(0));
    },
    120_000,
  );

  it('every connection was reset', async () => {
    await follow();
    tcp.reset();
    await isUpToDate('reset');
    tcp.reset();
    await isUpToDate('reset-again');
    expect(await restarts('connection')).toBeGreaterThan(0);
  });

  it('connections died half-open, in which nothing ever comes again', async () => {
    await follow({ silenceMillis: 1_000 });
    tcp.holdReplies();
    await cluster.apply('Consumer', 'unheard', { tier: 'free' });
    await eventually(async () => expect(await restarts('silence')).toBeGreaterThan(0));
    tcp.releaseReplies();
    tcp.reset();
    await isUpToDate('half-open');
  });

  it('a network on which everything comes late and in pieces, and is reset in the middle', async () => {
    tcp.slowDown(50);
    await follow();
    await isUpToDate('slow');
    tcp.reset();
    await isUpToDate('slow-again');
    tcp.slowDown(0);
    expect(await restarts('connection')).toBeGreaterThan(0);
  });

  it('long silence, which is no failure', async () => {
    await follow({ silenceMillis: 300 });
    const lists = http.count(/limit=500/);
    await eventually(async () => expect(await restarts('silence')).toBeGreaterThan(5));
    await isUpToDate('silence');
    expect(http.count(/limit=500/)).toBe(lists);
  });

  it('the server ended every watch in good order', async () => {
    await follow({ watchSeconds: [1, 2] });
    await eventually(async () => expect(await restarts('ended')).toBeGreaterThan(3), 60_000);
    await isUpToDate('ended');
  });

  it('objects were deleted while nothing could be heard, by a new list', async () => {
    await cluster.apply('Consumer', 'doomed', { tier: 'free' });
    await follow();
    expect(names()).toContain('doomed');
    http.intervene((request, response) => (CONSUMERS.test(request.url ?? '') ? refuse(response, 503) : undefined));
    tcp.reset();
    await eventually(async () => expect(await restarts('server')).toBeGreaterThan(1));
    await cluster.remove('Consumer', 'doomed');
    answerNext(WATCH, 3, watchError(410, 'Expired'));
    await eventually(() => expect(names()).not.toContain('doomed'), 60_000);
  });

  it('a restart of the API server', async () => {
    await follow();
    await cluster.controlPlane.stopApiServer();
    await cluster.controlPlane.startApiServer();
    await isUpToDate('restarted');
  }, 120_000);
});

describe('whoever is told of changes', () => {
  it('may fail: that is counted, and what comes next is told all the same', async () => {
    await follow();
    const before = await cluster.list('Consumer');
    const told: string[] = [];
    const ownRegistry = new Registry();
    const fail = (what: string): void => {
      told.push(what);
      throw new Error('a mistake of the test');
    };
    const reflector = new Reflector(
      client,
      { name: 'told', path: '/apis/sluice.dev/v1alpha1/consumers' },
      {
        onList: (objects) => fail(`${objects.length} listed`),
        onChange: ({ metadata }) => fail(metadata.name),
        onDelete: () => undefined,
      },
      { log: pino({ level: 'silent' }), times: TIMES, observer: new WatchMetrics(ownRegistry) },
    );
    reflector.start();
    await eventually(() => expect(reflector.hasSynced).toBe(true));
    for (const name of ['told-first', 'told-second']) await cluster.apply('Consumer', name, { tier: 'free' });
    await eventually(() => expect(told).toEqual([`${before.length} listed`, 'told-first', 'told-second']));
    expect(await ownRegistry.metrics()).toContain('sluice_watch_handler_errors_total{resource="told"} 3');
    await reflector.stop();
  });
});

describe('without anybody in between, what is followed is right again after', { timeout: 180_000 }, () => {
  /** Straight to the API server, with the kubeconfig of its administrator. */
  async function followDirectly(): Promise<void> {
    client = new ApiClient(loadKubeConfig(cluster.controlPlane.kubeconfigPath));
    source = new ClusterSource({
      client,
      log: pino({ level: 'silent' }),
      observer: new WatchMetrics(registry),
      times: TIMES,
    });
    source.start(() => undefined);
    await eventually(() => expect(source.hasSynced()).toBe(true));
  }

  it('etcd was compacted: the API server itself has forgotten the version', async () => {
    await cluster.apply('Consumer', 'doomed', { tier: 'free' });
    await follow();
    expect(names()).toContain('doomed');
    http.intervene((_request, response) => refuse(response, 503));
    tcp.reset();
    await cluster.remove('Consumer', 'doomed');
    await cluster.apply('Consumer', 'unheard', { tier: 'free' });
    // What it has in memory would do: it is started anew, and finds only what etcd still knows.
    await cluster.controlPlane.stopApiServer();
    await cluster.controlPlane.startApiServer();
    await cluster.controlPlane.compact();
    const before = await restarts('expired');
    http.intervene(undefined);
    await eventually(() => expect(names()).toContain('unheard'), 60_000);
    expect(names()).not.toContain('doomed');
    expect(await restarts('expired')).toBeGreaterThan(before);
  });

  it('the API server has got another certificate, by another authority', async () => {
    await followDirectly();
    const { caPath } = cluster.controlPlane;
    const before = readFileSync(caPath, 'utf8');
    await cluster.controlPlane.stopApiServer();
    await cluster.controlPlane.rotateCertificate();
    await cluster.controlPlane.startApiServer();
    expect(readFileSync(caPath, 'utf8')).not.toBe(before);
    // The one pool of the client knew the old authority: all its connections, and new ones too.
    const answer = await client.call('/api/v1/namespaces/default');
    expect(answer).toMatchObject({ kind: 'Namespace' });
    await isUpToDate('other-authority');
  });
});

describe('credentials', () => {
  it('are read anew when the server refuses those that are known, so that a rotation is not noticed', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'sluice-token-'));
    const tokenFile = join(folder, 'token');
    writeFileSync(tokenFile, 'first\n');
    let accepted = 'first';
    let refused = 0;
    http.intervene((request, response) => {
      if (request.headers.authorization === `Bearer ${accepted}`) return undefined;
      refused += 1;
      return refuse(response, 401, { reason: 'Unauthorized' });
    });
    await follow({}, { authProvider: { name: 'tokenFile', config: { tokenFile } } });
    writeFileSync(tokenFile, 'second\n');
    accepted = 'second';
    const answer = await client.call('/api/v1/namespaces/default');
    expect(answer).toMatchObject({ kind: 'Namespace' });
    expect(refused).toBeGreaterThan(0);
    // While the file is behind, it goes on trying.
    accepted = 'third';
    tcp.reset();
    await eventually(async () => expect(await restarts('unauthorized')).toBeGreaterThan(0));
    writeFileSync(tokenFile, 'third\n');
    await isUpToDate('rotated');
    rmSync(folder, { recursive: true });
  });
});
