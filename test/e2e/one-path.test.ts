import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { hashOfKey } from '../../policy/api-key.ts';
import { createNames } from '../../store/names.ts';
import { eventually } from '../harness/eventually.ts';
import { install, type Installation, type LimiterProcess, untilReady } from '../harness/installation.ts';
import type { SluiceProcess } from '../harness/processes.ts';

const NAMESPACE = 'payments';
const names = createNames('default');

type Json = Readonly<Record<string, unknown>>;
type Status = {
  readonly observedGeneration: number;
  readonly activeGeneration: number;
  readonly revision: number;
  readonly pods: { readonly ready: number; readonly acknowledged: number };
  readonly effectiveMode?: string;
  readonly problems?: readonly { readonly path: string; readonly reason: string; readonly message: string }[];
  readonly conditions: readonly {
    readonly type: string;
    readonly status: string;
    readonly reason: string;
    readonly message: string;
  }[];
};

let world: Installation;
let operator: SluiceProcess;
let limiters: readonly [LimiterProcess, LimiterProcess];

beforeAll(async () => {
  world = await install();
  await world.controlPlane.kubectl(['create', 'namespace', NAMESPACE]);
  operator = world.startOperator();
  limiters = [await world.startLimiter('limiter-a'), await world.startLimiter('limiter-b')];
  await Promise.all(limiters.map(untilReady));
});
afterAll(() => world.stop());

const kubectl = (...args: string[]): Promise<string> => world.controlPlane.kubectl(args);

async function apply(object: Json): Promise<void> {
  await world.controlPlane.kubectl(['apply', '-f', '-'], {
    stdin: JSON.stringify({ apiVersion: 'sluice.dev/v1alpha1', ...object }),
  });
}

const aPolicy = (name: string, spec: Json): Json => ({
  kind: 'RateLimitPolicy',
  metadata: { name, namespace: NAMESPACE },
  spec,
});

/** A rule that nobody else's requests touch: it counts by an attribute, in a domain of its own. */
const perUser = (requests: number, extra: Json = {}): Json => ({
  name: 'per-user',
  countBy: ['consumer'],
  algorithm: 'SlidingWindow',
  limits: [{ windowSeconds: 3600, requests, ...extra }],
});

async function statusOf(kind: string, name: string): Promise<Status> {
  const object: unknown = JSON.parse(await kubectl('get', kind, name, '-n', NAMESPACE, '-o', 'json'));
  return (object as { status: Status }).status;
}

const conditionOf = (status: Status, type: string) => status.conditions.find((condition) => condition.type === type);

async function check(limiter: LimiterProcess, body: Json): Promise<Json> {
  const response = await fetch(`${limiter.url}/v1/decision/check`, { method: 'POST', body: JSON.stringify(body) });
  return { http: response.status, ...((await response.json()) as Json) };
}

const waitReady = (kind: string, name: string): Promise<string> =>
  kubectl('wait', '--for=condition=Ready', '-n', NAMESPACE, `${kind}/${name}`, '--timeout=60s');

