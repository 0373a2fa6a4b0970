// Who reaches what: Services, TLS, network policies.
import { expect } from 'vitest';
import { at, envOf, find } from '../helm.ts';
import { type Accepted, kindsOf, limiterOf, podOf } from './objects.ts';

export const network: readonly Accepted[] = [
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
