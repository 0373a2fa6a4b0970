// The values of chart sluice, written once: values.yaml, values.schema.json and the table of README.md come from here.
import { z } from 'zod';

const DNS_LABEL = /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/;

const text = (description: string, preset = '') => z.string().default(preset).describe(description);
const flag = (description: string, preset: boolean) => z.boolean().default(preset).describe(description);
const count = (description: string, preset: number, least = 0, most = 1_000_000) =>
  z.int().min(least).max(most).default(preset).describe(description);
const port = (description: string, preset: number) => count(description, preset, 1, 65_535);
/** A piece of a pod, passed on as it is: the API server knows its schema better than we do. */
const map = (description: string, preset: Record<string, unknown> = {}) =>
  z.record(z.string(), z.unknown()).default(preset).describe(description);
const list = (description: string, preset: Record<string, unknown>[] = []) =>
  z.array(z.record(z.string(), z.unknown())).default(preset).describe(description);
const labels = (description: string) => z.record(z.string(), z.string()).default({}).describe(description);

function group<Shape extends z.core.$ZodLooseShape>(description: string, shape: Shape) {
  return z.strictObject(shape).describe(description);
}

const secretKey = (description: string, key: string) =>
  group(description, {
    name: text('Name of the Secret, in the namespace of the release.'),
    key: text('Key inside the Secret.', key),
  });

const pod = (name: string) => ({
  podAnnotations: labels(`Annotations of the ${name} pods.`),
  podLabels: labels(`Further labels of the ${name} pods.`),
  nodeSelector: labels(`Node selector of the ${name} pods.`),
  tolerations: list(`Tolerations of the ${name} pods.`),
  affinity: map(`Affinity of the ${name} pods.`),
  topologySpreadConstraints: list(`Replaces the default, which spreads the ${name} pods over zones and hosts.`),
  priorityClassName: text(`Priority class of the ${name} pods.`),
  extraEnv: list(
    `Further environment variables of the ${name}, as in a container. \`sluice ${name} --help\` lists all settings.`,
  ),
  logLevel: z
    .enum(['trace', 'debug', 'info', 'warn', 'error', 'fatal'])
    .default('info')
    .describe(`Least severe log lines that the ${name} writes.`),
  serviceAccount: group(`Service account of the ${name}.`, {
    create: flag('Create it.', true),
    name: text('Its name; empty = made from the release.'),
    annotations: labels('Its annotations.'),
  }),
  podDisruptionBudget: group(`Pod disruption budget of the ${name}.`, {
    enabled: flag('Create it.', true),
    maxUnavailable: z
      .union([z.int().min(0), z.string().regex(/^\d{1,2}%$|^100%$/)])
      .default(1)
      .describe('How many pods a drain may take at once: a number or a percentage.'),
  }),
});

const image = group('The one image of operator and limiter.', {
  repository: text('Repository. There is no public one yet: build with `make image` and push it to yours.', 'sluice'),
  tag: text('Tag; empty = the version of the application.'),
  digest: text('Digest (sha256:…); wins over the tag.'),
  pullPolicy: z.enum(['Always', 'IfNotPresent', 'Never']).default('IfNotPresent').describe('When it is pulled.'),
});

const redis = group('Where counters and the published configuration live. One of url, existingSecret, development.', {
  url: text(
    'redis://host[:port][/db], redis+sentinel://host[:port],…/primary[/db] or redis+cluster://host[:port],…; rediss instead of redis for TLS. Anything secret belongs into existingSecret instead.',
  ),
  existingSecret: group(
    'A Secret that holds the whole URL, with user name and password of an ACL user of Redis (redis+sentinel://user:password@…).',
    {
      name: text('Name of the Secret, in the namespace of the release.'),
      key: text('Key inside the Secret.', 'url'),
      limiterKey: text('Key of the URL for the limiters, when they have an ACL user of their own; empty = the same.'),
    },
  ),
  caSecret: secretKey('A Secret with the certificate authority of a Redis with TLS, in PEM.', 'ca.crt'),
  development: group('A small Redis inside the release. For trying out only: one pod, nothing on disk.', {
    enabled: flag('Start it, and use it.', false),
    image: text('Its image.', 'redis:7'),
    maxMemory: text('Its maxmemory.', '64mb'),
    resources: map('Its resources.', { requests: { cpu: '50m', memory: '64Mi' }, limits: { memory: '128Mi' } }),
  }),
});

