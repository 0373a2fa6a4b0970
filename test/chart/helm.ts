// Renders the charts as users do, with the real Helm.
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { parseAllDocuments } from 'yaml';
import { findAsset } from '../control-plane/assets.ts';

export type Values = Readonly<Record<string, unknown>>;

/** A rendered object; the parts of it that tests look at are read with `at`. */
export type Rendered = {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: {
    readonly name: string;
    readonly namespace?: string;
    readonly labels: Readonly<Record<string, string>>;
    readonly annotations?: Readonly<Record<string, string>>;
  };
};

export type RenderOptions = {
  readonly chart?: 'sluice' | 'sluice-crds';
  readonly release?: string;
  readonly args?: readonly string[];
};

export const NAMESPACE = 'sluice-system';

/** The least that the chart wants to be told. */
export const MINIMAL: Values = {
  redis: { url: 'redis://redis.example:6379' },
};

const CHARTS = join(import.meta.dirname, '../../charts');

/** The objects that the chart makes of the values. */
export async function render(values: Values, options: RenderOptions = {}): Promise<Rendered[]> {
  const { status, stdout, stderr } = await template(values, options);
  if (status !== 0) throw new Error(`helm template failed:\n${stderr}`);
  return parseAllDocuments(stdout)
    .map((document) => {
      if (document.errors.length > 0) throw document.errors[0];
      return document.toJS() as Rendered | null;
    })
    .filter((object) => object !== null);
}

/** What Helm says when it refuses the values. */
export async function refusal(values: Values, options: RenderOptions = {}): Promise<string> {
  const { status, stderr } = await template(values, options);
  if (status === 0) throw new Error('helm template should have failed');
  return stderr;
}

type Outcome = { readonly status: number; readonly stdout: string; readonly stderr: string };

async function template(values: Values, { chart = 'sluice', release = 'sluice', args = [] }: RenderOptions) {
  const command = ['template', release, join(CHARTS, chart), '--namespace', NAMESPACE, '--values', '-', ...args];
  return runHelm(command, JSON.stringify(values));
}

export async function runHelm(args: readonly string[], stdin = ''): Promise<Outcome> {
  const helm = await findAsset('helm');
  return new Promise((resolve) => {
    const child = execFile(helm, args, { maxBuffer: 64 * 1024 * 1024 }, (error, stdout, stderr) => {
      resolve({ status: error === null ? 0 : Number(error.code ?? 1), stdout, stderr });
    });
    child.stdin?.end(stdin);
  });
}

/** The one object of a kind whose name ends so. */
export function find(objects: readonly Rendered[], kind: string, suffix = ''): Rendered {
  const found = objects.filter((object) => object.kind === kind && object.metadata.name.endsWith(suffix));
  const [only] = found;
  if (only === undefined || found.length > 1) throw new Error(`${found.length} ${kind} end in "${suffix}"`);
  return only;
}

/** What is at a path such as `spec.template.spec.containers.0.env`; undefined if nothing is. */
export function at(object: unknown, path: string): unknown {
  let value = object;
  for (const step of path.split('.')) {
    if (typeof value !== 'object' || value === null) return undefined;
    value = (value as Record<string, unknown>)[step];
  }
  return value;
}

type EnvironmentVariable = { readonly name: string; readonly value?: string; readonly valueFrom?: unknown };

export function envOf(deployment: Rendered): Readonly<Record<string, unknown>> {
  const env = at(deployment, 'spec.template.spec.containers.0.env') as EnvironmentVariable[];
  return Object.fromEntries(env.map(({ name, value, valueFrom }) => [name, value ?? valueFrom]));
}
