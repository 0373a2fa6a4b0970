import { Registry } from 'prom-client';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { exportLimits } from '../../limiter/limit-gauges.ts';
import type { MetricsDetail } from '../../limiter/metrics.ts';
import { restOneTurn } from '../../limiter/slices.ts';
import { readDocument } from '../../policy/documents.ts';
import type { RateLimitPolicySpec } from '../../policy/schema/rate-limit-policy.ts';
import { buildSnapshot } from '../../policy/build-snapshot.ts';
import type { Snapshot } from '../../policy/snapshot.ts';
import { metric, startTestLimiter, targetOn, type TestLimiter, untilRevision } from '../harness/limiter.ts';
import { aPolicy, type Entry, publishEntries } from '../harness/publish.ts';
import { type PrivateRedis, privateRedis } from '../harness/redis.ts';

const rule = { countBy: ['consumer' as const], algorithm: 'TokenBucket' as const };

const perMinute = (requests: number): RateLimitPolicySpec => ({
  domain: 'payments',
  rules: [{ ...rule, name: 'all', limits: [{ windowSeconds: 60, requests }] }],
});

const snapshotOf = (entries: readonly Entry[], revision = 1): Snapshot =>
  buildSnapshot(
    { incarnation: 'one', epoch: 1, revision, manifest: String(revision) },
    entries.map(({ document }) => readDocument(document.text)),
  );

const manyPolicies = (count: number): Entry[] =>
  Array.from({ length: count }, (_, i) => aPolicy(perMinute(5), `policy-${String(i).padStart(5, '0')}`));

const SERIES = /^sluice_limit_requests\{.*$/gm;

/** The series of the limits, and how many limits are left out. */
async function scrape(registry: Registry): Promise<{ series: string[]; left: number }> {
  const text = await registry.metrics();
  return { series: text.match(SERIES) ?? [], left: Number(/^sluice_limits_not_exported (\d+)$/m.exec(text)?.[1]) };
}

function scraped(snapshot: Snapshot | undefined, detail: MetricsDetail): Promise<{ series: string[]; left: number }> {
  const registry = new Registry();
  exportLimits(registry, () => snapshot, detail);
  return scrape(registry);
}

describe('the configured limits', () => {
  it('are exported with their tier, window and mode', async () => {
    const policy = aPolicy({
      domain: 'payments',
      tiers: [
        { name: 'free', default: true, limits: [{ windowSeconds: 60, requests: 10, burst: 20 }] },
        { name: 'pro', limits: [{ windowSeconds: 60, requests: 100 }] },
      ],
      rules: [
        { ...rule, name: 'by-tier', limitsFrom: 'Tier' },
        {
          ...rule,
          name: 'dry',
          mode: 'Shadow',
          limits: [
            { windowSeconds: 1, requests: 3 },
            { windowSeconds: 3_600, requests: 70 },
          ],
        },
      ],
    });
    const of = (what: string): string => `sluice_limit_requests{domain="payments",policy="payments/policy",${what}`;
    expect(await scraped(snapshotOf([policy]), 'Policy')).toEqual({
      series: [
        of('rule="by-tier",tier="free",window_seconds="60",mode="Enforce"} 10'),
        of('rule="by-tier",tier="pro",window_seconds="60",mode="Enforce"} 100'),
        of('rule="dry",tier="",window_seconds="1",mode="Shadow"} 3'),
        of('rule="dry",tier="",window_seconds="3600",mode="Shadow"} 70'),
      ],
      left: 0,
    });
  });

  it.each<[MetricsDetail, number]>([
    ['Domain', 0],
    ['Policy', 1_000],
    ['Rule', 1_003],
  ])('are bounded by the detail of metrics, and the others counted: %s', async (detail, most) => {
    const { series, left } = await scraped(snapshotOf(manyPolicies(1_003)), detail);
    expect([series.length, left]).toEqual([most, 1_003 - most]);
  });

  it('that are left out are the same on every pod, whatever order the configuration came in', async () => {
    const policies = manyPolicies(1_003);
    const one = await scraped(snapshotOf(policies), 'Policy');
    expect((await scraped(snapshotOf(policies.toReversed()), 'Policy')).series).toEqual(one.series);
    expect(one.series.at(-1)).toContain('policy-00999');
  });

  it('are looked up in slices, of which nobody who scrapes sees a part', async () => {
    const registry = new Registry();
    let [nowMillis, rests] = [0, 0];
    const scrapes: Promise<{ series: string[] }>[] = [];
    // Each look at the clock is later than a slice takes; others scrape late.
    const turns = {
      monotonicMillis: () => (nowMillis += 10),
      rest: () => {
        rests += 1;
        if (rests === 45 || rests === 85) scrapes.push(scrape(registry));
        return restOneTurn();
      },
    };
    const snapshot = snapshotOf(manyPolicies(50));
    exportLimits(registry, () => snapshot, 'Policy', turns);
    scrapes.unshift(scrape(registry));
    await scrapes[0];
    const all = await Promise.all(scrapes);
    expect(all.length).toBeGreaterThan(1);
    expect(all.filter(({ series }) => series.length !== 50)).toEqual([]);
    expect(rests).toBeGreaterThanOrEqual(50);
  });

  it('follow the configuration, and are none before there is one', async () => {
    const registry = new Registry();
    let snapshot: Snapshot | undefined;
    exportLimits(registry, () => snapshot, 'Policy');
    expect((await scrape(registry)).series).toEqual([]);
    snapshot = snapshotOf([aPolicy(perMinute(5)), aPolicy(perMinute(6), 'going')]);
    expect((await scrape(registry)).series).toHaveLength(2);
    snapshot = snapshotOf([aPolicy(perMinute(9))], 2);
    expect((await scrape(registry)).series).toEqual([expect.stringMatching(/policy="payments\/policy".* 9$/)]);
  });
});

describe('a limiter', () => {
  let server: PrivateRedis;
  let limiter: TestLimiter;
  beforeAll(async () => {
    server = await privateRedis();
    await publishEntries(targetOn(server), [aPolicy(perMinute(5))]);
    limiter = await startTestLimiter({ redisUrl: server.url });
    await untilRevision(limiter, 1);
  });
  afterAll(async () => {
    await limiter.stop();
    await server.stop();
  });

  it('exports the limits that it enforces, and new ones after an edit', async () => {
    const series =
      'sluice_limit_requests{domain="payments",policy="payments/policy",rule="all",tier="",window_seconds="60",mode="Enforce"}';
    expect(await metric(limiter, series)).toBe(5);
    await publishEntries(targetOn(server), [aPolicy(perMinute(8))]);
    await untilRevision(limiter, 2);
    expect(await metric(limiter, series)).toBe(8);
  });
});
