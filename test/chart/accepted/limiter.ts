// The limiter's own settings, and how many of it there are.
import { expect } from 'vitest';
import { at, envOf, find } from '../helm.ts';
import { type Accepted, kindsOf, limiterOf, podOf } from './objects.ts';

export const limiter: readonly Accepted[] = [
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
    name: 'what a limiter keeps in memory, logs and measures',
    values: {
      limiter: {
        metricsDetail: 'Rule',
        logDecisionsPerSecond: 0,
        maxRememberedDenials: 1_000_000,
        maxSubjectsPerRule: 10_000_000,
      },
    },
    expect: (objects) =>
      expect(envOf(limiterOf(objects))).toMatchObject({
        SLUICE_METRICS_DETAIL: 'Rule',
        SLUICE_LOG_DECISIONS_PER_SECOND: '0',
        SLUICE_MAX_REMEMBERED_DENIALS: '1000000',
        SLUICE_MAX_SUBJECTS_PER_RULE: '10000000',
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
    name: 'other resources',
    values: { limiter: { resources: { requests: { cpu: '2', memory: '1Gi' }, limits: { memory: '2Gi' } } } },
    expect: (objects) =>
      expect(at(podOf(objects, 'limiter'), 'containers.0.resources')).toEqual({
        requests: { cpu: '2', memory: '1Gi' },
        limits: { memory: '2Gi' },
      }),
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
];
