import { readFileSync } from 'node:fs';
import { hostname } from 'node:os';
import type { Option } from 'commander';
import { z } from 'zod';
import { type Raw, setting, toOptions } from './setting.ts';
import { dnsName, label, parseAll, serving, shared, type SharedSettings, sharedSettings } from './shared.ts';

const operatorOnly = {
  kubeconfig: setting(
    'kubeconfig',
    'path of a kubeconfig (default: the service account in a pod, else as kubectl)',
    z.string(),
  ),
  leaseName: setting(
    'lease-name',
    'Lease by which the operators of an installation agree on one leader (default: sluice-operator-<installation>)',
    dnsName,
  ),
  leaseSeconds: setting(
    'lease-seconds',
    'seconds after which another operator takes over from one that is dead',
    z.coerce.number().int().min(3).max(3600),
    '15',
  ),
  podNamespace: setting(
    'pod-namespace',
    'namespace of this pod: of its Lease, and of what is named without one (default: that of the service account, else "default")',
    label,
  ),
  pepperSecret: setting(
    'pepper-secret',
    'Secret in the namespace of this pod that holds the pepper, made with a random one if it is not there',
    dnsName,
  ),
  keyNamespaces: setting(
    'key-namespaces',
    'namespaces, with commas, whose Secrets labelled sluice.dev/api-key may hold API keys (default: none)',
    z
      .string()
      .max(16_384)
      .regex(
        /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?(,[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)*$/,
        'must be namespaces with commas',
      ),
  ),
  limiterService: setting(
    'limiter-service',
    '[namespace/]name of the Service of the limiters: its ready pods must acknowledge (default: the pods heard of lately)',
    z
      .string()
      .max(317)
      .regex(/^([a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?\/)?[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/, 'must be [namespace/]name'),
  ),
  apiRequestsPerSecond: setting(
    'api-requests-per-second',
    'requests to the API server a second, on average; twice as many at once after a pause',
    z.coerce.number().min(1).max(10_000),
    '50',
  ),
} as const;

export type OperatorSettings = Omit<SharedSettings, 'pepper'> & {
  readonly pepper: string | { readonly secret: { readonly namespace: string; readonly name: string } };
  readonly kubeconfig: string | undefined;
  readonly host: string;
  readonly opsPort: number;
  readonly pod: string;
  readonly lease: { readonly namespace: string; readonly name: string; readonly seconds: number };
  readonly keyNamespaces: readonly string[];
  readonly limiterService: { readonly namespace: string; readonly name: string } | undefined;
  readonly apiRequestsPerSecond: number;
};

const all = { ...shared, ...serving, ...operatorOnly };

export const operatorOptions = (): Option[] => toOptions(all);

/** Throws SettingsError with everything that is wrong. */
export function operatorSettings(raw: Raw): OperatorSettings {
  const values = parseAll(all, raw);
  const { pepper, ...settings } = sharedSettings(values);
  const namespace = String(values['podNamespace'] ?? namespaceOfServiceAccount() ?? 'default');
  const service = values['limiterService'];
  return {
    ...settings,
    pepper:
      values['pepperSecret'] === undefined ? pepper : { secret: { namespace, name: String(values['pepperSecret']) } },
    kubeconfig: values['kubeconfig'] === undefined ? undefined : String(values['kubeconfig']),
    host: String(values['host']),
    opsPort: Number(values['opsPort']),
    pod: String(values['podName'] ?? hostname()),
    lease: {
      namespace,
      name: String(values['leaseName'] ?? `sluice-operator-${settings.installation}`),
      seconds: Number(values['leaseSeconds']),
    },
    keyNamespaces: values['keyNamespaces'] === undefined ? [] : String(values['keyNamespaces']).split(','),
    limiterService: service === undefined ? undefined : inNamespace(String(service), namespace),
    apiRequestsPerSecond: Number(values['apiRequestsPerSecond']),
  };
}

function inNamespace(text: string, namespace: string): { namespace: string; name: string } {
  const [first = '', second] = text.split('/');
  return second === undefined ? { namespace, name: first } : { namespace: first, name: second };
}

/** Where Kubernetes tells a pod in which namespace it is. */
function namespaceOfServiceAccount(): string | undefined {
  try {
    return readFileSync('/var/run/secrets/kubernetes.io/serviceaccount/namespace', 'utf8').trim();
  } catch {
    return undefined;
  }
}
