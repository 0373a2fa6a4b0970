import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { conditionsFor, type StatusFacts } from '../../operator/status.ts';
import type { Condition } from '../../policy/schema/fields.ts';
import { type PrivateRedis, privateRedis } from '../harness/redis.ts';

const HEALTH = readFileSync(join(import.meta.dirname, '../../docs/gitops/health.lua'), 'utf8');

let server: PrivateRedis;
beforeAll(async () => {
  server = await privateRedis();
});
afterAll(() => server.stop());

type Resource = { readonly metadata: object; readonly status?: object };

/** Runs the script as Argo CD does, with the object as `obj`: the Lua that is at hand is the one in Redis. */
async function argoHealth(resource: Resource): Promise<string> {
  const script = `local obj = cjson.decode(ARGV[1])\nlocal function judge()\n${HEALTH}\nend\nlocal health = judge()\nreturn { health.status, health.message }`;
  const [status, message] = (await server.redis.eval(script, 0, JSON.stringify(resource))) as string[];
  expect(message).toEqual(expect.any(String));
  return status ?? '';
}

/** The rules of kstatus, in its order. */
function kstatus({ metadata, status }: Resource): string {
  const { generation } = metadata as { generation: number };
  const { observedGeneration, conditions = [] } = (status ?? {}) as {
    observedGeneration?: number;
    conditions?: readonly Condition[];
  };
  const is = (type: string): string | undefined => conditions.find((condition) => condition.type === type)?.status;
  if (observedGeneration !== undefined && observedGeneration !== generation) return 'InProgress';
  if (is('Reconciling') === 'True') return 'InProgress';
  if (is('Stalled') === 'True') return 'Failed';
  if (is('Ready') !== undefined) return is('Ready') === 'True' ? 'Current' : 'InProgress';
  return 'Current';
}

const fine: StatusFacts = {
  generation: 7,
  problems: [],
  activeGeneration: 7,
  revision: 1841,
  readyPods: 12,
  laggingPods: [],
  failingPods: [],
  isOverdue: false,
  isStoreReachable: true,
  isShadow: false,
  isActiveKnown: true,
};
const problems = [{ path: 'spec.rules', reason: 'TooManyLimits', message: 'too many' }];
const laggingPods = [{ pod: 'pod-a', problem: undefined, isPassing: false }];

describe('tools that wait for an object', () => {
  it.each<[string, Partial<StatusFacts>, string, string]>([
    ['is fine', {}, 'Current', 'Healthy'],
    ['is in shadow, loaded everywhere', { isShadow: true }, 'Current', 'Healthy'],
    ['is an override that has not started yet', { offTime: 'Pending' }, 'Current', 'Healthy'],
    ['is an override that has expired', { offTime: 'Expired' }, 'Current', 'Healthy'],
    ['is being loaded', { laggingPods }, 'InProgress', 'Progressing'],
    ['is lacking on a pod', { laggingPods, isOverdue: true }, 'InProgress', 'Progressing'],
    ['has no pod', { readyPods: 0 }, 'InProgress', 'Progressing'],
    ['is not published', { activeGeneration: 6 }, 'InProgress', 'Progressing'],
    ['cannot be judged without Redis', { isStoreReachable: false }, 'InProgress', 'Progressing'],
    ['cannot be published to the Redis of others', { otherOwner: 'not ours' }, 'InProgress', 'Progressing'],
    ['is invalid, the last good in force', { problems, activeGeneration: 6 }, 'Failed', 'Degraded'],
    ['is invalid, none in force', { problems, activeGeneration: 0 }, 'Failed', 'Degraded'],
  ])('see what is so when it %s', async (_situation, facts, expected, argo) => {
    const { conditions } = conditionsFor({ ...fine, ...facts }, undefined, '2026-11-21T10:00:00Z');
    const resource = { metadata: { generation: 7 }, status: { observedGeneration: 7, conditions } };
    expect([kstatus(resource), await argoHealth(resource)]).toEqual([expected, argo]);
  });

  it.each<[string, Resource]>([
    ['never been seen', { metadata: { generation: 1 }, status: { observedGeneration: -1 } }],
    [
      'been edited since',
      {
        metadata: { generation: 8 },
        status: {
          observedGeneration: 7,
          conditions: conditionsFor(fine, undefined, '2026-11-21T10:00:00Z').conditions,
        },
      },
    ],
  ])('wait while it has %s', async (_situation, resource) => {
    expect([kstatus(resource), await argoHealth(resource)]).toEqual(['InProgress', 'Progressing']);
  });
});
