import { pino } from 'pino';
import { Registry } from 'prom-client';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { DefinitionCheck } from '../../operator/kubernetes/definition-check.ts';
import { type Ops, startOps } from '../../operator/ops.ts';
import type { Snapshot } from '../../operator/snapshot.ts';
import { SCHEMA_NUMBER } from '../../policy/schema/to-crd.ts';
import { readHead } from '../../store/configuration.ts';
import { createNames } from '../../store/names.ts';
import { type Cluster, startCluster } from '../harness/cluster.ts';
import { eventually } from '../harness/eventually.ts';
import { setEndpoints, startTestOperator } from '../harness/operator.ts';
import { type PrivateRedis, privateRedis } from '../harness/redis.ts';

const log = pino({ level: 'silent' });

describe('the snapshot on the ops port', () => {
  let ops: Ops;
  afterEach(() => ops.stop());

  async function serving(snapshot: () => Snapshot | undefined): Promise<string> {
    ops = await startOps({
      host: '127.0.0.1',
      port: 0,
      registry: new Registry(),
      problem: () => undefined,
      warnings: () => ['something to know'],
      snapshot,
    });
    return `http://127.0.0.1:${ops.port}`;
  }

  it('is sent once to whoever has it already, and is a problem while it is not known', async () => {
    let snapshot: Snapshot | undefined;
    const url = await serving(() => snapshot);
    const unknown = await fetch(`${url}/snapshot`);
    expect([unknown.status, unknown.headers.get('content-type')]).toEqual([
      503,
      expect.stringContaining('application/problem+json'),
    ]);
    snapshot = { etag: '"one-3-7"', body: '{"format":1}' };
    const first = await fetch(`${url}/snapshot`);
    expect([first.status, first.headers.get('etag'), await first.json()]).toEqual([200, '"one-3-7"', { format: 1 }]);
    const again = await fetch(`${url}/snapshot`, { headers: { 'if-none-match': '"one-3-7"' } });
    expect([again.status, await again.text()]).toEqual([304, '']);
    snapshot = { etag: '"one-3-8"', body: '{}' };
    expect((await fetch(`${url}/snapshot`, { headers: { 'if-none-match': '"one-3-7"' } })).status).toBe(200);
  });

  it('stands beside a readiness that warns without being unready', async () => {
    const url = await serving(() => undefined);
    const ready = await fetch(`${url}/readyz`);
    expect([ready.status, await ready.json()]).toEqual([200, { status: 'ok', warnings: ['something to know'] }]);
  });
});

describe('with a real API server', { timeout: 120_000 }, () => {
  let cluster: Cluster;
  let redis: PrivateRedis;
  beforeAll(async () => {
    [cluster, redis] = await Promise.all([startCluster(), privateRedis()]);
    await setEndpoints(cluster, []);
  });
  afterAll(async () => {
    await redis.stop();
    await cluster.stop();
  });

  it('definitions that are older, newer or missing are told, each with what to do', async () => {
    const check = new DefinitionCheck(cluster.client, log, 50);
    const { kubectl } = cluster.controlPlane;
    check.start();
    const annotate = (value: string): Promise<string> =>
      kubectl(['annotate', 'crd', 'consumers.sluice.dev', '--overwrite', `sluice.dev/schema=${value}`]);
    expect(check.problems).toEqual([]);
    await annotate(String(SCHEMA_NUMBER - 1));
    await eventually(() =>
      expect(check.problems).toEqual([expect.stringMatching(/consumers.* apply the definitions/)]),
    );
    await annotate(String(SCHEMA_NUMBER + 1));
    await eventually(() => expect(check.problems).toEqual([expect.stringMatching(/consumers.* update the operator/)]));
    await kubectl(['delete', 'crd', 'consumers.sluice.dev']);
    await eventually(() => expect(check.problems).toEqual([expect.stringContaining('is not installed')]));
    await check.stop();
  });

  it('a standby hands out what the leader published, also while Redis is away', async () => {
    // The definition was deleted by the test before.
    await cluster.controlPlane.kubectl(['apply', '-f', 'crds/consumers.yaml']);
    const leader = startTestOperator(cluster, redis);
    await cluster.apply('SystemHealth', 'incident', { mode: 'NORMAL' });
    await eventually(async () =>
      expect((await cluster.get('SystemHealth', 'incident')).status['activeGeneration']).toBe(1),
    );
    const standby = startTestOperator(cluster, redis, {
      leadership: {
        start: () => undefined,
        isHeld: () => false,
        epochAbove: () => Promise.reject(new Error('a standby claims nothing')),
        release: () => Promise.resolve(),
      },
    });
    const head = await readHead(redis.redis, createNames('default'));
    // However many ask, it is one text.
    expect(leader.operator.snapshot()).toBe(leader.operator.snapshot());
    await eventually(() => expect(standby.operator.snapshot()).toEqual(leader.operator.snapshot()), 60_000);
    await redis.stopServer();
    expect(JSON.parse(standby.operator.snapshot()?.body ?? '{}')).toMatchObject({ format: 1, head });
    expect(standby.logged()).not.toContain('"published"');
    await Promise.all([leader.stop(), standby.stop()]);
    await redis.startServer();
  });
});
