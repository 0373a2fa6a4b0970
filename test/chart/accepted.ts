// Values that the chart accepts, and what has to come of each. Merged over MINIMAL.
import { expect } from 'vitest';
import { allKinds } from '../../policy/schema/kinds.ts';
import { SCHEMA_NUMBER } from '../../policy/schema/to-crd.ts';
import { at, envOf, find, MINIMAL, type Rendered, type Values } from './helm.ts';

export type Accepted = {
  readonly name: string;
  readonly values: Values;
  readonly args?: readonly string[];
  readonly expect: (objects: readonly Rendered[]) => void;
};

const limiterOf = (objects: readonly Rendered[]) => find(objects, 'Deployment', '-limiter');
const operatorOf = (objects: readonly Rendered[]) => find(objects, 'Deployment', '-operator');
const podOf = (objects: readonly Rendered[], component: string) =>
  at(find(objects, 'Deployment', `-${component}`), 'spec.template.spec');
const kindsOf = (objects: readonly Rendered[]) => objects.map(({ kind }) => kind);
const secretRights = (objects: readonly Rendered[]) =>
  (at(find(objects, 'Role'), 'rules') as { resources: string[] }[]).filter(({ resources }) =>
    resources.includes('secrets'),
  );
const withCoreos = ['--api-versions', 'monitoring.coreos.com/v1/PodMonitor,monitoring.coreos.com/v1/PrometheusRule'];

const naming: Accepted[] = [
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
];

const image: Accepted[] = [
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
];

const redis: Accepted[] = [
  {
    name: 'a Redis with TLS and a certificate authority',
    values: {
      redis: { url: 'rediss://redis.example:6380', caSecret: { name: 'redis-ca' } },
      networkPolicy: { redisPorts: [6380] },
    },
    expect: (objects) => {
      expect(envOf(limiterOf(objects))).toMatchObject({
        SLUICE_REDIS_URL: 'rediss://redis.example:6380',
        NODE_EXTRA_CA_CERTS: '/etc/sluice/redis-ca/ca.crt',
      });
      expect(at(podOf(objects, 'operator'), 'volumes')).toContainEqual(
        expect.objectContaining({ name: 'redis-ca', secret: expect.objectContaining({ secretName: 'redis-ca' }) }),
      );
    },
  },
  ...['redis+sentinel://a:26379,b/primary', 'rediss+sentinel://[::1]:26379,b:26379/primary/2'].map((url) => ({
    name: `Sentinels (${url})`,
    values: { redis: { url }, networkPolicy: { redisPorts: [6379, 26_379] } },
    expect: (objects: readonly Rendered[]) => expect(envOf(operatorOf(objects))['SLUICE_REDIS_URL']).toBe(url),
  })),
  ...['redis+cluster://a,b:6379,c', 'rediss+cluster://a/'].map((url) => ({
    name: `a Redis Cluster (${url})`,
    values: { redis: { url } },
    expect: (objects: readonly Rendered[]) => expect(envOf(limiterOf(objects))['SLUICE_REDIS_URL']).toBe(url),
  })),
  {
    name: 'Sentinels whose ports no network policy looks at',
    values: { redis: { url: 'redis+sentinel://a/primary' }, networkPolicy: { enabled: false } },
    expect: (objects) => expect(kindsOf(objects)).not.toContain('NetworkPolicy'),
  },
  {
    name: 'the URL of Redis from a Secret',
    values: { redis: { url: '', existingSecret: { name: 'redis', key: 'whole-url' } } },
    expect: (objects) =>
      expect(envOf(operatorOf(objects))['SLUICE_REDIS_URL']).toEqual({
        secretKeyRef: { name: 'redis', key: 'whole-url' },
      }),
  },
  {
    name: 'a user of Redis for each role',
    values: { redis: { url: '', existingSecret: { name: 'redis', limiterKey: 'limiter' } } },
    expect: (objects) => {
      const keyOf = (deployment: Rendered) => at(envOf(deployment)['SLUICE_REDIS_URL'], 'secretKeyRef.key');
      expect([keyOf(operatorOf(objects)), keyOf(limiterOf(objects))]).toEqual(['url', 'limiter']);
    },
  },
  {
    name: 'the development Redis',
    values: { redis: { url: '', development: { enabled: true } } },
    expect: (objects) => {
      expect(envOf(limiterOf(objects))['SLUICE_REDIS_URL']).toBe('redis://sluice-redis:6379');
      expect(find(objects, 'Deployment', '-redis').metadata.annotations).toEqual({
        'sluice.dev/purpose': 'development only',
      });
      expect(at(find(objects, 'NetworkPolicy', '-redis'), 'spec.ingress.0.from')).toHaveLength(2);
      expect(
        at(find(objects, 'NetworkPolicy', '-limiter'), 'spec.egress.0.to.0.podSelector.matchLabels'),
      ).toMatchObject({ 'app.kubernetes.io/component': 'redis' });
    },
  },
  {
    name: 'a pepper that the operator makes',
    values: {},
    expect: (objects) => {
      expect(envOf(operatorOf(objects))).toMatchObject({ SLUICE_PEPPER_SECRET: 'sluice-pepper' });
      expect(at(podOf(objects, 'limiter'), 'volumes.0.secret.secretName')).toBe('sluice-pepper');
      expect(secretRights(objects)).toEqual([
        { apiGroups: [''], resources: ['secrets'], resourceNames: ['sluice-pepper'], verbs: ['get'] },
        { apiGroups: [''], resources: ['secrets'], verbs: ['create'] },
      ]);
    },
  },
  {
    name: 'a pepper that is given, and is not made',
    values: { pepper: { existingSecret: 'mine' } },
    expect: (objects) => {
      expect(envOf(operatorOf(objects))).toMatchObject({ SLUICE_PEPPER_SECRET: 'mine' });
      expect(at(podOf(objects, 'limiter'), 'volumes.0.secret.secretName')).toBe('mine');
      expect(secretRights(objects)).toEqual([
        { apiGroups: [''], resources: ['secrets'], resourceNames: ['mine'], verbs: ['get'] },
      ]);
    },
  },
];

