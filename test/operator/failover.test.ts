import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Head, readHead } from '../../store/configuration.ts';
import { createNames } from '../../store/names.ts';
import { eventually } from '../harness/eventually.ts';
import { install, type Installation } from '../harness/installation.ts';
import type { SluiceProcess } from '../harness/processes.ts';

const names = createNames('default');
/** A process has to start, and a busy machine takes its time. */
const START_MILLIS = 90_000;

let world: Installation;
beforeAll(async () => {
  world = await install();
});
afterAll(() => world.stop());

type Running = { readonly process: SluiceProcess; readonly url: string };

async function anOperator(): Promise<Running> {
  const process = world.startOperator();
  const port = await eventually(() => {
    const found = /"ops_port":(\d+)/.exec(process.output())?.[1];
    if (found === undefined) throw new Error(`it has not started: ${process.output()}`);
    return found;
  }, START_MILLIS);
  const url = `http://127.0.0.1:${port}`;
  await eventually(async () => expect((await fetch(`${url}/readyz`)).status).toBe(200), START_MILLIS);
  return { process, url };
}

async function metric({ url }: Running, series: string): Promise<number> {
  const text = await (await fetch(`${url}/metrics`)).text();
  const line = text.split('\n').find((candidate) => candidate.startsWith(`${series} `));
  return Number(line?.slice(series.length));
}

const isLeader = async (operator: Running): Promise<boolean> =>
  (await metric(operator, 'leader_election_master_status{name="sluice-operator-default"}')) === 1;

const untilLeader = (operator: Running): Promise<void> =>
  eventually(async () => expect(await isLeader(operator)).toBe(true), 60_000);

async function head(): Promise<Head | undefined> {
  return readHead(world.redis.redis, names);
}

async function apply(requests: number): Promise<void> {
  const limits = [{ windowSeconds: 60, requests }];
  const policy = {
    apiVersion: 'sluice.dev/v1alpha1',
    kind: 'RateLimitPolicy',
    metadata: { name: 'policy', namespace: 'default' },
    spec: { rules: [{ name: 'all', countBy: ['consumer'], algorithm: 'TokenBucket', limits }] },
  };
  await world.controlPlane.kubectl(['apply', '-f', '-'], { stdin: JSON.stringify(policy) });
}

const activeGeneration = (): Promise<string> =>
  world.controlPlane.kubectl(['get', 'ratelimitpolicy', 'policy', '-o', 'jsonpath={.status.activeGeneration}']);

describe('several operators of one installation', { timeout: 180_000 }, () => {
  let leader: Running;
  let standby: Running;

  it('have one leader, and standbys that are ready and write nothing', async () => {
    leader = await anOperator();
    await untilLeader(leader);
    standby = await anOperator();
    await apply(10);
    await eventually(async () => expect(await activeGeneration()).toBe('1'));
    expect(await isLeader(standby)).toBe(false);
    expect(standby.process.output()).not.toContain('"published"');
    expect((await head())?.epoch).toBe(1);
  });

  it('go on with the next one when the leader is killed', async () => {
    await leader.process.kill();
    await untilLeader(standby);
    leader = standby;
    await apply(20);
    await eventually(async () => expect(await activeGeneration()).toBe('2'));
    expect((await head())?.epoch).toBe(2);
  });

  it('never overwrite what is newer when a leader wakes up that was stopped for long', async () => {
    const paused = leader;
    leader = await anOperator();
    process.kill(paused.process.pid, 'SIGSTOP');
    await apply(30);
    await untilLeader(leader);
    await eventually(async () => expect(await activeGeneration()).toBe('3'));
    const newest = await head();
    expect(newest?.epoch).toBe(3);
    process.kill(paused.process.pid, 'SIGCONT');
    expect(await paused.process.exited()).toBe(1);
    expect(await head()).toEqual(newest);
    expect(await activeGeneration()).toBe('3');
  });

  it('end with 0 when they are asked to, and leave the lease to the next one at once', async () => {
    expect(await leader.process.stop()).toBe(0);
    const holder = await world.controlPlane.kubectl([
      'get',
      'lease',
      'sluice-operator-default',
      '-o',
      'jsonpath={.spec.holderIdentity}/{.spec.leaseTransitions}',
    ]);
    expect(holder).toBe('/3');
  });

  it('start above an epoch that is in Redis already, also when the lease was lost', async () => {
    await world.controlPlane.kubectl(['delete', 'lease', 'sluice-operator-default']);
    leader = await anOperator();
    await untilLeader(leader);
    await eventually(async () => expect((await head())?.epoch).toBe(4));
  });
});

describe('an operator that is asked to stop', { timeout: 180_000 }, () => {
  it('ends with 0 within 10 seconds although neither Redis nor the API server answers', async () => {
    const operator = await anOperator();
    await world.controlPlane.stopApiServer();
    await world.redis.stopServer();
    const startedAtMillis = performance.now();
    expect(await operator.process.stop()).toBe(0);
    expect(performance.now() - startedAtMillis).toBeLessThan(10_000);
    await world.redis.startServer();
    await world.controlPlane.startApiServer();
  });
});

describe('the ops port', { timeout: 180_000 }, () => {
  it('is alive but not ready until everything has been read, and has every series from the start', async () => {
    await world.controlPlane.stopApiServer();
    const process = world.startOperator();
    const port = await eventually(() => /"ops_port":(\d+)/.exec(process.output())?.[1] ?? Promise.reject(new Error()));
    const operator = { process, url: `http://127.0.0.1:${port}` };
    expect((await fetch(`${operator.url}/livez`)).status).toBe(200);
    const unready = await fetch(`${operator.url}/readyz`);
    expect([unready.status, await unready.json()]).toEqual([503, expect.objectContaining({ status: 'starting' })]);
    for (const series of [
      'controller_runtime_reconcile_total{controller="configuration",result="error"}',
      'controller_runtime_reconcile_errors_total{controller="status"}',
      'workqueue_depth{name="configuration",controller="configuration"}',
      'workqueue_retries_total{name="status",controller="status"}',
      'leader_election_master_status{name="sluice-operator-default"}',
      'sluice_watch_restarts_total{resource="ratelimitpolicies",reason="expired"}',
      'sluice_publish_total{result="success"}',
      'sluice_objects{kind="RateLimitPolicy",condition="Enforced",status="False"}',
      'sluice_limiter_pods{revision="none"}',
      'sluice_published_revision',
    ]) {
      expect([series, await metric(operator, series)]).toEqual([series, 0]);
    }
    await world.controlPlane.startApiServer();
    await eventually(async () => expect((await fetch(`${operator.url}/readyz`)).status).toBe(200), 60_000);
    expect(await process.stop()).toBe(0);
  });

  it('counts the requests to the API server, and what is in force', async () => {
    const operator = await anOperator();
    await eventually(
      async () => expect(await metric(operator, 'sluice_published_revision')).toBeGreaterThan(0),
      60_000,
    );
    await eventually(async () =>
      expect(await metric(operator, 'sluice_objects{kind="RateLimitPolicy",condition="Accepted",status="True"}')).toBe(
        1,
      ),
    );
    const { host } = new URL(world.controlPlane.serverUrl);
    expect(
      await metric(operator, `rest_client_requests_total{code="200",method="GET",host="${host}"}`),
    ).toBeGreaterThan(3);
  });
});
