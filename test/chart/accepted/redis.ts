// Where Redis is and how limiters start without it, and the secret of hashed API keys.
import { expect } from 'vitest';
import { at, envOf, find, type Rendered } from '../helm.ts';
import { type Accepted, kindsOf, limiterOf, operatorOf, podOf, secretRights } from './objects.ts';

export const redis: readonly Accepted[] = [
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
      // No version of anything: an upgrade must not start it anew.
      const labels = at(find(objects, 'Deployment', '-redis'), 'spec.template.metadata.labels') as object;
      expect(Object.keys(labels).filter((name) => /version|chart/.test(name))).toEqual([]);
      expect(at(find(objects, 'NetworkPolicy', '-redis'), 'spec.ingress.0.from')).toHaveLength(2);
      expect(
        at(find(objects, 'NetworkPolicy', '-limiter'), 'spec.egress.0.to.0.podSelector.matchLabels'),
      ).toMatchObject({ 'app.kubernetes.io/component': 'redis' });
    },
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
  {
    name: 'a pepper that is being replaced',
    values: { pepper: { existingSecret: 'p', isReplaced: true } },
    expect: (objects) =>
      expect(envOf(limiterOf(objects))).toMatchObject({
        SLUICE_PEPPER_FILE: '/etc/sluice/pepper/pepper',
        SLUICE_PREVIOUS_PEPPER_FILE: '/etc/sluice/pepper/previous-pepper',
      }),
  },
];