describe('one path, from kubectl to an enforced limit', () => {
  it('enforces an applied policy on every limiter and says so only when both have acknowledged it', async () => {
    await apply(aPolicy('first', { rules: [perUser(3)] }));
    await waitReady('ratelimitpolicy', 'first');
    const status = await statusOf('ratelimitpolicy', 'first');
    expect(status).toMatchObject({ observedGeneration: 1, activeGeneration: 1, pods: { ready: 2, acknowledged: 2 } });
    expect(conditionOf(status, 'Accepted')).toMatchObject({ status: 'True' });
    expect(conditionOf(status, 'Enforced')).toMatchObject({ status: 'True', reason: 'Enforced' });
    expect(status.conditions.map(({ type }) => type)).not.toContain('Reconciling');
    const answers = [];
    for (let i = 0; i < 4; i += 1)
      answers.push(await check(limiters[i % 2] ?? limiters[0], { domain: NAMESPACE, consumer: 'alice' }));
    expect(answers.map(({ action, remaining }) => [action, remaining])).toEqual([
      ['ALLOW', 2],
      ['ALLOW', 1],
      ['ALLOW', 0],
      ['THROTTLE', 0],
    ]);
    expect(answers[3]).toMatchObject({
      reason: 'RATE_LIMIT_EXCEEDED',
      policy: 'payments/first',
      rule: 'per-user',
      limit: 3,
    });
  });

  it('keeps the last good generation in force after a bad edit, and names the field', async () => {
    await apply(aPolicy('edited', { domain: 'payments.edited', rules: [perUser(2)] }));
    await waitReady('ratelimitpolicy', 'edited');
    const bad = { ...perUser(500), match: { paths: [{ type: 'Prefix', value: '/a/../b' }] } };
    await apply(aPolicy('edited', { domain: 'payments.edited', rules: [bad] }));
    const status = await eventually(async () => {
      const current = await statusOf('ratelimitpolicy', 'edited');
      expect(current.observedGeneration).toBe(2);
      return current;
    });
    expect(status.activeGeneration).toBe(1);
    expect(conditionOf(status, 'Accepted')).toMatchObject({ status: 'False', reason: 'Invalid' });
    expect(conditionOf(status, 'Enforced')).toMatchObject({ status: 'False', reason: 'LastGoodActive' });
    expect(conditionOf(status, 'Stalled')).toMatchObject({ status: 'True' });
    expect(status.problems).toEqual([
      { path: 'spec.rules[0].match.paths[0].value', reason: 'PathNotNormal', message: expect.stringContaining('/b') },
    ]);
    const answers = [];
    for (let i = 0; i < 3; i += 1)
      answers.push(await check(limiters[0], { domain: 'payments.edited', consumer: 'bob' }));
    expect(answers.map(({ action }) => action)).toEqual(['ALLOW', 'ALLOW', 'THROTTLE']);
  });

  it('keeps the last good generation across a restart of the operator, and mends with the edit', async () => {
    expect(await operator.stop()).toBe(0);
    operator = world.startOperator();
    await eventually(() => expect(operator.output()).toContain('"published"'));
    expect((await check(limiters[1], { domain: 'payments.edited', consumer: 'bob' }))['action']).toBe('THROTTLE');
    await apply(aPolicy('edited', { domain: 'payments.edited', rules: [perUser(500)] }));
    await waitReady('ratelimitpolicy', 'edited');
    const status = await statusOf('ratelimitpolicy', 'edited');
    expect(status).toMatchObject({ observedGeneration: 3, activeGeneration: 3 });
    expect(status.problems).toBeUndefined();
    expect((await check(limiters[1], { domain: 'payments.edited', consumer: 'bob' }))['action']).toBe('ALLOW');
  });

  it('refuses at the API server what the schema refuses', async () => {
    const bad = aPolicy('refused', { rules: [perUser(5, { burst: 4 })] });
    const message = await world.controlPlane.kubectl(['apply', '-f', '-'], {
      stdin: JSON.stringify({ apiVersion: 'sluice.dev/v1alpha1', ...bad }),
      expectFailure: true,
    });
    expect(message).toContain('burst must be at least requests');
  });

  it('lifts the limit when the policy is deleted', async () => {
    expect((await check(limiters[0], { domain: NAMESPACE, consumer: 'alice' }))['action']).toBe('THROTTLE');
    await kubectl('delete', 'ratelimitpolicy', 'first', '-n', NAMESPACE);
    for (const limiter of limiters) {
      await eventually(async () =>
        expect(await check(limiter, { domain: NAMESPACE, consumer: 'alice' })).toMatchObject({
          action: 'ALLOW',
          reason: 'NO_POLICY',
        }),
      );
    }
  });
});

