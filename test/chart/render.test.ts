import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { limiterOptions } from '../../cli/settings/limiter.ts';
import { operatorOptions } from '../../cli/settings/operator.ts';
import { accepted } from './accepted.ts';
import { type ControlPlane, startControlPlane } from '../control-plane/control-plane.ts';
import {
  clusterRules,
  keyNamespaceRules,
  limiterNamespaceRules,
  ownNamespaceRules,
} from '../../operator/kubernetes/access.ts';
import { at, envOf, find, MINIMAL, NAMESPACE, refusal, render, type Rendered } from './helm.ts';
import { refused } from './refused.ts';

/** Kinds of the Prometheus operator, which the API server of these tests does not know. */
const FOREIGN = new Set(['PodMonitor', 'ServiceMonitor', 'PrometheusRule']);

let controlPlane: ControlPlane;

beforeAll(async () => {
  controlPlane = await startControlPlane();
  // Enforced on pods and warned of in Deployments: every pod of the chart has to be one that may run here.
  const namespace = {
    apiVersion: 'v1',
    kind: 'Namespace',
    metadata: {
      name: NAMESPACE,
      labels: { 'pod-security.kubernetes.io/enforce': 'restricted', 'pod-security.kubernetes.io/warn': 'restricted' },
    },
  };
  await controlPlane.kubectl(['create', '-f', '-'], { stdin: JSON.stringify(namespace) });
});
afterAll(() => controlPlane.stop());

describe('values that the chart accepts', () => {
  it.each(accepted)(
    'render to what they mean, and the API server takes it: $name',
    async ({ values, args, expect: check }) => {
      const objects = await render(values, args === undefined ? {} : { args });
      check(objects);
      const known = objects.filter(({ kind }) => !FOREIGN.has(kind));
      // Strict: an unknown or repeated field is an error. A pod that breaks the restricted standard is refused.
      const dryRun = ['create', '--dry-run=server', '--validate=strict', '--warnings-as-errors', '-f', '-'];
      const created = await controlPlane.kubectl(dryRun, { stdin: asList(known) });
      expect(created.trim().split('\n')).toHaveLength(known.length);
    },
  );
});

describe('values that the chart refuses', () => {
  it.each(refused)('are answered with what is wrong: $name', async ({ values, says }) => {
    const message = await refusal(values);
    for (const words of says) expect(message).toContain(words);
  });
});

describe('every set of values', () => {
  it.each(accepted)('keeps to the rules of the house: $name', async ({ values, args }) => {
    const objects = await render(values, args === undefined ? {} : { args });
    expect(objects.filter(({ kind }) => kind === 'Secret')).toEqual([]);
    for (const object of objects) expectOwned(object);
    for (const object of objects.filter(({ kind }) => kind === 'Deployment')) expectHardened(object);
    expect(unknownSettings(objects)).toEqual([]);
  });
});

function asList(items: readonly Rendered[]): string {
  return JSON.stringify({ apiVersion: 'v1', kind: 'List', items });
}

/** Variables that are set for a program which does not read them: it would go unnoticed. */
function unknownSettings(objects: readonly Rendered[]): string[] {
  const programs = { '-operator': operatorOptions(), '-limiter': limiterOptions() };
  return Object.entries(programs).flatMap(([suffix, options]) => {
    const known = new Set(options.map(({ envVar }) => envVar));
    const given = Object.keys(envOf(find(objects, 'Deployment', suffix)));
    return given.filter((name) => name.startsWith('SLUICE_') && !known.has(name)).map((name) => `${suffix}: ${name}`);
  });
}

const CLUSTER_WIDE = new Set(['CustomResourceDefinition', 'ClusterRole', 'ClusterRoleBinding']);

function expectOwned({ kind, metadata }: Rendered): void {
  expect(metadata.namespace).toBe(CLUSTER_WIDE.has(kind) ? undefined : NAMESPACE);
  const isOurs = kind === 'CustomResourceDefinition' || metadata.labels['app.kubernetes.io/part-of'] === 'sluice';
  expect(isOurs).toBe(true);
}

function expectHardened(deployment: Rendered): void {
  const pod = at(deployment, 'spec.template.spec');
  // A Service named sluice-limiter would otherwise set SLUICE_LIMITER_PORT.
  expect(pod).toMatchObject({ enableServiceLinks: false, securityContext: { runAsNonRoot: true } });
  const isOperator = deployment.metadata.name.endsWith('-operator');
  expect(at(pod, 'automountServiceAccountToken')).toBe(isOperator);
  for (const container of at(pod, 'containers') as object[]) {
    expect(container).toMatchObject({ securityContext: { readOnlyRootFilesystem: true }, readinessProbe: {} });
    expect(at(container, 'resources.requests')).toMatchObject({ cpu: expect.anything(), memory: expect.anything() });
    expect(at(container, 'resources.limits.cpu')).toBeUndefined();
    expect(at(container, 'resources.limits.memory')).toEqual(expect.any(String));
  }
}

type Rule = {
  readonly apiGroups: readonly string[];
  readonly resources: readonly string[];
  readonly verbs: readonly string[];
  readonly resourceNames?: readonly string[];
};

/** What rules allow, one thing each, however they are written. */
function allowed(rules: readonly Rule[]): Set<string> {
  return new Set(
    rules.flatMap(({ apiGroups, resources, verbs, resourceNames = ['any'] }) =>
      apiGroups.flatMap((group) =>
        resources.flatMap((resource) =>
          verbs.flatMap((verb) => resourceNames.map((name) => `${verb} ${resource}.${group} ${name}`)),
        ),
      ),
    ),
  );
}

describe('the rights of the operator', () => {
  const rulesOf = (objects: readonly Rendered[], kind: string) => allowed(at(find(objects, kind), 'rules') as Rule[]);

  it('are exactly those that it says it needs', async () => {
    const objects = await render(MINIMAL);
    expect(rulesOf(objects, 'ClusterRole')).toEqual(allowed(clusterRules()));
    const lease = { namespace: NAMESPACE, name: 'sluice-operator' };
    const own = [...ownNamespaceRules({ lease, pepperSecret: 'sluice-pepper' }), ...limiterNamespaceRules()];
    expect(rulesOf(objects, 'Role')).toEqual(allowed(own));
  });

  it('reach Secrets only in the namespaces that are named', async () => {
    const objects = await render({ ...MINIMAL, operator: { keyNamespaces: ['shop'] } });
    const inShop = objects.filter(({ metadata }) => metadata.namespace === 'shop');
    expect(rulesOf(inShop, 'Role')).toEqual(allowed(keyNamespaceRules()));
    expect(at(find(inShop, 'RoleBinding'), 'subjects.0')).toMatchObject({
      name: 'sluice-operator',
      namespace: NAMESPACE,
    });
    expect(envOf(find(objects, 'Deployment', '-operator'))).toMatchObject({ SLUICE_KEY_NAMESPACES: 'shop' });
  });
});

describe('the chart of the CRDs alone', () => {
  it('holds the same definitions as the chart of everything', async () => {
    const all = await render(MINIMAL);
    const alone = await render({}, { chart: 'sluice-crds' });
    expect(alone).toEqual(all.filter(({ kind }) => kind === 'CustomResourceDefinition'));
  });
});
