import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { CheckRequest } from '../../limiter/check.ts';
import { explain, type Explanation } from '../../limiter/explain.ts';
import { compileDomain, compileOverride } from '../../policy/compile.ts';
import type { Document } from '../../policy/documents.ts';
import type { RateLimitOverrideSpec } from '../../policy/schema/rate-limit-override.ts';
import { aCheck, aChecker, aSnapshot } from '../harness/checker.ts';
import { type PrivateRedis, privateRedis } from '../harness/redis.ts';
import { aHealthDocument, aPolicy, metadataOf } from '../policy/builders.ts';

let server: PrivateRedis;
beforeAll(async () => {
  server = await privateRedis();
});
afterAll(() => server.stop());
beforeEach(async () => {
  await server.redis.flushall();
});

const override = (spec: Partial<RateLimitOverrideSpec>, name = 'deal'): Document =>
  compileOverride({
    kind: 'RateLimitOverride',
    metadata: metadataOf('payments', name),
    spec: {
      policyRef: { name: 'limits' },
      subject: { consumer: 'caller:acme' },
      action: 'Block',
      expiresAt: '2099-01-01T00:00:00Z',
      ...spec,
    },
  });

const policy = aPolicy()
  .withTier('free', { default: true, limits: [{ windowSeconds: 60, requests: 4, degraded: 2 }] })
  .withTier('pro', { limits: [{ windowSeconds: 60, requests: 100 }] })
  .withRule({ name: 'per-consumer', limitsFrom: 'Tier', algorithm: 'SlidingWindow' })
  .withRule({ name: 'writes', match: { methods: ['POST'] } })
  .withRule({ name: 'per-tenant', countBy: ['tenant'] })
  .withRule({ name: 'dark', mode: 'Shadow', limits: [{ windowSeconds: 60, requests: 1 }] });

async function explained(
  documents: readonly Document[],
  request: CheckRequest = aCheck(),
  before = 0,
): Promise<Explanation> {
  const { checker } = aChecker(server.redis);
  const snapshot = aSnapshot(documents);
  for (let i = 0; i < before; i += 1) await checker.check(snapshot, request);
  return explain(checker, snapshot, request);
}

const outcomes = ({ policies }: Explanation): Record<string, string> =>
  Object.fromEntries(policies.flatMap(({ rules }) => rules.map(({ rule, outcome }) => [rule, outcome])));

