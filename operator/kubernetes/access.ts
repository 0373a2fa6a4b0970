// Everything that the operator asks of the API server, as the rules that allow exactly that. The chart grants these;
// a test runs the operator under them.
import { allKinds, resourceKinds } from '../../policy/schema/kinds.ts';
import { GROUP } from '../../policy/schema/to-crd.ts';
import type { LeaseName } from './lease.ts';

/** A rule of a Role or ClusterRole. */
export type AccessRule = {
  readonly apiGroups: readonly string[];
  readonly resources: readonly string[];
  readonly verbs: readonly string[];
  readonly resourceNames?: readonly string[];
};

export type AccessOptions = {
  readonly lease: LeaseName;
  /** Name of the Secret of the pepper, if the operator makes it. */
  readonly pepperSecret?: string;
};

/** For a ClusterRole. */
export function clusterRules(): AccessRule[] {
  const plurals = allKinds.map((kind) => resourceKinds[kind].plural);
  return [
    { apiGroups: [GROUP], resources: plurals, verbs: ['list', 'watch'] },
    { apiGroups: [GROUP], resources: plurals.map((plural) => `${plural}/status`), verbs: ['patch'] },
    { apiGroups: ['events.k8s.io'], resources: ['events'], verbs: ['create', 'patch'] },
    {
      apiGroups: ['apiextensions.k8s.io'],
      resources: ['customresourcedefinitions'],
      resourceNames: plurals.map((plural) => `${plural}.${GROUP}`),
      verbs: ['get'],
    },
  ];
}

/** For a Role in the namespace of the operator. */
export function ownNamespaceRules({ lease, pepperSecret }: AccessOptions): AccessRule[] {
  const leases = { apiGroups: ['coordination.k8s.io'], resources: ['leases'] };
  const secrets = { apiGroups: [''], resources: ['secrets'] };
  return [
    // What is to be created cannot be limited by name.
    { ...leases, verbs: ['create'] },
    { ...leases, resourceNames: [lease.name], verbs: ['get', 'update'] },
    ...(pepperSecret === undefined
      ? []
      : [
          { ...secrets, verbs: ['create'] },
          { ...secrets, resourceNames: [pepperSecret], verbs: ['get'] },
        ]),
  ];
}

/** For a Role in the namespace of the limiters' Service. */
export function limiterNamespaceRules(): AccessRule[] {
  return [{ apiGroups: ['discovery.k8s.io'], resources: ['endpointslices'], verbs: ['list', 'watch'] }];
}

/** For a Role in each namespace whose Secrets may hold API keys. */
export function keyNamespaceRules(): AccessRule[] {
  return [{ apiGroups: [''], resources: ['secrets'], verbs: ['list', 'watch'] }];
}
