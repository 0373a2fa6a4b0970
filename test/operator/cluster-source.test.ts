import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { pino } from 'pino';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ApiClient } from '../../operator/kubernetes/api-client.ts';
import { ClusterSource } from '../../operator/kubernetes/cluster-source.ts';
import { loadKubeConfig } from '../../operator/kubernetes/connection.ts';
import type { SourceChange } from '../../operator/source.ts';
import { type ControlPlane, startControlPlane } from '../control-plane/control-plane.ts';
import { eventually } from '../harness/eventually.ts';

const CRDS = join(import.meta.dirname, '../../crds');

let controlPlane: ControlPlane;
let client: ApiClient;

beforeAll(async () => {
  controlPlane = await startControlPlane();
  const files = readdirSync(CRDS).filter((name) => name.endsWith('.yaml'));
  for (const file of files) await controlPlane.kubectl(['apply', '-f', join(CRDS, file)]);
  await controlPlane.kubectl(['wait', '--for=condition=Established', 'crd', '--all', '--timeout=60s']);
  client = new ApiClient(loadKubeConfig(controlPlane.kubeconfigPath));
});
afterAll(async () => {
  await client.close();
  await controlPlane.stop();
});

async function apply(name: string, tier: string): Promise<void> {
  const object = {
    apiVersion: 'sluice.dev/v1alpha1',
    kind: 'Consumer',
    metadata: { name, namespace: 'default' },
    spec: { tier },
  };
  await controlPlane.kubectl(['apply', '-f', '-'], { stdin: JSON.stringify(object) });
}

/** Its answers to writes come late. */
class SlowClient extends ApiClient {
  beforeAnswer: () => Promise<void> = () => Promise.resolve();

  override async call(...asked: Parameters<ApiClient['call']>): Promise<unknown> {
    const answer = await super.call(...asked);
    if (asked[1]?.method === 'PATCH') await this.beforeAnswer();
    return answer;
  }
}

/** Everything that is there, and a record of what was told. */
async function aSource(asking = client): Promise<{ source: ClusterSource; changes: SourceChange[] }> {
  const source = new ClusterSource({ client: asking, log: pino({ level: 'silent' }) });
  const changes: SourceChange[] = [];
  source.start((change) => changes.push(change));
  await eventually(() => expect(source.hasSynced()).toBe(true));
  return { source, changes };
}

const named = (source: ClusterSource, name: string) =>
  source.list('Consumer').find(({ metadata }) => metadata.name === name);

const status = (observedGeneration: number): object => ({ observedGeneration, conditions: [] });

describe('the resources of a cluster', () => {
  it('are followed from creation over edits to deletion', async () => {
    const { source, changes } = await aSource();
    await apply('followed', 'free');
    await eventually(() =>
      expect(named(source, 'followed')).toMatchObject({ spec: { tier: 'free' }, metadata: { generation: 1 } }),
    );
    await apply('followed', 'pro');
    await eventually(() =>
      expect(named(source, 'followed')).toMatchObject({ spec: { tier: 'pro' }, metadata: { generation: 2 } }),
    );
    await controlPlane.kubectl(['delete', 'consumer', 'followed']);
    await eventually(() => expect(named(source, 'followed')).toBeUndefined());
    expect(changes.filter((change) => change === 'spec').length).toBeGreaterThanOrEqual(3);
    await source.stop();
  });

  it('are given no status that was made from an older spec, and bring the new one by the watch only', async () => {
    await apply('edited', 'free');
    const { source } = await aSource();
    const before = named(source, 'edited');
    await source.stop();
    await apply('edited', 'pro');
    if (before === undefined) throw new Error('the object was not listed');
    expect(await source.writeStatus(before, status(1))).toBe('outdated');
    expect(named(source, 'edited')).toMatchObject({ metadata: { generation: 1 }, spec: { tier: 'free' } });
  });

  it('tell of a status that somebody else has changed', async () => {
    await apply('echoed', 'free');
    const { source, changes } = await aSource();
    const object = named(source, 'echoed');
    if (object === undefined) throw new Error('the object was not listed');
    await source.writeStatus(object, status(1));
    await apply('marker', 'free');
    await eventually(() => expect(named(source, 'marker')).toBeDefined());
    const told = changes.length;
    await controlPlane.kubectl([
      'patch',
      'consumer',
      'echoed',
      '--subresource=status',
      '--type=merge',
      '-p',
      '{"status":{"observedGeneration":7}}',
    ]);
    await eventually(() => expect(changes.slice(told)).toContain('status'));
    await source.stop();
  });

  it('are given their status again where somebody changed it before the answer to the write of it came', async () => {
    await apply('raced', 'free');
    const slow = new SlowClient(loadKubeConfig(controlPlane.kubeconfigPath));
    const { source } = await aSource(slow);
    const write = (generation: number): Promise<string> => {
      const known = named(source, 'raced');
      if (known === undefined) throw new Error('it is not there');
      return source.writeStatus(known, status(generation));
    };
    slow.beforeAnswer = async () => {
      const forged = JSON.stringify({ status: status(77) });
      const patch = ['--subresource=status', '--type=merge', '-p', forged];
      await controlPlane.kubectl(['patch', 'consumer', 'raced', ...patch]);
      await eventually(() => expect(named(source, 'raced')?.status).toMatchObject({ observedGeneration: 77 }));
    };
    expect(await write(1)).toBe('recorded');
    slow.beforeAnswer = () => Promise.resolve();
    expect(await write(2)).toBe('recorded');
    expect(named(source, 'raced')?.status).toMatchObject({ observedGeneration: 2 });
    await source.stop();
    await slow.close();
  });

  it('give a deleted object, or another one of its name, no status', async () => {
    await apply('gone', 'free');
    const { source } = await aSource();
    const object = named(source, 'gone');
    if (object === undefined) throw new Error('the object was not listed');
    await source.stop();
    await controlPlane.kubectl(['delete', 'consumer', 'gone']);
    await source.writeStatus(object, status(1));
    await apply('gone', 'pro');
    expect(await source.writeStatus(object, status(1))).toBe('outdated');
    const stored = await controlPlane.kubectl([
      'get',
      'consumer',
      'gone',
      '-o',
      'jsonpath={.status.observedGeneration}',
    ]);
    expect(stored).toBe('-1');
  });

  it('are followed again by themselves when the API server was away', async () => {
    const { source } = await aSource();
    await controlPlane.stopApiServer();
    await controlPlane.startApiServer();
    await apply('late', 'free');
    await eventually(() => expect(named(source, 'late')).toBeDefined(), 60_000);
    await source.stop();
  });
});