describe('degraded mode', () => {
  it('ends at expiresAt on every limiter although the operator is dead', async () => {
    await apply(aPolicy('degradable', { domain: 'payments.degradable', rules: [perUser(50, { degraded: 0 })] }));
    await waitReady('ratelimitpolicy', 'degradable');
    const expiresAt = new Date(Date.now() + 3_000).toISOString();
    await apply({
      kind: 'SystemHealth',
      metadata: { name: 'incident' },
      spec: { mode: 'DEGRADED', reason: 'test', expiresAt },
    });
    const ask = (limiter: LimiterProcess): Promise<Json> =>
      check(limiter, { domain: 'payments.degradable', consumer: 'carol' });
    for (const limiter of limiters) {
      await eventually(async () =>
        expect(await ask(limiter)).toMatchObject({ reason: 'DEGRADED_SHED', mode: 'DEGRADED', limit: 0 }),
      );
    }
    await operator.kill();
    for (const limiter of limiters) {
      await eventually(async () =>
        expect(await ask(limiter)).toMatchObject({ action: 'ALLOW', mode: 'NORMAL', limit: 50 }),
      );
    }
    operator = world.startOperator();
    await eventually(async () => expect((await statusOf('systemhealth', 'incident')).effectiveMode).toBe('NORMAL'));
  });

  it('is information, not failure: the object that declares it is Ready', async () => {
    await apply({
      kind: 'SystemHealth',
      metadata: { name: 'incident' },
      spec: { mode: 'DEGRADED', reason: 'test', scope: { domains: ['payments.degradable'] } },
    });
    await eventually(async () =>
      expect(await statusOf('systemhealth', 'incident')).toMatchObject({
        observedGeneration: 2,
        effectiveMode: 'DEGRADED',
      }),
    );
    await waitReady('systemhealth', 'incident');
    const status = await statusOf('systemhealth', 'incident');
    expect(status).toMatchObject({ affectedPolicies: 1 });
    await kubectl('delete', 'systemhealth', 'incident');
  });
});

describe('two limiters under concurrent load', () => {
  it('never admit more than the limit in total', async () => {
    await apply(aPolicy('busy', { domain: 'payments.busy', rules: [perUser(100)] }));
    await waitReady('ratelimitpolicy', 'busy');
    const answers = await Promise.all(
      Array.from({ length: 600 }, (_, i) =>
        check(limiters[i % 2] ?? limiters[0], { domain: 'payments.busy', consumer: 'dave' }),
      ),
    );
    expect(answers.filter(({ reason }) => reason === 'WITHIN_LIMIT')).toHaveLength(100);
    expect(answers.filter(({ reason }) => reason === 'RATE_LIMIT_EXCEEDED')).toHaveLength(500);
  });
});