describe('an explanation', () => {
  it('names every rule, its outcome and why, and the numbers of every limit', async () => {
    const explanation = await explained([policy.document()], aCheck({ context: { method: 'GET' } }), 1);
    expect(explanation).toMatchObject({
      domain: 'payments',
      revision: 7,
      decision: { action: 'ALLOW', reason: 'SHADOW_DENIED', shadow: ['payments/limits/dark'] },
      identity: { outcome: 'identified', consumer: 'caller:acme', source: 'Caller', trusted: true },
      tier: { name: null, source: null },
      store_error: null,
    });
    expect(outcomes(explanation)).toEqual({
      'per-consumer': 'Admitted',
      writes: 'NotMatched',
      'per-tenant': 'InputMissing',
      dark: 'Denied',
    });
    const [explainedPolicy] = explanation.policies;
    expect(explainedPolicy).toMatchObject({ tier: { name: 'free', source: 'default' }, health: { mode: 'NORMAL' } });
    expect(explainedPolicy?.rules).toMatchObject([
      { limits: [{ window_seconds: 60, limit: 4, remaining: 3, retry_after: 0 }], cost: 1, shadow: false },
      { why: 'match.methods excludes the request', limits: [] },
      { why: 'the request does not carry tenant' },
      { shadow: true, limits: [{ remaining: 0 }] },
    ]);
    expect(Date.parse(explanation.at ?? '')).toBeGreaterThan(Date.parse('2026-01-01'));
  });

  it('says which tier holds and who said so, and which incident degrades it', async () => {
    const health = aHealthDocument({ reason: 'database overload', expiresAt: '2099-01-01T00:00:00Z' });
    const elsewhere = aHealthDocument({ scope: { domains: ['payments.eu'] } });
    const pro = await explained([policy.document(), elsewhere, health], aCheck({ tier: 'pro' }));
    expect(pro.tier).toEqual({ name: 'pro', source: 'caller' });
    expect(pro.policies[0]).toMatchObject({
      tier: { name: 'pro', source: 'request' },
      health: {
        mode: 'DEGRADED',
        declared_by: [{ name: 'incident', reason: 'database overload', until: '2099-01-01T00:00:00.000Z' }],
      },
    });
    const free = await explained([policy.document(), health]);
    expect(free.policies[0]?.rules[0]?.limits).toMatchObject([{ limit: 2, normal_limit: 4, mode: 'DEGRADED' }]);
  });

  it('says which override applies, to which rule, and until when', async () => {
    const replaced = await explained([
      policy.document(),
      override({
        action: 'Replace',
        rules: ['per-consumer'],
        limits: [{ windowSeconds: 60, requests: 9 }],
        reason: 'deal 7',
      }),
    ]);
    expect(replaced.policies[0]?.overrides).toEqual([
      {
        override: 'deal',
        rule: 'per-consumer',
        action: 'Replace',
        reason: 'deal 7',
        until: '2099-01-01T00:00:00.000Z',
      },
    ]);
    expect(replaced.policies[0]?.rules[0]?.limits).toMatchObject([{ limit: 9 }]);
    const blocked = await explained([policy.document(), override({ rules: ['per-consumer'] })]);
    expect(blocked.decision).toMatchObject({ action: 'BLOCK', reason: 'OVERRIDE_BLOCK', triggered_by: 'Override' });
    expect(outcomes(blocked)).toMatchObject({ 'per-consumer': 'Overridden', dark: 'NotJudged' });
  });

  it('says which exemption leaves a policy out', async () => {
    const document = policy.document();
    const exemptions = [{ name: 'probes', match: { paths: [{ type: 'Prefix' as const, value: '/healthz' }] } }];
    const explanation = await explained([{ ...document, exemptions }], aCheck({ context: { path: '/healthz/live' } }));
    expect(explanation.decision).toMatchObject({ action: 'ALLOW', reason: 'EXEMPT', triggered_by: 'Exemption' });
    // Nobody had to be asked who calls.
    expect(explanation.identity.outcome).toBeNull();
  });

  it('says who cannot be identified', async () => {
    const domain = compileDomain({
      kind: 'RateLimitDomain',
      metadata: metadataOf('payments', 'payments'),
      spec: { identity: { sources: [{ type: 'Header', name: 'x-user' }], onMissing: 'Deny' } },
    });
    const explanation = await explained([policy.document(), domain]);
    expect(explanation.identity).toMatchObject({ outcome: 'missing', consumer: null });
    expect(explanation.decision).toMatchObject({ action: 'BLOCK', reason: 'IDENTITY_MISSING' });
  });

  it('shows the state of a penalty with its times', async () => {
    const punished = aPolicy()
      .withRule({ limits: [{ windowSeconds: 3600, requests: 1 }], algorithm: 'SlidingWindow' })
      .withPenalty({ tolerancePercent: 0, tempBlock: { violations: 2, forSeconds: 300 } });
    const explanation = await explained([punished.document()], aCheck(), 2);
    expect(explanation.policies[0]?.penalty).toMatchObject({
      subject: 'payments/limits consumer=caller:acme',
      enforced: true,
      state: 'WARN',
      state_after: 'WARN',
      violations: 1,
    });
    expect(explanation.policies[0]?.penalty?.ends_in).toBeGreaterThan(0);
  });

  it('changes nothing, and decides as a request would', async () => {
    const { checker } = aChecker(server.redis);
    const snapshot = aSnapshot([policy.document()]);
    for (let i = 0; i < 8; i += 1) {
      const before = await explain(checker, snapshot, aCheck());
      const again = await explain(checker, snapshot, aCheck());
      const { decision } = await checker.check(snapshot, aCheck());
      expect(again.decision.reason).toBe(before.decision.reason);
      expect(before.decision).toMatchObject({ action: decision.action, reason: decision.reason });
    }
  });

  it('says that Redis could not be asked, and what the failure policies made of it', async () => {
    const { checker } = aChecker(server.redis);
    const snapshot = aSnapshot([policy.document()]);
    await checker.check(snapshot, aCheck());
    for (const key of await server.redis.keys('sluice:checker:c1:*')) await server.redis.set(key, 'no hash');
    const explanation = await explain(checker, snapshot, aCheck());
    expect(explanation).toMatchObject({ store_error: 'WRONG_TYPE', decision: { reason: 'LOCAL_FALLBACK' } });
    expect(outcomes(explanation)['per-consumer']).toBe('NotJudged');
  });
});
