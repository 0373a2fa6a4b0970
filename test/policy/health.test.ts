import { describe, expect, it } from 'vitest';
import { covers, effectiveHealth, isActive } from '../../policy/health.ts';
import { aHealthDocument } from './builders.ts';

const NOON = '2026-06-01T12:00:00Z';
const NOON_MICROS = Date.parse(NOON) * 1000;
const HOUR_MICROS = 3_600_000_000;
const POLICY = { domain: 'payments', labels: { layer: 'edge' } };
const NORMAL = { mode: 'NORMAL', untilMicros: undefined };

const degraded = (expiresAt?: string): ReturnType<typeof aHealthDocument> =>
  aHealthDocument(expiresAt === undefined ? {} : { expiresAt });

const covering = (health: Parameters<typeof covers>[0], domain: string, labels = {}): boolean =>
  covers(health, { domain, labels });

describe('a health object', () => {
  it('that says NORMAL is never active', () => {
    expect(isActive(aHealthDocument({ mode: 'NORMAL' }), NOON_MICROS)).toBe(false);
  });

  it('without an end is active for good', () => {
    expect(isActive(degraded(), 0)).toBe(true);
    expect(isActive(degraded(), Number.MAX_SAFE_INTEGER)).toBe(true);
  });

  it('is active up to the microsecond before its end', () => {
    expect(isActive(degraded(NOON), NOON_MICROS - 1)).toBe(true);
    expect(isActive(degraded(NOON), NOON_MICROS)).toBe(false);
    expect(isActive(degraded(NOON), NOON_MICROS + 1)).toBe(false);
  });

  it('ends at the same moment in whatever zone that is written', () => {
    expect(isActive(degraded('2026-06-01T14:00:00+02:00'), NOON_MICROS - 1)).toBe(true);
    expect(isActive(degraded('2026-06-01T14:00:00+02:00'), NOON_MICROS)).toBe(false);
  });

  it('covers the domains that it names, or all', () => {
    expect(covering(degraded(), 'payments')).toBe(true);
    const named = aHealthDocument({ scope: { domains: ['payments', 'shop'] } });
    expect(covering(named, 'payments')).toBe(true);
    expect(covering(named, 'payments.eu')).toBe(false);
    expect(covering(named, 'pay')).toBe(false);
  });

  it('covers the policies whose labels it selects, in the domains that it names', () => {
    const policySelector = {
      matchLabels: { tier: 'edge' },
      matchExpressions: [
        { key: 'team', operator: 'In' as const, values: ['a', 'b'] },
        { key: 'stage', operator: 'NotIn' as const, values: ['test'] },
        { key: 'public', operator: 'Exists' as const },
        { key: 'critical', operator: 'DoesNotExist' as const },
      ],
    };
    const health = aHealthDocument({ scope: { policySelector, domains: ['payments'] } });
    const selected = { tier: 'edge', team: 'b', public: '' };
    expect(covering(health, 'payments', selected)).toBe(true);
    expect(covering(health, 'payments', { ...selected, stage: 'live' })).toBe(true);
    expect(covering(health, 'shop', selected)).toBe(false);
    expect(covering(health, 'payments')).toBe(false);
    expect(covering(health, 'payments', { ...selected, tier: 'core' })).toBe(false);
    expect(covering(health, 'payments', { ...selected, team: 'c' })).toBe(false);
    expect(covering(health, 'payments', { ...selected, stage: 'test' })).toBe(false);
    expect(covering(health, 'payments', { tier: 'edge', team: 'b' })).toBe(false);
    expect(covering(health, 'payments', { ...selected, critical: 'yes' })).toBe(false);
    expect(covering(aHealthDocument({ scope: { policySelector: {} } }), 'payments')).toBe(true);
  });

  it('covers the tiers that it names, or all; a tier that is not known only with all', () => {
    const named = [aHealthDocument({ scope: { tiers: ['free'] } })];
    const modeOf = (tier: string | undefined): string => effectiveHealth(named, POLICY, tier, NOON_MICROS).mode;
    expect(modeOf('free')).toBe('DEGRADED');
    expect(modeOf('pro')).toBe('NORMAL');
    expect(modeOf(undefined)).toBe('NORMAL');
    expect(effectiveHealth([degraded()], POLICY, undefined, NOON_MICROS).mode).toBe('DEGRADED');
  });
});

describe('several health objects', () => {
  const ended = degraded('2026-06-01T11:59:59Z');
  const short = degraded('2026-06-01T13:00:00Z');
  const long = degraded('2026-06-01T14:00:00Z');
  const normal = aHealthDocument({ mode: 'NORMAL' });
  const until = (hours: number): object => ({ mode: 'DEGRADED', untilMicros: NOON_MICROS + hours * HOUR_MICROS });

  it.each([
    ['none', [], NORMAL],
    ['one NORMAL', [normal], NORMAL],
    ['one that has ended', [ended], NORMAL],
    ['one that is active', [short], until(1)],
    ['two that are active', [short, long], until(2)],
    ['the same in the other order', [long, short], until(2)],
    ['one active, one that has ended', [ended, short], until(1)],
    ['one active, one without an end', [short, degraded()], { mode: 'DEGRADED', untilMicros: undefined }],
    ['one active, one NORMAL: NORMAL lifts nothing but itself', [short, normal], until(1)],
  ] as const)('mean DEGRADED until the last active one ends: %s', (_title, healths, expected) => {
    expect(effectiveHealth(healths, POLICY, undefined, NOON_MICROS)).toEqual(expected);
  });

  it('of which some cover a tier end for that tier with these', () => {
    const freeOnly = aHealthDocument({ expiresAt: '2026-06-01T14:00:00Z', scope: { tiers: ['free'] } });
    expect(effectiveHealth([short, freeOnly], POLICY, 'free', NOON_MICROS)).toEqual(until(2));
    expect(effectiveHealth([short, freeOnly], POLICY, 'pro', NOON_MICROS)).toEqual(until(1));
  });

  it('count for a policy only where they cover it', () => {
    const others = [
      aHealthDocument({ scope: { domains: ['payments.eu'] } }),
      aHealthDocument({ scope: { policySelector: { matchLabels: { layer: 'core' } } } }),
    ];
    expect(effectiveHealth(others, POLICY, undefined, NOON_MICROS)).toEqual(NORMAL);
    const edge = { policySelector: { matchLabels: { layer: 'edge' } } };
    const its = aHealthDocument({ expiresAt: '2026-06-01T13:00:00Z', scope: edge });
    expect(effectiveHealth([...others, its], POLICY, undefined, NOON_MICROS)).toEqual(until(1));
  });
});