const limiter: Accepted[] = [
  {
    name: 'a configuration from the operator for limiters that start while Redis is away',
    values: {},
    expect: (objects) => {
      expect(envOf(limiterOf(objects))).toMatchObject({
        SLUICE_SNAPSHOT_URL: 'http://sluice-operator:9090/snapshot',
      });
      expect(at(find(objects, 'Service', 'sluice-operator'), 'spec')).toMatchObject({
        selector: { 'app.kubernetes.io/component': 'operator' },
        ports: [{ port: 9090, targetPort: 'ops' }],
      });
      const operator = { podSelector: { matchLabels: { 'app.kubernetes.io/component': 'operator' } } };
      expect(at(find(objects, 'NetworkPolicy', '-limiter'), 'spec.egress.2')).toMatchObject({
        to: [operator],
        ports: [{ port: 9090 }],
      });
      expect(at(find(objects, 'NetworkPolicy', '-operator'), 'spec.ingress.0')).toMatchObject({
        from: [{ podSelector: { matchLabels: { 'app.kubernetes.io/component': 'limiter' } } }],
        ports: [{ port: 'ops' }],
      });
    },
  },
  {
    name: 'TLS for callers',
    values: { limiter: { tls: { existingSecret: 'edge-tls' } } },
    expect: (objects) => {
      expect(envOf(limiterOf(objects))).toMatchObject({
        SLUICE_TLS_CERT_FILE: '/etc/sluice/tls/tls.crt',
        SLUICE_TLS_KEY_FILE: '/etc/sluice/tls/tls.key',
      });
      expect(at(podOf(objects, 'limiter'), 'volumes')).toContainEqual({
        name: 'tls',
        secret: expect.objectContaining({ secretName: 'edge-tls' }),
      });
      expect(at(podOf(objects, 'limiter'), 'containers.0.volumeMounts')).toContainEqual({
        name: 'tls',
        mountPath: '/etc/sluice/tls',
        readOnly: true,
      });
      expect(at(find(objects, 'Service', '-limiter'), 'spec.ports.0.appProtocol')).toBe('https');
      expect(String(at(find(objects, 'Pod', '-test'), 'spec.containers.0.args.0'))).toContain(
        "fetch('https://sluice-limiter:80/",
      );
    },
  },
  {
    name: 'gRPC on a headless Service',
    values: {},
    expect: (objects) => {
      expect(at(find(objects, 'Service', '-grpc'), 'spec')).toMatchObject({
        clusterIP: 'None',
        ports: [{ name: 'grpc', port: 8081, targetPort: 'grpc' }],
      });
      expect(at(find(objects, 'NetworkPolicy', '-limiter'), 'spec.ingress.0.ports')).toHaveLength(2);
    },
  },
  {
    name: 'gRPC on a Service with an address, at another port',
    values: { limiter: { grpc: { headless: false, port: 80, annotations: { a: 'b' } } } },
    expect: (objects) => {
      const service = find(objects, 'Service', '-grpc');
      expect(at(service, 'spec.clusterIP')).toBeUndefined();
      expect(at(service, 'spec.ports.0.port')).toBe(80);
      expect(service.metadata.annotations).toEqual({ a: 'b' });
    },
  },
  {
    name: 'no gRPC',
    values: { limiter: { grpc: { enabled: false } } },
    expect: (objects) => {
      expect(objects.filter(({ metadata }) => metadata.name.endsWith('-grpc'))).toEqual([]);
      expect(at(find(objects, 'NetworkPolicy', '-limiter'), 'spec.ingress.0.ports')).toHaveLength(1);
    },
  },
  {
    name: 'how much a pod tells and remembers',
    values: {
      limiter: {
        metricsDetail: 'Rule',
        logDecisionsPerSecond: 0,
        maxRememberedDenials: 1_000_000,
        maxSubjectsPerRule: 2_000_000,
      },
    },
    expect: (objects) =>
      expect(envOf(limiterOf(objects))).toMatchObject({
        SLUICE_METRICS_DETAIL: 'Rule',
        SLUICE_LOG_DECISIONS_PER_SECOND: '0',
        SLUICE_MAX_REMEMBERED_DENIALS: '1000000',
        SLUICE_MAX_SUBJECTS_PER_RULE: '2000000',
      }),
  },
  {
    name: 'who is trusted, and how long a pod drains',
    values: {
      limiter: {
        trustedCallers: ['10.0.0.0/8', 'fd00::/8'],
        trustedProxyCIDRs: ['10.1.0.0/16'],
        opsAllowed: ['10.2.0.0/16'],
        drainSeconds: 7,
      },
    },
    expect: (objects) =>
      expect(envOf(limiterOf(objects))).toMatchObject({
        SLUICE_TRUSTED_CALLERS: '10.0.0.0/8,fd00::/8',
        SLUICE_OPS_ALLOWED: '10.2.0.0/16',
        SLUICE_TRUSTED_PROXY_CIDRS: '10.1.0.0/16',
        SLUICE_DRAIN_MS: '7000',
      }),
  },
  {
    name: 'a pepper that is being replaced',
    values: { pepper: { existingSecret: 'p', isReplaced: true } },
    expect: (objects) =>
      expect(envOf(limiterOf(objects))).toMatchObject({
        SLUICE_PEPPER_FILE: '/etc/sluice/pepper/pepper',
        SLUICE_PREVIOUS_PEPPER_FILE: '/etc/sluice/pepper/previous-pepper',
      }),
  },
  {
    name: 'the configuration from the operator, for a start while Redis is away',
    values: { fullnameOverride: 'edge' },
    expect: (objects) => {
      expect(envOf(limiterOf(objects))['SLUICE_SNAPSHOT_URL']).toBe('http://edge-operator:9090/snapshot');
      const service = find(objects, 'Service', 'edge-operator');
      expect(at(service, 'spec.ports')).toMatchObject([{ port: 9090, targetPort: 'ops' }]);
      expect(at(podOf(objects, 'operator'), 'containers.0.ports')).toContainEqual({ name: 'ops', containerPort: 9090 });
      const selected = at(service, 'spec.selector') as Record<string, string>;
      expect(operatorOf(objects)).toMatchObject({ spec: { template: { metadata: { labels: selected } } } });
      const from = at(find(objects, 'NetworkPolicy', '-operator'), 'spec.ingress.0');
      expect(from).toMatchObject({
        from: [{ podSelector: { matchLabels: { 'app.kubernetes.io/component': 'limiter' } } }],
        ports: [{ port: 'ops' }],
      });
      expect(at(find(objects, 'NetworkPolicy', '-limiter'), 'spec.egress')).toContainEqual({
        to: [{ podSelector: { matchLabels: selected } }],
        ports: [{ protocol: 'TCP', port: 9090 }],
      });
    },
  },
  {
    name: 'no autoscaler',
    values: { limiter: { autoscaling: { enabled: false }, replicas: 5 } },
    expect: (objects) => {
      expect(kindsOf(objects)).not.toContain('HorizontalPodAutoscaler');
      expect(at(limiterOf(objects), 'spec.replicas')).toBe(5);
    },
  },
  {
    name: 'an autoscaler, which owns the number of pods',
    values: { limiter: { autoscaling: { minReplicas: 3, maxReplicas: 30, targetCPUUtilizationPercentage: 50 } } },
    expect: (objects) => {
      expect(at(limiterOf(objects), 'spec.replicas')).toBeUndefined();
      expect(at(find(objects, 'HorizontalPodAutoscaler'), 'spec')).toMatchObject({
        minReplicas: 3,
        maxReplicas: 30,
        metrics: [{ resource: { target: { averageUtilization: 50 } } }],
        behavior: { scaleUp: { stabilizationWindowSeconds: 0 } },
      });
    },
  },
  {
    name: 'a further metric for the autoscaler',
    values: {
      limiter: {
        autoscaling: {
          extraMetrics: [
            {
              type: 'Pods',
              pods: {
                metric: { name: 'nodejs_eventloop_lag_p99_seconds' },
                target: { type: 'AverageValue', averageValue: '20m' },
              },
            },
          ],
        },
      },
    },
    expect: (objects) =>
      expect(at(find(objects, 'HorizontalPodAutoscaler'), 'spec.metrics.1.pods.metric.name')).toBe(
        'nodejs_eventloop_lag_p99_seconds',
      ),
  },
  {
    name: 'no behaviour of its own for the autoscaler',
    values: { limiter: { autoscaling: { behavior: { scaleUp: null, scaleDown: null } } } },
    expect: (objects) => expect(at(find(objects, 'HorizontalPodAutoscaler'), 'spec.behavior')).toBeUndefined(),
  },
  {
    name: 'settings of the limiter',
    values: { limiter: { checkDomain: 'shop', redisDeadlineMs: 50, logLevel: 'debug', unknownDomain: 'Deny' } },
    expect: (objects) =>
      expect(envOf(limiterOf(objects))).toMatchObject({
        SLUICE_CHECK_DOMAIN: 'shop',
        SLUICE_REDIS_DEADLINE_MS: '50',
        SLUICE_UNKNOWN_DOMAIN: 'Deny',
        SLUICE_LOG_LEVEL: 'debug',
      }),
  },
  {
    name: 'no wait before stopping',
    values: { limiter: { preStopSeconds: 0 } },
    expect: (objects) => expect(at(podOf(objects, 'limiter'), 'containers.0.lifecycle')).toBeUndefined(),
  },
  {
    name: 'a longer wait before stopping',
    values: { limiter: { preStopSeconds: 20, terminationGracePeriodSeconds: 60 } },
    expect: (objects) =>
      expect(podOf(objects, 'limiter')).toMatchObject({
        terminationGracePeriodSeconds: 60,
        containers: [{ lifecycle: { preStop: { sleep: { seconds: 20 } } } }],
      }),
  },
  {
    name: 'a load balancer with annotations',
    values: {
      limiter: { service: { type: 'LoadBalancer', port: 8000, annotations: { 'example.com/lb': 'internal' } } },
    },
    expect: (objects) => {
      const service = find(objects, 'Service', '-limiter');
      expect(service.metadata.annotations).toEqual({ 'example.com/lb': 'internal' });
      expect(at(service, 'spec')).toMatchObject({ type: 'LoadBalancer', ports: [{ port: 8000, targetPort: 'http' }] });
    },
  },
  {
    name: 'callers that prefer pods nearby',
    values: { limiter: { service: { trafficDistribution: 'PreferSameZone' } } },
    expect: (objects) =>
      expect(at(find(objects, 'Service', '-limiter'), 'spec.trafficDistribution')).toBe('PreferSameZone'),
  },
  {
    name: 'other resources',
    values: { limiter: { resources: { requests: { cpu: '2', memory: '1Gi' }, limits: { memory: '2Gi' } } } },
    expect: (objects) =>
      expect(at(podOf(objects, 'limiter'), 'containers.0.resources')).toEqual({
        requests: { cpu: '2', memory: '1Gi' },
        limits: { memory: '2Gi' },
      }),
  },
];

