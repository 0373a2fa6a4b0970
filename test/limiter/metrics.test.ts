import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { exportLimits } from '../../limiter/limit-gauges.ts';
import { LimiterMetrics, type MetricsDetail } from '../../limiter/metrics.ts';
import { NO_POLICY, type ReportedLimit } from '../../policy/decision.ts';

const aLimiter = (detail?: MetricsDetail): LimiterMetrics =>
  new LimiterMetrics(
    {
      revision: () => 7,
      isReady: () => true,
      isRedisReachable: () => true,
      inFlight: () => 3,
      breaker: () => 'OPEN',
      snapshotAgeSeconds: () => 1.5,
    },
    detail,
  );

const reported: ReportedLimit = {
  policy: 'payments/api',
  rule: 'per-consumer',
  algorithm: 'SlidingWindow',
  windowSeconds: 60,
  limit: 10,
  remaining: 3,
  resetAfterMicros: 1,
  tier: 'free',
  mode: 'NORMAL',
};

const valueOf = (text: string, series: string): number =>
  Number(
    text
      .split('\n')
      .find((line) => line.startsWith(`${series} `))
      ?.slice(series.length + 1),
  );

describe('the metrics of a limiter', () => {
  it('count decisions by outcome', async () => {
    const metrics = aLimiter();
    for (let i = 0; i < 3; i += 1) metrics.countDecision('shop', NO_POLICY);
    const text = await metrics.registry.metrics();
    expect(valueOf(text, 'sluice_decisions_total{domain="shop",policy="",action="ALLOW",reason="NO_POLICY"}')).toBe(3);
    expect(valueOf(text, 'sluice_snapshot_revision')).toBe(7);
    expect(valueOf(text, 'sluice_decisions_in_flight')).toBe(3);
    expect(valueOf(text, 'sluice_breaker_state')).toBe(2);
    expect(valueOf(text, 'sluice_snapshot_age_seconds')).toBe(1.5);
    expect(text).toMatch(/^nodejs_eventloop_lag_seconds /m);
  });

  it.each<[MetricsDetail, string]>([
    ['Domain', 'domain="shop",action="ALLOW",reason="WITHIN_LIMIT"'],
    ['Policy', 'domain="shop",policy="payments/api",action="ALLOW",reason="WITHIN_LIMIT"'],
    [
      'Rule',
      'domain="shop",policy="payments/api",rule="per-consumer",tier="free",action="ALLOW",reason="WITHIN_LIMIT"',
    ],
  ])('tell decisions apart as finely as is asked for: %s', async (detail, labels) => {
    const metrics = aLimiter(detail);
    metrics.countDecision('shop', { ...NO_POLICY, reason: 'WITHIN_LIMIT', reported });
    const text = await metrics.registry.metrics();
    expect(valueOf(text, `sluice_decisions_total{${labels}}`)).toBe(1);
    expect(text.match(/^sluice_decisions_total\{/gm)).toHaveLength(1);
  });

  it('are bounded: what would be one series too many counts under "other"', async () => {
    const metrics = aLimiter();
    for (let i = 0; i < 10_005; i += 1) metrics.countDecision(`domain-${i}`, NO_POLICY);
    const text = await metrics.registry.metrics();
    expect(valueOf(text, 'sluice_decisions_total{domain="other",policy="other",action="other",reason="other"}')).toBe(
      5,
    );
    expect(text.match(/^sluice_decisions_total\{/gm)).toHaveLength(10_001);
  });

  it('are all described where operators look', () => {
    const { registry } = aLimiter();
    exportLimits(registry, () => undefined, 'Policy');
    const names = registry.getMetricsAsArray().map(({ name }) => name);
    const own = names.filter((name) => name.startsWith('sluice_'));
    const described = readFileSync(join(import.meta.dirname, '../../docs/operations.md'), 'utf8');
    expect(own.length).toBeGreaterThan(10);
    expect(own.filter((name) => !described.includes(`\`${name}\``))).toEqual([]);
  });
});
