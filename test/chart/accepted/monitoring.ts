// What Prometheus and Grafana get.
import { expect } from 'vitest';
import { at, find } from '../helm.ts';
import { type Accepted, kindsOf, withCoreos } from './objects.ts';

export const monitoring: readonly Accepted[] = [
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
