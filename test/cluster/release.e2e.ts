// The life of a release, in order: each step goes on where the one before it ended.
import { setTimeout as pause } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { eventually } from '../harness/eventually.ts';
import { aPolicy, ask, expectNothingLost, inDomain, loadDuring, momentsOfMode, prepare } from './caller.ts';
import {
  apply,
  CALLERS,
  cleanUp,
  deploy,
  get,
  helm,
  IMAGE,
  IMAGE_NEXT,
  kill,
  kubectl,
  NAMESPACE,
  podsOf,
  RELEASE,
  type Status,
  untilPods,
  untilReady,
  valuesWith,
} from './cluster.ts';

const HOUR = 3_600;

const conditionOf = (status: Status, type: string) => status.conditions?.find((condition) => condition.type === type);

beforeAll(prepare);
afterAll(cleanUp);

describe('a release', () => {
  it('comes from nothing to ready, in a namespace that enforces the restricted standard', async () => {
    await deploy(valuesWith(IMAGE));
    expect(await untilPods('limiter', 2)).toHaveLength(2);
    expect(await helm(['test', RELEASE])).toContain('Phase:          Succeeded');
  });

  it('enforces a policy on every pod, and says so by their own acknowledgements', async () => {
    await apply(aPolicy('first', 20));
    const status = await untilReady('ratelimitpolicy', 'first');
    expect(conditionOf(status, 'Enforced')).toMatchObject({ status: 'True', reason: 'Enforced' });
    const pods = await podsOf('limiter');
    expect(status.pods).toEqual({ ready: pods.length, acknowledged: pods.length });
  });

  it('decides through its Service: exactly the limit, whichever pod is asked', async () => {
    const pods = await podsOf('limiter');
    const answers = [];
    for (const { ip } of pods)
      answers.push(...(await ask(inDomain('first', 'alice'), 8, `http://${ip}:8080/v1/decision/check`)));
    answers.push(...(await ask(inDomain('first', 'alice'), 40 - answers.length)));
    expect(answers.filter(({ reason }) => reason === 'WITHIN_LIMIT')).toHaveLength(20);
    expect(answers.filter(({ reason }) => reason === 'RATE_LIMIT_EXCEEDED')).toHaveLength(20);
  });
});

describe('an incident that is declared', () => {
  it('degrades every pod at once, and ends by itself on every pod', async () => {
    await apply(aPolicy('shed', 1_000_000, { limits: [{ windowSeconds: HOUR, requests: 1_000_000, degraded: 0 }] }), {
      apiVersion: 'sluice.dev/v1alpha1',
      kind: 'SystemHealth',
      metadata: { name: 'incident' },
      spec: { mode: 'NORMAL' },
    });
    await untilReady('ratelimitpolicy', 'shed');
    const pods = await podsOf('limiter');
    const flipped = momentsOfMode(pods, inDomain('shed', 'bob'), 'DEGRADED');
    // The watch has to have begun; if it has not, the moment it reports is only later.
    await pause(2_000);
    const expiresAt = new Date(Date.now() + 15_000).toISOString();
    const patch = { spec: { mode: 'DEGRADED', reason: 'a test', expiresAt } };
    const patchedAt = Date.now();
    await kubectl(['patch', 'systemhealth', 'incident', '--type=merge', '-p', JSON.stringify(patch)]);
    const moments = await flipped;
    console.log('DEGRADED after ms, kubectl included:', moments.map((moment) => moment - patchedAt).join(', '));
    expect(moments).toHaveLength(pods.length);
    const [shed] = await ask(inDomain('shed', 'bob'));
    expect(shed).toMatchObject({ reason: 'DEGRADED_SHED', mode: 'DEGRADED' });
    const ended = await momentsOfMode(pods, inDomain('shed', 'bob'), 'NORMAL');
    console.log('NORMAL after expiresAt by ms:', ended.map((moment) => moment - Date.parse(expiresAt)).join(', '));
    // Redis' clock is the machine's; a tick of rounding is all that may lie between.
    for (const moment of ended) expect(moment).toBeGreaterThanOrEqual(Date.parse(expiresAt) - 10);
  });
});

