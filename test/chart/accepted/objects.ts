// What the cases of this folder are, and how they find their way in what was rendered.
import { at, find, type Rendered, type Values } from '../helm.ts';

/** Values that the chart accepts, and what has to come of them. */
export type Accepted = {
  readonly name: string;
  readonly values: Values;
  readonly args?: readonly string[];
  readonly expect: (objects: readonly Rendered[]) => void;
};

export const limiterOf = (objects: readonly Rendered[]) => find(objects, 'Deployment', '-limiter');
export const operatorOf = (objects: readonly Rendered[]) => find(objects, 'Deployment', '-operator');
export const podOf = (objects: readonly Rendered[], component: string) =>
  at(find(objects, 'Deployment', `-${component}`), 'spec.template.spec');
export const kindsOf = (objects: readonly Rendered[]) => objects.map(({ kind }) => kind);
export const secretRights = (objects: readonly Rendered[]) =>
  (at(find(objects, 'Role'), 'rules') as { resources: string[] }[]).filter(({ resources }) =>
    resources.includes('secrets'),
  );
export const withCoreos = [
  '--api-versions',
  'monitoring.coreos.com/v1/PodMonitor,monitoring.coreos.com/v1/PrometheusRule',
];