const scheduling: Accepted[] = [
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
];

const availability: Accepted[] = [
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

const network: Accepted[] = [
  {
    name: 'no network policies',
    values: { networkPolicy: { enabled: false } },
    expect: (objects) => expect(kindsOf(objects)).not.toContain('NetworkPolicy'),
  },
  {
    name: 'network policies: callers, Prometheus, nothing else',
    values: {},
    expect: (objects) => {
      const policy = find(objects, 'NetworkPolicy', '-limiter');
      expect(at(policy, 'spec.policyTypes')).toEqual(['Ingress', 'Egress']);
      expect(at(policy, 'spec.ingress')).toMatchObject([
        {
          from: [
            { namespaceSelector: { matchLabels: { 'sluice.dev/caller': 'true' } } },
            { podSelector: { matchLabels: { 'app.kubernetes.io/component': 'test' } } },
          ],
          ports: [{ port: 'http' }, { port: 'grpc' }],
        },
        {
          from: [{ namespaceSelector: { matchLabels: { 'kubernetes.io/metadata.name': 'monitoring' } } }],
          ports: [{ port: 'ops' }],
        },
      ]);
      expect(at(policy, 'spec.egress')).toEqual([
        { ports: [{ protocol: 'TCP', port: 6379 }] },
        {
          ports: [
            { protocol: 'UDP', port: 53 },
            { protocol: 'TCP', port: 53 },
          ],
        },
        { to: [expect.anything()], ports: [{ protocol: 'TCP', port: 9090 }] },
      ]);
    },
  },
  {
    name: 'no Prometheus',
    values: { networkPolicy: { prometheusNamespace: '' } },
    expect: (objects) => {
      expect(at(find(objects, 'NetworkPolicy', '-limiter'), 'spec.ingress')).toHaveLength(1);
      expect(at(find(objects, 'NetworkPolicy', '-operator'), 'spec.ingress')).toHaveLength(1);
    },
  },
  {
    name: 'other callers, a further rule, and where Redis and the API server are',
    values: {
      redis: { url: 'redis://redis.example:6380' },
      networkPolicy: {
        callerLabels: { 'sluice.dev/caller': null, zone: 'edge' },
        extraIngress: [{ from: [{ ipBlock: { cidr: '10.0.0.0/8' } }] }],
        redisPorts: [6380, 26379],
        redisPeers: [{ ipBlock: { cidr: '10.9.0.0/16' } }],
        apiServerPorts: [16443],
      },
    },
    expect: (objects) => {
      const policy = find(objects, 'NetworkPolicy', '-limiter');
      expect(at(policy, 'spec.ingress.0.from.0.namespaceSelector.matchLabels')).toEqual({ zone: 'edge' });
      expect(at(policy, 'spec.ingress.2')).toEqual({ from: [{ ipBlock: { cidr: '10.0.0.0/8' } }] });
      expect(at(policy, 'spec.egress.0')).toEqual({
        to: [{ ipBlock: { cidr: '10.9.0.0/16' } }],
        ports: [
          { protocol: 'TCP', port: 6380 },
          { protocol: 'TCP', port: 26379 },
        ],
      });
      expect(at(find(objects, 'NetworkPolicy', '-operator'), 'spec.egress.2.ports')).toEqual([
        { protocol: 'TCP', port: 16443 },
      ]);
    },
  },
];

const crds: Accepted[] = [
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

const monitoring: Accepted[] = [
  {
    name: 'monitors and alerts where the kinds are known',
    values: {},
    args: withCoreos,
    expect: (objects) => {
      expect(kindsOf(objects).filter((kind) => kind === 'PodMonitor')).toHaveLength(2);
      expect(kindsOf(objects)).toContain('PrometheusRule');
    },
  },
  {
    name: 'monitors where only the group is known, as Argo CD says it',
    values: { metrics: { labels: { release: 'prometheus' }, interval: '30s' } },
    args: ['--api-versions', 'monitoring.coreos.com/v1'],
    expect: (objects) => {
      const monitor = find(objects, 'PodMonitor', '-limiter');
      expect(monitor.metadata.labels['release']).toBe('prometheus');
      expect(at(monitor, 'spec.podMetricsEndpoints')).toEqual([{ port: 'ops', path: '/metrics', interval: '30s' }]);
    },
  },
  {
    name: 'ServiceMonitors, with the Services that they select',
    values: { metrics: { monitor: 'ServiceMonitor', renderMode: 'Always' } },
    expect: (objects) => {
      const monitor = find(objects, 'ServiceMonitor', '-limiter');
      const service = find(objects, 'Service', '-limiter-ops');
      expect(service.metadata.labels).toMatchObject(at(monitor, 'spec.selector.matchLabels') as object);
      // The callers' Service is not read a second time.
      expect(find(objects, 'Service', '-limiter').metadata.labels).not.toHaveProperty('sluice.dev/service');
    },
  },
  {
    name: 'alerts that link to where the runbooks are',
    values: {
      metrics: { monitor: 'None', renderMode: 'Always', rules: { runbookUrl: 'https://wiki.example/sluice#' } },
    },
    expect: (objects) => {
      expect(kindsOf(objects)).not.toContain('PodMonitor');
      const rules = at(find(objects, 'PrometheusRule'), 'spec.groups.0.rules') as { annotations: object }[];
      expect(rules.length).toBeGreaterThan(0);
      for (const { annotations } of rules)
        expect(annotations).toMatchObject({
          runbook_url: expect.stringMatching(/^https:\/\/wiki.example\/sluice#sluice/),
        });
    },
  },
  {
    name: 'no alerts',
    values: { metrics: { rules: { enabled: false }, renderMode: 'Always' } },
    expect: (objects) => expect(kindsOf(objects)).not.toContain('PrometheusRule'),
  },
  {
    name: 'the dashboard',
    values: { metrics: { dashboard: { enabled: true, labels: { grafana: 'yes' } } } },
    expect: (objects) => {
      const dashboard = find(objects, 'ConfigMap', '-dashboard');
      expect(dashboard.metadata.labels['grafana']).toBe('yes');
      expect(JSON.parse(String(at(dashboard, 'data')?.['sluice.json' as never]))).toHaveProperty('panels');
    },
  },
];

/** Redis is one of three; a set that names another one has to be able to unname the minimal one. */
export const accepted: readonly Accepted[] = [
  ...naming,
  ...image,
  ...redis,
  ...limiter,
  ...scheduling,
  ...availability,
  ...network,
  ...crds,
  ...monitoring,
].map((set) => ({ ...set, values: { ...MINIMAL, ...set.values } }));
