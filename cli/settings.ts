import { readFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { createSecureContext } from 'node:tls';
import { Option } from 'commander';
import { z } from 'zod';
import { parseRedisUrl, REDIS_URL_FORMS } from '../store/redis-target.ts';
import { DOOR_DEFAULTS, type DoorSettings } from '../limiter/door-settings.ts';
import { HEADER_FAMILIES, isHeaderFamily } from '../limiter/rate-limit-headers.ts';
import { METRICS_DETAILS, type MetricsDetail } from '../limiter/metrics.ts';
import { LOG_DENIED_PER_SECOND, MAX_REMEMBERED_DENIALS, MAX_SUBJECTS_PER_RULE } from '../limiter/options.ts';
import { isNetwork, PRIVATE_NETWORKS } from '../limiter/trust.ts';

/** Wrong settings; the message lists all of them, one per line. */
export class SettingsError extends Error {
  override readonly name = 'SettingsError';
}

type Setting = {
  readonly flag: string;
  readonly env: string;
  readonly about: string;
  readonly schema: z.ZodType<string | number>;
  readonly preset?: string;
};

/** Several values in one setting, separated by commas. */
function listOf(isAllowed: (item: string) => boolean, allowed: string) {
  return z
    .string()
    .refine((text) => itemsOf(text).every(isAllowed), { error: `must be ${allowed}, separated by commas` });
}

const itemsOf = (text: unknown): readonly string[] =>
  String(text)
    .split(',')
    .map((item) => item.trim())
    .filter((item) => item !== '');

const networks = listOf(isNetwork, 'networks such as 10.0.0.0/8');
const families = listOf(
  (item) => item === 'none' || isHeaderFamily(item),
  `none, or some of ${HEADER_FAMILIES.join(', ')}`,
).refine((text) => itemsOf(text).filter((item) => item.startsWith('x-ratelimit')).length <= 1, {
  error: 'must not name two families of X-RateLimit headers: their Reset has different meanings',
});

const port = z.coerce.number().int().min(0).max(65_535);
const label = z.string().regex(/^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/, 'must be a DNS label');

const dnsName = z.string().regex(/^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$/, 'must be a DNS name');

const shared = {
  redisUrl: setting(
    'redis-url',
    `where Redis is: ${REDIS_URL_FORMS}`,
    z.string().refine((text) => parseRedisUrl(text) !== undefined, { error: `must be ${REDIS_URL_FORMS}` }),
    'redis://127.0.0.1:6379',
  ),
  installation: setting('installation', 'tells installations on one Redis apart: a DNS label', label, 'default'),
  owner: setting(
    'owner',
    'whose configuration this is; a Redis of another owner is refused (default: the installation)',
    z.string().min(1).max(253),
  ),
  pepper: setting(
    'pepper',
    'secret with which API keys are hashed, at least 16 characters; prefer --pepper-file',
    z.string().min(16),
  ),
  pepperFile: setting('pepper-file', 'file that holds the pepper', z.string()),
  logLevel: setting(
    'log-level',
    'trace, debug, info, warn, error or fatal',
    z.enum(['trace', 'debug', 'info', 'warn', 'error', 'fatal']),
    'info',
  ),
} as const;

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

const serving = {
  host: setting('host', 'address to listen on', z.string(), '0.0.0.0'),
  opsPort: setting('ops-port', 'port of probes and metrics', port, '9090'),
  podName: setting(
    'pod-name',
    'name of this pod, unique in the installation (default: the host name)',
    z.string().min(1).max(253),
  ),
} as const;

const limiterOnly = {
  host: serving.host,
  port: setting('port', 'port of the decision API', port, '8080'),
  opsPort: serving.opsPort,
  podName: serving.podName,
  previousPepperFile: setting(
    'previous-pepper-file',
    'file that holds the pepper before this one, while it is being replaced',
    z.string(),
  ),
  unknownDomain: setting(
    'unknown-domain',
    'what becomes of requests to a domain that no policy speaks of: Allow or Deny',
    z.enum(['Allow', 'Deny']),
    'Allow',
  ),
  checkDomain: setting('check-domain', 'domain of POST /check', z.string().min(1).max(253), 'default'),
  redisDeadlineMs: setting(
    'redis-deadline-ms',
    'milliseconds that a decision waits for Redis',
    z.coerce.number().int().min(1).max(60_000),
    '100',
  ),
  snapshotUrl: setting(
    'snapshot-url',
    "the operator's /snapshot, for a start while Redis is away (default: none)",
    z.url({ protocol: /^https?$/ }),
  ),
  grpcPort: setting('grpc-port', "port of Envoy's rate limit service", port, '8081'),
  trustedCallers: setting(
    'trusted-callers',
    'networks whose words about consumer, tenant, tier, address and cost are believed',
    networks,
    PRIVATE_NETWORKS.join(','),
  ),
  trustedProxyCidrs: setting(
    'trusted-proxy-cidrs',
    'networks of gateways whose X-Forwarded-* headers are believed',
    networks,
    PRIVATE_NETWORKS.join(','),
  ),
  opsAllowed: setting(
    'ops-allowed',
    'networks that may ask the ops port for more than probes and metrics: explanations, penalties, pardons',
    networks,
    DOOR_DEFAULTS.opsAllowed.join(','),
  ),
  rateLimitHeaders: setting(
    'rate-limit-headers',
    `how clients are told of their limits: none, or some of ${HEADER_FAMILIES.join(', ')}`,
    families,
    DOOR_DEFAULTS.headerFamilies.join(','),
  ),
  rlsHeaders: setting(
    'rls-headers',
    'the same for what Envoy is asked to add to responses',
    families,
    DOOR_DEFAULTS.rlsHeaderFamilies.join(','),
  ),
  grpcMaxConnectionAgeSeconds: setting(
    'grpc-max-connection-age-seconds',
    'after so long a gRPC connection is closed gently, so that callers find new pods',
    z.coerce.number().int().min(1).max(86_400),
    String(DOOR_DEFAULTS.grpcMaxConnectionAgeMillis / 1000),
  ),
  tlsCertFile: setting('tls-cert-file', 'certificate chain (PEM) of the HTTP and gRPC ports; needs a key', z.string()),
  tlsKeyFile: setting('tls-key-file', 'private key (PEM) of that certificate', z.string()),
  maxRememberedDenials: setting(
    'max-remembered-denials',
    'denials that are answered from memory for up to a second, 2.2 KB each; 0 = none',
    z.coerce.number().int().min(0).max(1_000_000),
    String(MAX_REMEMBERED_DENIALS),
  ),
  maxSubjectsPerRule: setting(
    'max-subjects-per-rule',
    'subjects of one rule, in its longest window and seen by this pod, that have counters of their own; others share a few',
    z.coerce.number().int().min(1).max(10_000_000),
    String(MAX_SUBJECTS_PER_RULE),
  ),
  logDecisionsPerSecond: setting(
    'log-decisions-per-second',
    'log lines a second about denied requests, a sample of them; 0 = none',
    z.coerce.number().int().min(0).max(10_000),
    String(LOG_DENIED_PER_SECOND),
  ),
  logAllowedDecisionsPerSecond: setting(
    'log-allowed-decisions-per-second',
    'the same about allowed requests',
    z.coerce.number().int().min(0).max(10_000),
    '0',
  ),
  metricsDetail: setting(
    'metrics-detail',
    `how finely metrics tell decisions apart: ${METRICS_DETAILS.join(', ')}`,
    z.enum(METRICS_DETAILS),
    'Policy',
  ),
  drainMs: setting(
    'drain-ms',
    'milliseconds for which a pod that stops still answers, while others notice',
    z.coerce.number().int().min(0).max(60_000),
    '2000',
  ),
} as const;

const SECRET: ReadonlySet<string> = new Set(['pepper', 'redisUrl']);

const PEPPER_MISSING = '--pepper-file (SLUICE_PEPPER_FILE) or --pepper (SLUICE_PEPPER) is required';
const PEPPER_TWICE =
  '--pepper-secret (SLUICE_PEPPER_SECRET): must not be given together with --pepper or --pepper-file';

type Values = Readonly<Record<string, string | number | undefined>>;
type Raw = Readonly<Record<string, string | undefined>>;

export type SharedSettings = {
  readonly redisUrl: string;
  readonly installation: string;
  readonly owner: string;
  readonly pepper: string;
  readonly logLevel: string;
};
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
export type LimiterSettings = SharedSettings & {
  readonly host: string;
  readonly port: number;
  readonly opsPort: number;
  readonly pod: string;
  readonly previousPepper: string | undefined;
  readonly unknownDomain: 'Allow' | 'Deny';
  readonly checkDomain: string;
  readonly redisDeadlineMillis: number;
  readonly snapshotUrl: string | undefined;
  readonly maxRememberedDenials: number;
  readonly maxSubjectsPerRule: number;
  readonly metricsDetail: MetricsDetail;
  readonly logAllowedPerSecond: number;
  readonly logDeniedPerSecond: number;
  readonly doors: DoorSettings;
};

const operatorAll = { ...shared, ...serving, ...operatorOnly };

export const operatorOptions = (): Option[] => toOptions(operatorAll);
export const limiterOptions = (): Option[] => toOptions({ ...shared, ...limiterOnly });

/** Throws SettingsError with everything that is wrong. */
export function operatorSettings(raw: Raw): OperatorSettings {
  const values = parse(operatorAll, raw);
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

/** Throws SettingsError with everything that is wrong. */
export function limiterSettings(raw: Raw): LimiterSettings {
  const values = parse({ ...shared, ...limiterOnly }, raw);
  return {
    ...sharedSettings(values),
    host: String(values['host']),
    port: Number(values['port']),
    opsPort: Number(values['opsPort']),
    pod: String(values['podName'] ?? hostname()),
    previousPepper: values['previousPepper'] === undefined ? undefined : String(values['previousPepper']),
    unknownDomain: values['unknownDomain'] === 'Deny' ? 'Deny' : 'Allow',
    checkDomain: String(values['checkDomain']),
    redisDeadlineMillis: Number(values['redisDeadlineMs']),
    snapshotUrl: values['snapshotUrl'] === undefined ? undefined : String(values['snapshotUrl']),
    maxRememberedDenials: Number(values['maxRememberedDenials']),
    maxSubjectsPerRule: Number(values['maxSubjectsPerRule']),
    metricsDetail: METRICS_DETAILS.find((detail) => detail === values['metricsDetail']) ?? 'Policy',
    logAllowedPerSecond: Number(values['logAllowedDecisionsPerSecond']),
    logDeniedPerSecond: Number(values['logDecisionsPerSecond']),
    doors: doorSettings(values),
  };
}

function doorSettings(values: Values): DoorSettings {
  return {
    grpcPort: Number(values['grpcPort']),
    trustedCallers: itemsOf(values['trustedCallers']),
    trustedProxyCIDRs: itemsOf(values['trustedProxyCidrs']),
    opsAllowed: itemsOf(values['opsAllowed']),
    headerFamilies: itemsOf(values['rateLimitHeaders']).filter(isHeaderFamily),
    rlsHeaderFamilies: itemsOf(values['rlsHeaders']).filter(isHeaderFamily),
    grpcMaxConnectionAgeMillis: Number(values['grpcMaxConnectionAgeSeconds']) * 1000,
    drainMillis: Number(values['drainMs']),
    tls: tlsOf(values),
  };
}

/** Throws SettingsError. */
function tlsOf(values: Values): DoorSettings['tls'] {
  const [certFile, keyFile] = [values['tlsCertFile'], values['tlsKeyFile']];
  if (certFile === undefined && keyFile === undefined) return undefined;
  if (certFile === undefined || keyFile === undefined) {
    throw new SettingsError(
      '--tls-cert-file (SLUICE_TLS_CERT_FILE) and --tls-key-file (SLUICE_TLS_KEY_FILE) need each other',
    );
  }
  try {
    const tls = { cert: readFileSync(String(certFile), 'utf8'), key: readFileSync(String(keyFile), 'utf8') };
    createSecureContext(tls);
    return tls;
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new SettingsError(`--tls-cert-file "${certFile}" and --tls-key-file "${keyFile}": ${why}`);
  }
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

function setting(flag: string, about: string, schema: z.ZodType<string | number>, preset?: string): Setting {
  const env = `SLUICE_${flag.replaceAll('-', '_').toUpperCase()}`;
  return { flag, env, about, schema, ...(preset === undefined ? {} : { preset }) };
}

function toOptions(settings: Readonly<Record<string, Setting>>): Option[] {
  return Object.values(settings).map(({ flag, env, about, preset }) => {
    const option = new Option(`--${flag} <value>`, about).env(env);
    return preset === undefined ? option : option.default(preset);
  });
}

function parse(settings: Readonly<Record<string, Setting>>, raw: Raw): Values {
  const values: Record<string, string | number | undefined> = {};
  const errors: string[] = [];
  for (const [name, { flag, env, schema }] of Object.entries(settings)) {
    if (raw[name] === undefined) continue;
    const parsed = schema.safeParse(raw[name]);
    if (parsed.success) values[name] = parsed.data;
    else {
      // What may hold a secret is not repeated.
      const value = SECRET.has(name) ? '' : ` ${JSON.stringify(raw[name])}`;
      const hint = name === 'redisUrl' ? '; special characters in a password must be percent-encoded' : '';
      errors.push(`--${flag} (${env})${value}: ${parsed.error.issues[0]?.message ?? 'is not allowed'}${hint}`);
    }
  }
  if (values['pepperSecret'] !== undefined) {
    if (raw['pepper'] !== undefined || raw['pepperFile'] !== undefined) errors.push(PEPPER_TWICE);
  } else if (values['pepperFile'] !== undefined)
    values['pepper'] = readPepper(shared.pepperFile, String(values['pepperFile']), errors);
  else if (raw['pepper'] === undefined) errors.push(PEPPER_MISSING);
  if (values['previousPepperFile'] !== undefined) {
    values['previousPepper'] = readPepper(limiterOnly.previousPepperFile, String(values['previousPepperFile']), errors);
  }
  if (errors.length > 0) throw new SettingsError(errors.join('\n'));
  return values;
}

function readPepper({ flag, env }: Setting, file: string, errors: string[]): string | undefined {
  const refuse = (why: string): void => void errors.push(`--${flag} (${env}) "${file}": ${why}`);
  try {
    const pepper = readFileSync(file, 'utf8').trim();
    if (pepper.length >= 16) return pepper;
    refuse('must hold at least 16 characters');
  } catch (error) {
    refuse(error instanceof Error ? error.message : String(error));
  }
  return undefined;
}

function sharedSettings(values: Values): SharedSettings {
  return {
    redisUrl: String(values['redisUrl']),
    installation: String(values['installation']),
    owner: String(values['owner'] ?? values['installation']),
    pepper: String(values['pepper']),
    logLevel: String(values['logLevel']),
  };
}