describe('what may fail', () => {
  it('leaves decisions alone while the API server is down, and follows it again afterwards', async () => {
    // A leader that cannot renew its lease ends, for Kubernetes to start it again. Nobody does that here, so its time is
    // longer than any restart of the API server.
    expect(await operator.stop()).toBe(0);
    operator = world.startOperator(['--lease-seconds', '600']);
    await eventually(() => expect(operator.output()).toContain('"published"'));
    await world.controlPlane.stopApiServer();
    expect(await check(limiters[0], { domain: 'payments.busy', consumer: 'erin' })).toMatchObject({
      reason: 'WITHIN_LIMIT',
    });
    await world.controlPlane.startApiServer();
    await apply(aPolicy('after', { domain: 'payments.after', rules: [perUser(7)] }));
    await waitReady('ratelimitpolicy', 'after');
    expect(await check(limiters[1], { domain: 'payments.after', consumer: 'erin' })).toMatchObject({ limit: 7 });
  });

  it('never turns a valid key away when Redis loses everything, and follows the new incarnation', async () => {
    const key = 'a valid key of this test';
    await apply({
      kind: 'Consumer',
      metadata: { name: 'frank', namespace: NAMESPACE },
      spec: { apiKeyHashes: [`sha256:${hashOfKey(key)}`] },
    });
    await waitReady('consumer', 'frank');
    const before = await world.redis.redis.hgetall(names.head);
    const statuses = new Set<unknown>();
    const load = new AbortController();
    const callers = limiters.map(async (limiter) => {
      while (!load.signal.aborted)
        statuses.add((await check(limiter, { domain: 'payments.busy', api_key: key }))['http']);
    });
    await world.redis.redis.flushall();
    await eventually(async () => {
      const head = await world.redis.redis.hgetall(names.head);
      expect(head['incarnation']).toEqual(expect.any(String));
      expect(head['incarnation']).not.toBe(before['incarnation']);
      for (const limiter of limiters) {
        expect((await check(limiter, { domain: 'payments.busy', api_key: key }))['revision']).toBe(
          Number(head['revision']),
        );
      }
    });
    await eventually(async () => expect(await world.redis.redis.hget(names.consumerKeysMarker, 'complete')).toBe('1'));
    load.abort();
    await Promise.all(callers);
    expect([...statuses]).toEqual([200]);
    expect(await check(limiters[0], { domain: 'payments.busy', api_key: `${key}!` })).toMatchObject({
      http: 401,
      code: 'INVALID_API_KEY',
    });
    await waitReady('ratelimitpolicy', 'busy');
  });

  it('never shows an older revision after a fail-over of head, and moves on to a newer one', async () => {
    const old = await world.redis.redis.hgetall(names.head);
    await apply(aPolicy('busy', { domain: 'payments.busy', rules: [perUser(200)] }));
    await eventually(async () =>
      expect(await statusOf('ratelimitpolicy', 'busy')).toMatchObject({ activeGeneration: 2 }),
    );
    await waitReady('ratelimitpolicy', 'busy');
    const newest = Number(await world.redis.redis.hget(names.head, 'revision'));
    expect(newest).toBeGreaterThan(Number(old['revision']));
    await world.redis.redis.hset(names.head, old);
    await world.redis.redis.publish(names.changes, 'head 0');
    await eventually(async () => {
      const answers = await Promise.all(
        limiters.map((limiter) => check(limiter, { domain: 'payments.busy', consumer: 'gina' })),
      );
      // At every moment: what the pods enforce is the edit, and what the status says is no less.
      for (const answer of answers) expect(answer).toMatchObject({ limit: 200 });
      expect(await statusOf('ratelimitpolicy', 'busy')).toMatchObject({
        activeGeneration: 2,
        pods: { ready: 2, acknowledged: 2 },
      });
      expect(Number(await world.redis.redis.hget(names.head, 'revision'))).toBeGreaterThan(newest);
      for (const answer of answers) expect(answer['revision']).toBeGreaterThan(newest);
    });
    expect(conditionOf(await statusOf('ratelimitpolicy', 'busy'), 'Enforced')).toMatchObject({ status: 'True' });
  });

  it('counts only the pods that are there, and calls nothing enforced when there are none', async () => {
    await limiters[1].process.stop();
    await apply(aPolicy('alone', { domain: 'payments.alone', rules: [perUser(9)] }));
    await waitReady('ratelimitpolicy', 'alone');
    expect(await statusOf('ratelimitpolicy', 'alone')).toMatchObject({ pods: { ready: 1, acknowledged: 1 } });
    await limiters[0].process.stop();
    await apply(aPolicy('nobody', { domain: 'payments.nobody', rules: [perUser(9)] }));
    await eventually(async () => {
      const status = await statusOf('ratelimitpolicy', 'nobody');
      expect(conditionOf(status, 'Enforced')).toMatchObject({ status: 'False', reason: 'NoPods' });
      expect(conditionOf(status, 'Ready')).toMatchObject({ status: 'False' });
      expect(conditionOf(status, 'Reconciling')).toMatchObject({ status: 'True' });
    });
  });
});

describe('a fresh start', () => {
  it('is not ready while Redis is away, says so, and becomes ready by itself', async () => {
    await world.redis.stopServer();
    const late = await world.startLimiter('limiter-c');
    await eventually(async () => expect((await fetch(`${late.opsUrl}/livez`)).status).toBe(200));
    expect((await fetch(`${late.opsUrl}/readyz`)).status).toBe(503);
    expect((await fetch(`${late.url}/health`)).status).toBe(503);
    await eventually(() => expect(late.process.output()).toContain('redis_down'));
    await eventually(async () => {
      const status = await statusOf('ratelimitpolicy', 'busy');
      expect(conditionOf(status, 'Enforced')).toMatchObject({ status: 'Unknown', reason: 'RedisUnavailable' });
    });
    await world.redis.startServer();
    await untilReady(late);
    await waitReady('ratelimitpolicy', 'busy');
    expect(await statusOf('ratelimitpolicy', 'busy')).toMatchObject({ pods: { ready: 1, acknowledged: 1 } });
  });
});