describe('under constant load', () => {
  it('loses no request while it is upgraded, and admits no more than the limit', async () => {
    await expectNothingLost('upgrade', () => deploy(valuesWith(IMAGE_NEXT)));
    const { spec } = await get<{ spec: { template: { spec: { containers: { image: string }[] } } } }>(
      'deployment',
      'sluice-limiter',
    );
    expect(spec.template.spec.containers[0]?.image).toBe(IMAGE_NEXT);
  });

  it('loses no request while it is rolled back', async () => {
    await expectNothingLost('rollback', () => helm(['rollback', RELEASE, '--wait', '--timeout', '240s']));
  });

  it('loses no request when a pod is deleted', async () => {
    await untilPods('limiter', 2);
    const [pod] = await podsOf('limiter');
    await expectNothingLost('deleted', async () => {
      await kubectl(['delete', 'pod', '-n', NAMESPACE, pod?.name ?? '']);
      await untilPods('limiter', 2);
    });
  });
});

describe('when a part is killed', () => {
  const leader = async (): Promise<string> =>
    (await get<{ spec: { holderIdentity: string } }>('lease', 'sluice-operator')).spec.holderIdentity;

  it('has another operator lead when the leading one is gone, and loses nothing', async () => {
    const before = await leader();
    const pods = await untilPods('operator', 2);
    const victim = pods.find(({ name }) => before.startsWith(`${name}_`));
    await kill(victim?.name ?? `nobody, as ${before} leads`);
    await apply(aPolicy('orphan', 7));
    expect(await ask(inDomain('first', 'dora'))).toMatchObject([{ reason: 'WITHIN_LIMIT' }]);
    const status = await untilReady('ratelimitpolicy', 'orphan');
    expect(conditionOf(status, 'Enforced')).toMatchObject({ status: 'True' });
    const after = await leader();
    // The standby, or the pod that took the place of the one that is gone: whichever asked first.
    expect(after).not.toBe(before);
    expect(after.startsWith(`${victim?.name}_`)).toBe(false);
    // What was counted before is counted still.
    expect(await ask(inDomain('first', 'alice'))).toMatchObject([{ reason: 'RATE_LIMIT_EXCEEDED' }]);
  });

  it('needs no more of the API server than it is allowed', async () => {
    for (const { name } of await untilPods('operator', 2)) {
      const metrics = await kubectl([
        'get',
        '--raw',
        `/api/v1/namespaces/${NAMESPACE}/pods/${name}:9090/proxy/metrics`,
      ]);
      const requests = metrics.split('\n').filter((line) => line.startsWith('rest_client_requests_total{'));
      expect(requests.length).toBeGreaterThan(0);
      expect(requests.filter((line) => /code="40[13]"/.test(line) && !line.endsWith(' 0'))).toEqual([]);
    }
  });

  /** Waits until every operator, standbys included, would hand out this revision. */
  const untilAllHandOut = (revision: number): Promise<void> =>
    eventually(async () => {
      for (const { name } of await untilPods('operator', 2)) {
        const path = `/api/v1/namespaces/${NAMESPACE}/pods/${name}:9090/proxy/snapshot`;
        const { head } = JSON.parse(await kubectl(['get', '--raw', path])) as { head: { revision: number } };
        expect(head.revision).toBeGreaterThanOrEqual(revision);
      }
    });

  /** A pod that starts now has its configuration from the operator, is ready, and decides as the rules declare. */
  async function expectColdStart(): Promise<void> {
    const before = await podsOf('limiter');
    await kubectl(['delete', 'pod', '-n', NAMESPACE, before[0]?.name ?? '']);
    const after = await untilPods('limiter', 2);
    const fresh = after.find(({ uid }) => before.every((pod) => pod.uid !== uid));
    const url = `http://${fresh?.ip}:8080/v1/decision/check`;
    const answers = [];
    for (const name of ['open', 'closed', 'local']) answers.push(...(await ask(inDomain(name, 'ivan'), 1, url)));
    expect(answers.map(({ reason }) => reason)).toEqual(['FAIL_OPEN', 'FAIL_CLOSED', 'LOCAL_FALLBACK']);
    // It has never agreed with others on how many they are.
    expect(await passedLocally(url)).toBe(1);
  }

  /** How many requests of a consumer one pod lets pass by itself. */
  const passedLocally = async (url: string): Promise<number> => {
    const answers = await ask(inDomain('shared', 'judy'), 20, url);
    return answers.filter(({ reason }) => reason === 'LOCAL_FALLBACK').length;
  };

  it('does as each rule declares while Redis is gone, also on a new pod; then recovers, and is published again', async () => {
    await apply(
      aPolicy('open', 1_000_000, { failurePolicy: 'Open' }),
      aPolicy('closed', 1_000_000, { failurePolicy: 'Closed' }),
      aPolicy('local', 1_000_000, { failurePolicy: 'LocalFallback' }),
      aPolicy('shared', 10, { failurePolicy: 'LocalFallback' }),
    );
    for (const name of ['open', 'closed', 'local', 'shared']) await untilReady('ratelimitpolicy', name);
    await untilAllHandOut((await untilReady('ratelimitpolicy', 'shared')).revision ?? 0);
    await kubectl(['scale', 'deployment', 'sluice-redis', '-n', NAMESPACE, '--replicas=0']);
    const reasonOf = async (name: string) => (await ask(inDomain(name, 'erin')))[0]?.reason;
    await eventually(async () => {
      expect(await Promise.all(['open', 'closed', 'local'].map(reasonOf))).toEqual([
        'FAIL_OPEN',
        'FAIL_CLOSED',
        'LOCAL_FALLBACK',
      ]);
    }, 60_000);
    const pods = await untilPods('limiter', 2);
    const shares: number[] = [];
    for (const { ip } of pods) shares.push(await passedLocally(`http://${ip}:8080/v1/decision/check`));
    // Each its share: together no more than the limit.
    expect(Math.min(...shares)).toBeGreaterThan(0);
    expect(shares.reduce((sum, share) => sum + share, 0)).toBeLessThanOrEqual(10);
    await expectColdStart();
    await kubectl(['scale', 'deployment', 'sluice-redis', '-n', NAMESPACE, '--replicas=1']);
    await eventually(async () => {
      for (const name of ['open', 'closed', 'local']) expect(await reasonOf(name)).toBe('WITHIN_LIMIT');
    }, 90_000);
    for (const name of ['open', 'closed', 'local', 'first']) {
      const status = await untilReady('ratelimitpolicy', name);
      expect(conditionOf(status, 'Enforced')).toMatchObject({ status: 'True' });
    }
  });
});