const operator = group('The operator: publishes what the resources say, and writes back what is enforced.', {
  replicas: count('Pods; one leads, the others wait warm.', 2, 1, 5),
  resources: map('Resources.', { requests: { cpu: '100m', memory: '128Mi' }, limits: { memory: '512Mi' } }),
  keyNamespaces: z
    .array(z.string().regex(DNS_LABEL))
    .default([])
    .describe(
      'Namespaces whose Secrets with the label sluice.dev/api-key the operator may read. Elsewhere it reads none.',
    ),
  terminationGracePeriodSeconds: count('Seconds for an orderly stop.', 45, 1, 3_600),
  ...pod('operator'),
});

const autoscaling = group('Horizontal pod autoscaler of the limiter.', {
  enabled: flag('Create it; then `limiter.replicas` has no effect.', true),
  minReplicas: count('Least pods.', 2, 1, 1_000),
  maxReplicas: count('Most pods.', 10, 1, 1_000),
  targetCPUUtilizationPercentage: count('CPU that is aimed at, in percent of the request.', 60, 1, 100),
  extraMetrics: list('Further metrics (autoscaling/v2), for example the lag of the event loop through an adapter.'),
  behavior: map('How fast it scales: up at once, down slowly.', {
    scaleUp: {
      stabilizationWindowSeconds: 0,
      selectPolicy: 'Max',
      policies: [
        { type: 'Percent', value: 100, periodSeconds: 15 },
        { type: 'Pods', value: 4, periodSeconds: 15 },
      ],
    },
    scaleDown: {
      stabilizationWindowSeconds: 300,
      policies: [{ type: 'Percent', value: 25, periodSeconds: 60 }],
    },
  }),
});

const networks = (description: string, empty: string) =>
  z
    .array(z.string().regex(/^[0-9a-fA-F:.]+\/\d{1,3}$/))
    .default([])
    .describe(`${description} Empty = ${empty}.`);

const tls = group('TLS of the ports for callers, HTTP and gRPC.', {
  existingSecret: text(
    'Name of a Secret of type kubernetes.io/tls. Empty = without TLS. Read when a pod starts: restart the pods after a renewal.',
  ),
});

const limiter = group('The limiter: decides about requests.', {
  replicas: count('Pods, when autoscaling is off.', 2, 0, 1_000),
  resources: map('Resources. A pod uses one CPU; a CPU limit would only add latency.', {
    requests: { cpu: '1', memory: '192Mi' },
    limits: { memory: '512Mi' },
  }),
  checkDomain: text('Domain of POST /check, which names none.', 'default'),
  unknownDomain: z
    .enum(['Allow', 'Deny'])
    .default('Allow')
    .describe('What becomes of requests to a domain that no policy speaks of.'),
  trustedCallers: networks(
    'Networks whose words about consumer, tenant, tier, address and cost are believed.',
    'private networks',
  ),
  trustedProxyCIDRs: networks('Networks of gateways whose X-Forwarded-* headers are believed.', 'private networks'),
  opsAllowed: networks(
    'Networks that may ask the ops port for more than probes and metrics: explanations, penalties, pardons. They need `networkPolicy.extraIngress` as well.',
    'loopback only, which is what `kubectl port-forward` is',
  ),
  redisDeadlineMs: count(
    'Milliseconds that a decision waits for Redis before the failure policy decides.',
    100,
    1,
    60_000,
  ),
  metricsDetail: z
    .enum(['Domain', 'Policy', 'Rule'])
    .default('Policy')
    .describe('How finely metrics tell decisions apart. Finer makes more series.'),
  logDecisionsPerSecond: count('Log lines a second about denied requests, a sample of them; 0 = none.', 10, 0, 10_000),
  maxRememberedDenials: count(
    'Denials that a pod answers from memory for up to a second, 2.2 KB each; 0 = none.',
    14_000,
  ),
  maxSubjectsPerRule: count(
    'Subjects of one rule, in its longest window and seen by one pod, that have counters of their own; others share a few. A million takes 16 MiB.',
    1_000_000,
    1,
    10_000_000,
  ),
  tls,
  autoscaling,
  preStopSeconds: count('Seconds between leaving the Service and the signal to stop.', 5, 0, 300),
  drainSeconds: count('Seconds after the signal for which each answer asks its caller to go to another pod.', 2, 0, 60),
  terminationGracePeriodSeconds: count('Seconds for leaving the Service and an orderly stop together.', 30, 1, 3_600),
  grpc: group("Envoy's rate limit service, on a headless Service: gRPC callers balance by themselves.", {
    enabled: flag('Create the Service, and let callers reach it.', true),
    headless: flag('Without an address of its own; false for callers that cannot balance.', true),
    port: port('Port of the Service; a headless one needs 8081, on which the pods listen.', 8081),
    annotations: labels('Annotations of the Service.'),
  }),
  service: group('The Service that callers use.', {
    type: z.enum(['ClusterIP', 'NodePort', 'LoadBalancer']).default('ClusterIP').describe('Its type.'),
    port: port('Port of the HTTP decision API.', 80),
    annotations: labels('Its annotations.'),
    trafficDistribution: z
      .enum(['', 'PreferClose', 'PreferSameZone', 'PreferSameNode'])
      .default('')
      .describe('Whether pods nearby are preferred. Mind that it also concentrates load.'),
  }),
  ...pod('limiter'),
});

