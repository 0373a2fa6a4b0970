// Where pods run, as whom, and how many may be missing.
import { expect } from 'vitest';
import { at, envOf, find } from '../helm.ts';
import { type Accepted, kindsOf, operatorOf, podOf } from './objects.ts';

export const pods: readonly Accepted[] = [
  {
    name: 'where the pods may run',
    values: {
      limiter: {
        nodeSelector: { pool: 'edge' },
        tolerations: [{ key: 'edge', operator: 'Exists' }],
        affinity: { nodeAffinity: {} },
        priorityClassName: 'system-cluster-critical',
      },
    },
    expect: (objects) =>
      expect(podOf(objects, 'limiter')).toMatchObject({
        nodeSelector: { pool: 'edge' },
        tolerations: [{ key: 'edge' }],
        affinity: { nodeAffinity: {} },
        priorityClassName: 'system-cluster-critical',
      }),
  },
  {
    name: 'the default spread over zones and hosts',
    values: { crds: { enabled: false } },
    expect: (objects) =>
      expect(at(podOf(objects, 'limiter'), 'topologySpreadConstraints')).toEqual([
        expect.objectContaining({ topologyKey: 'topology.kubernetes.io/zone', whenUnsatisfiable: 'ScheduleAnyway' }),
        expect.objectContaining({ topologyKey: 'kubernetes.io/hostname', matchLabelKeys: ['pod-template-hash'] }),
      ]),
  },
  {
    name: 'a spread of its own',
    values: {
      operator: {
        topologySpreadConstraints: [
          {
            maxSkew: 2,
            topologyKey: 'rack',
            whenUnsatisfiable: 'DoNotSchedule',
            labelSelector: { matchLabels: { a: 'b' } },
          },
        ],
      },
    },
    expect: (objects) =>
      expect(at(podOf(objects, 'operator'), 'topologySpreadConstraints')).toEqual([
        {
          maxSkew: 2,
          topologyKey: 'rack',
          whenUnsatisfiable: 'DoNotSchedule',
          labelSelector: { matchLabels: { a: 'b' } },
        },
      ]),
  },
  {
    name: 'labels, annotations and variables of the pods',
    values: {
      operator: {
        podLabels: { side: 'car' },
        podAnnotations: { note: 'x' },
        extraEnv: [{ name: 'NODE_OPTIONS', value: '--max-old-space-size=256' }],
      },
    },
    expect: (objects) => {
      expect(at(operatorOf(objects), 'spec.template.metadata')).toMatchObject({
        labels: { side: 'car' },
        annotations: { note: 'x' },
      });
      expect(envOf(operatorOf(objects))).toMatchObject({ NODE_OPTIONS: '--max-old-space-size=256' });
    },
  },
  {
    name: 'one operator, which must be able to be replaced',
    values: { operator: { replicas: 1 } },
    expect: (objects) =>
      expect(at(operatorOf(objects), 'spec')).toMatchObject({
        replicas: 1,
        strategy: { rollingUpdate: { maxUnavailable: 0, maxSurge: 1 } },
      }),
  },
  {
    name: 'service accounts that exist',
    values: {
      operator: { serviceAccount: { create: false, name: 'ops' } },
      limiter: { serviceAccount: { create: false, name: 'edge' } },
    },
    expect: (objects) => {
      expect(kindsOf(objects)).not.toContain('ServiceAccount');
      expect(at(find(objects, 'ClusterRoleBinding'), 'subjects.0.name')).toBe('ops');
      expect(podOf(objects, 'limiter')).toMatchObject({ serviceAccountName: 'edge' });
    },
  },
  {
    name: 'annotations of a service account',
    values: { operator: { serviceAccount: { annotations: { role: 'x' } } } },
    expect: (objects) =>
      expect(find(objects, 'ServiceAccount', '-operator').metadata.annotations).toEqual({ role: 'x' }),
  },
  {
    name: 'budgets in percent',
    values: { limiter: { podDisruptionBudget: { maxUnavailable: '25%' } } },
    expect: (objects) =>
      expect(at(find(objects, 'PodDisruptionBudget', '-limiter'), 'spec')).toMatchObject({
        maxUnavailable: '25%',
        unhealthyPodEvictionPolicy: 'AlwaysAllow',
      }),
  },
  {
    name: 'no budgets',
    values: {
      limiter: { podDisruptionBudget: { enabled: false } },
      operator: { podDisruptionBudget: { enabled: false } },
    },
    expect: (objects) => expect(kindsOf(objects)).not.toContain('PodDisruptionBudget'),
  },
];