describe('the autoscaler', () => {
  it('adds pods under load and takes them away afterwards, while every pod enforces the policy', async () => {
    await apply(aPolicy('scaled', 50));
    await untilReady('ratelimitpolicy', 'scaled');
    const heavy = { workers: 32, pauseMillis: 0 };
    const { counts, failures } = await loadDuring(inDomain('scaled', 'fred'), heavy, () =>
      eventually(async () => expect((await podsOf('limiter')).length).toBeGreaterThan(2), 120_000),
    );
    console.log('scaled', JSON.stringify(counts));
    expect(failures).toEqual([]);
    expect(counts['WITHIN_LIMIT']).toBe(50);
    await eventually(async () => expect(await podsOf('limiter')).toHaveLength(2), 240_000);
    expect(conditionOf(await untilReady('ratelimitpolicy', 'scaled'), 'Enforced')).toMatchObject({ status: 'True' });
  });
});

describe('an uninstalled release', () => {
  it('leaves the policies, and nothing else', async () => {
    await helm(['uninstall', RELEASE, '--wait', '--timeout', '120s']);
    expect(await get('ratelimitpolicy', 'first', CALLERS)).toMatchObject({ spec: { domain: `${CALLERS}.first` } });
    const kinds =
      'deployments,services,pods,networkpolicies,poddisruptionbudgets,horizontalpodautoscalers,roles,rolebindings';
    const left = await eventually(async () => {
      const names = await kubectl(['get', kinds, '-n', NAMESPACE, '-o', 'name']);
      if (names !== '') throw new Error(`still there: ${names}`);
      return names;
    }, 60_000);
    expect(left).toBe('');
    expect(
      await kubectl([
        'get',
        'clusterroles,clusterrolebindings',
        '-l',
        'app.kubernetes.io/part-of=sluice',
        '-o',
        'name',
      ]),
    ).toBe('');
  });
});