const networkPolicy = group('Network policies: only callers, only Prometheus, nothing else.', {
  enabled: flag('Create them. Your network has to enforce them.', true),
  callerLabels: z
    .record(z.string(), z.string())
    .default({ 'sluice.dev/caller': 'true' })
    .describe('Labels of the namespaces whose pods may ask the limiter.'),
  prometheusNamespace: text('Namespace from which metrics may be read; empty = none.', 'monitoring'),
  extraIngress: list('Further ingress rules of the limiter.'),
  redisPorts: z
    .array(z.int().min(1).max(65_535))
    .default([6379])
    .describe(
      'Ports to which operator and limiter may connect: of Redis, and of Sentinels (26379). All that redis.url names must be here.',
    ),
  redisPeers: list('Where Redis is (peers of an egress rule); empty = any address. The development Redis is known.'),
  apiServerPorts: z
    .array(z.int().min(1).max(65_535))
    .default([443, 6443])
    .describe('Ports of the API server, to which the operator may connect.'),
});

const RENDER_MODE = 'When the CRDs of the Prometheus operator are missing: leave it out, fail, or render all the same.';

const metrics = group('Prometheus and Grafana.', {
  monitor: z
    .enum(['None', 'PodMonitor', 'ServiceMonitor'])
    .default('PodMonitor')
    .describe('How the Prometheus operator finds the pods.'),
  renderMode: z.enum(['SkipIfMissing', 'FailIfMissing', 'Always']).default('SkipIfMissing').describe(RENDER_MODE),
  interval: z
    .string()
    .regex(/^\d+(ms|s|m)$/)
    .default('15s')
    .describe('How often metrics are read.'),
  labels: labels('Further labels of the monitors and rules, by which your Prometheus selects them.'),
  rules: group('Alerts (PrometheusRule).', {
    enabled: flag('Create them.', true),
    runbookUrl: text(
      'What stands before the name of the alert in lower case, in the link to its runbook: where you serve that page.',
      'docs/operations.md#',
    ),
  }),
  dashboard: group('Grafana dashboard, in a ConfigMap.', {
    enabled: flag('Create it.', false),
    labels: z
      .record(z.string(), z.string())
      .default({ grafana_dashboard: '1' })
      .describe('Labels by which the Grafana sidecar finds it.'),
  }),
});

export const chartValues = z.strictObject({
  nameOverride: text('Replaces the name of the chart in the names of objects.'),
  fullnameOverride: text('Replaces the whole prefix of the names of objects.'),
  installation: z
    .string()
    .regex(DNS_LABEL)
    .default('default')
    .describe('Tells installations on one Redis apart: a DNS label, part of every key.'),
  owner: text(
    'Whose configuration the Redis holds; another owner is refused. Empty = <namespace>/<release>. Set it when a release moves.',
  ),
  image,
  imagePullSecrets: list('Pull secrets of all pods.'),
  commonLabels: labels('Labels of every object.'),
  crds: group('Custom resource definitions.', {
    enabled: flag('Install and upgrade them with this release; false when the chart sluice-crds does.', true),
    keep: flag('Leave them, and with them all policies, when the release is uninstalled.', true),
  }),
  redis,
  pepper: group('The secret with which API keys are hashed. All keys depend on it.', {
    existingSecret: text(
      'Name of a Secret with the key `pepper`, of at least 16 characters. Empty = the operator makes one, once; it stays when the release goes.',
    ),
    isReplaced: flag('The Secret also has `previous-pepper`, by which keys are still found.', false),
  }),
  operator,
  limiter,
  networkPolicy,
  metrics,
});
