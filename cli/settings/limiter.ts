import { readFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { createSecureContext } from 'node:tls';
import type { Option } from 'commander';
import { z } from 'zod';
import { DOOR_DEFAULTS, type DoorSettings } from '../../limiter/door-settings.ts';
import { METRICS_DETAILS, type MetricsDetail } from '../../limiter/metrics.ts';
import { LOG_DENIED_PER_SECOND, MAX_REMEMBERED_DENIALS, MAX_SUBJECTS_PER_RULE } from '../../limiter/options.ts';
import { HEADER_FAMILIES, isHeaderFamily } from '../../limiter/rate-limit-headers.ts';
import { isNetwork, PRIVATE_NETWORKS } from '../../limiter/trust.ts';
import { itemsOf, listOf, type Raw, setting, SettingsError, toOptions, type Values } from './setting.ts';
import { parseAll, port, serving, shared, type SharedSettings, sharedSettings } from './shared.ts';

const networks = listOf(isNetwork, 'networks such as 10.0.0.0/8');
const families = listOf(
  (item) => item === 'none' || isHeaderFamily(item),
  `none, or some of ${HEADER_FAMILIES.join(', ')}`,
).refine((text) => itemsOf(text).filter((item) => item.startsWith('x-ratelimit')).length <= 1, {
  error: 'must not name two families of X-RateLimit headers: their Reset has different meanings',
});

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

const all = { ...shared, ...limiterOnly };

export const limiterOptions = (): Option[] => toOptions(all);

/** Throws SettingsError with everything that is wrong. */
export function limiterSettings(raw: Raw): LimiterSettings {
  const values = parseAll(all, raw);
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
