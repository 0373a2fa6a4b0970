// What names, labels, image and definitions of resources a release has.
import { expect } from 'vitest';
import { allKinds } from '../../../policy/schema/kinds.ts';
import { SCHEMA_NUMBER } from '../../../policy/schema/to-crd.ts';
import { at, envOf } from '../helm.ts';
import { type Accepted, kindsOf, limiterOf, operatorOf, podOf } from './objects.ts';

export const release: readonly Accepted[] = [
  {
    name: 'nothing but what is required',
    values: {},
    expect: (objects) => {
      const kinds = kindsOf(objects).filter((kind) => kind !== 'CustomResourceDefinition');
      expect(
        Object.fromEntries(
          Map.groupBy(kinds, String)
            .entries()
            .map(([kind, all]) => [kind, all.length]),
        ),
      ).toEqual({
        ClusterRole: 1,
        ClusterRoleBinding: 1,
        Deployment: 2,
        HorizontalPodAutoscaler: 1,
        NetworkPolicy: 2,
        Pod: 1,
        PodDisruptionBudget: 2,
        Role: 1,
        RoleBinding: 1,
        Service: 3,
        ServiceAccount: 2,
      });
      expect(envOf(limiterOf(objects))).toMatchObject({ SLUICE_OWNER: 'sluice-system/sluice' });
    },
  },
  {
    name: 'a name of its own',
    values: { nameOverride: 'limits' },
    expect: (objects) => expect(limiterOf(objects).metadata.name).toBe('sluice-limits-limiter'),
  },
  {
    name: 'a whole prefix of its own',
    values: { fullnameOverride: 'edge' },
    expect: (objects) => expect(limiterOf(objects).metadata.name).toBe('edge-limiter'),
  },
  {
    name: 'a prefix that is too long for a label',
    values: { fullnameOverride: `${'x'.repeat(49)}-yyy` },
    expect: (objects) => expect(limiterOf(objects).metadata.name).toBe(`${'x'.repeat(49)}-limiter`),
  },
  {
    name: 'an installation and an owner',
    values: { installation: 'edge', owner: 'cluster-7' },
    expect: (objects) =>
      expect(envOf(operatorOf(objects))).toMatchObject({ SLUICE_INSTALLATION: 'edge', SLUICE_OWNER: 'cluster-7' }),
  },
  {
    name: 'labels for everything',
    values: { commonLabels: { team: 'edge' }, crds: { enabled: false } },
    expect: (objects) => objects.forEach(({ metadata }) => expect(metadata.labels['team']).toBe('edge')),
  },
  {
    name: 'values of a parent chart',
    values: { global: { imageRegistry: 'x' } },
    expect: (objects) => expect(kindsOf(objects)).toContain('Deployment'),
  },
  {
    name: 'an image tag',
    values: { image: { repository: 'r.example/sluice', tag: 'v9' } },
    expect: (objects) => expect(at(podOf(objects, 'limiter'), 'containers.0.image')).toBe('r.example/sluice:v9'),
  },
  {
    name: 'an image digest, which wins',
    values: { image: { repository: 'r.example/sluice', tag: 'v9', digest: `sha256:${'a'.repeat(64)}` } },
    expect: (objects) =>
      expect(at(podOf(objects, 'operator'), 'containers.0.image')).toBe(`r.example/sluice@sha256:${'a'.repeat(64)}`),
  },
  {
    name: 'pull secrets and policy',
    values: { imagePullSecrets: [{ name: 'pull' }], image: { pullPolicy: 'Always' } },
    expect: (objects) => {
      expect(podOf(objects, 'limiter')).toMatchObject({ imagePullSecrets: [{ name: 'pull' }] });
      expect(at(podOf(objects, 'operator'), 'containers.0.imagePullPolicy')).toBe('Always');
    },
  },
  {
    name: 'CRDs that stay when the release goes',
    values: {},
    expect: (objects) => {
      const definitions = objects.filter(({ kind }) => kind === 'CustomResourceDefinition');
      expect(definitions).toHaveLength(allKinds.length);
      for (const { metadata } of definitions) {
        expect(metadata.annotations).toMatchObject({
          'helm.sh/resource-policy': 'keep',
          'sluice.dev/schema': String(SCHEMA_NUMBER),
        });
      }
    },
  },
  {
    name: 'CRDs that go with the release',
    values: { crds: { keep: false } },
    expect: (objects) => {
      for (const { metadata } of objects.filter(({ kind }) => kind === 'CustomResourceDefinition'))
        expect(Object.keys(metadata.annotations ?? {})).toEqual(['sluice.dev/schema']);
    },
  },
  {
    name: 'CRDs that are somebody else’s',
    values: { crds: { enabled: false } },
    expect: (objects) => expect(kindsOf(objects)).not.toContain('CustomResourceDefinition'),
  },
];
