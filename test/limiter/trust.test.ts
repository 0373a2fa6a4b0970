// What a caller says of itself is believed if it is trusted. The doors over HTTP trust all who reach them, so the
// checker is asked directly; the rules that would be decided by are all that is looked at.
import { describe, expect, it } from 'vitest';
import { Checker, type CheckRequest, type CheckTrace, UnknownTier } from '../../limiter/check.ts';
import { Identifier } from '../../limiter/identify.ts';
import { IPBlocks } from '../../limiter/ip-blocks.ts';
import { LocalFallback } from '../../limiter/local-fallback.ts';
import { LimiterMetrics } from '../../limiter/metrics.ts';
import { SubjectBudget } from '../../limiter/subject-budget.ts';
import { addressIn } from '../../limiter/trust.ts';
import type { Decision } from '../../policy/decision.ts';
import { buildSnapshot } from '../../policy/build-snapshot.ts';
import { RedisClock } from '../../store/clock.ts';
import { aDomainDocument, aLimit, aPolicy } from '../policy/builders.ts';

const POLICY = aPolicy()
  .withTier('free', { default: true })
  .withTier('pro', { limits: [aLimit({ requests: 100 })] })
  .withRule({ limitsFrom: 'Tier', cost: { header: 'x-cost' } });
const DOMAIN = aDomainDocument({
  identity: { sources: [{ type: 'Header', name: 'x-user' }, { type: 'Caller' }, { type: 'ClientIP' }] },
});

/** A request that says as much of itself as there is to say. */
const REQUEST: CheckRequest = {
  domain: 'payments',
  cost: 7,
  isPeek: false,
  isTrusted: true,
  peerIP: '198.51.100.1',
  apiKey: undefined,
  consumer: 'ada',
  tenant: 'tenant-1',
  tier: 'pro',
  context: { clientIP: '203.0.113.9', headers: new Map([['x-plan', 'gold']]) },
};

function someMetrics(): LimiterMetrics {
  return new LimiterMetrics({
    revision: () => 1,
    isReady: () => true,
    isRedisReachable: () => false,
    inFlight: () => 0,
    breaker: (): 'OPEN' => 'OPEN',
    snapshotAgeSeconds: () => 0,
  });
}

function aChecker(unknownDomain: 'Allow' | 'Deny' = 'Allow', metrics = someMetrics()): Checker {
  const monotonicMillis = (): number => 0;
  return new Checker({
    // Without a Redis the rules are found all the same.
    decider: { decide: () => Promise.reject(new Error('there is no Redis')) },
    identifier: new Identifier({ keys: { lookUp: () => ({ kind: 'unknown' }) }, peppers: ['pepper'] }),
    ipBlocks: new IPBlocks({
      count: async () => ({ blockedForMicros: 0, isNew: false }),
      monotonicMillis,
      onBlock: () => undefined,
    }),
    clock: new RedisClock(monotonicMillis),
    metrics,
    fallback: new LocalFallback({ pods: () => 1, monotonicMillis }),
    subjects: new SubjectBudget({ monotonicMillis, onOverflow: () => undefined }),
    unknownDomain,
  });
}

const SNAPSHOT = buildSnapshot({ incarnation: 'i', epoch: 1, revision: 1, manifest: 'm' }, [POLICY.document(), DOMAIN]);

async function found(change: Partial<CheckRequest>): Promise<CheckTrace> {
  const trace: CheckTrace = { onRule: () => undefined };
  await aChecker().check(SNAPSHOT, { ...REQUEST, ...change }, trace);
  return trace;
}

describe('a trusted caller', () => {
  it('is believed what it says', async () => {
    const { context, selection } = await found({});
    expect(context).toMatchObject({
      consumer: 'caller:ada',
      tenant: 'tenant-1',
      tier: 'pro',
      clientIP: '203.0.113.9',
      cost: 7,
    });
    expect(selection?.rules).toMatchObject([{ cost: 7, limits: [{ capacity: 100 }] }]);
  });

  it('is believed the headers that it passes on', async () => {
    const headers = new Map([
      ['x-user', 'eve'],
      ['x-cost', '3'],
    ]);
    const { context, selection } = await found({ context: { headers } });
    expect(context?.consumer).toBe('header:eve');
    expect(selection?.rules).toMatchObject([{ cost: 3 }]);
  });

  it('must not name a tier that no policy of the domain knows', async () => {
    await expect(found({ tier: 'gold' })).rejects.toThrow(UnknownTier);
  });
});

describe('a caller that is not trusted', () => {
  const isTrusted = false;

  it('is the address from which it calls, in the default tier, at the usual cost', async () => {
    const { context, selection } = await found({ isTrusted });
    expect(context).toMatchObject({ consumer: 'ip:198.51.100.1', clientIP: '198.51.100.1' });
    expect([context?.tenant, context?.tier, context?.cost]).toEqual([undefined, undefined, undefined]);
    expect(selection?.rules).toMatchObject([{ cost: 1, limits: [{ tier: 'free', capacity: 10 }] }]);
  });

  it('is not believed headers about who it is and what it takes', async () => {
    const headers = new Map([
      ['x-user', 'eve'],
      ['x-cost', '3'],
    ]);
    const { context, selection } = await found({ isTrusted, context: { headers } });
    expect(context?.consumer).toBe('ip:198.51.100.1');
    expect(selection?.rules).toMatchObject([{ cost: 1 }]);
  });

  it('is counted by what it says in vain', async () => {
    const metrics = someMetrics();
    const headers = new Map([['x-user', 'eve']]);
    const checker = aChecker('Allow', metrics);
    await checker.check(SNAPSHOT, { ...REQUEST, context: { clientIP: '203.0.113.9', headers } });
    expect(await metrics.registry.metrics()).not.toContain('sluice_untrusted_words_total{');
    await checker.check(SNAPSHOT, { ...REQUEST, isTrusted, context: { clientIP: '203.0.113.9', headers } });
    // Its own address is nothing that it says.
    const silent = { consumer: undefined, tenant: undefined, tier: undefined, cost: undefined };
    await checker.check(SNAPSHOT, { ...REQUEST, isTrusted, ...silent, context: { clientIP: '198.51.100.1' } });
    const text = await metrics.registry.metrics();
    expect(text.match(/^sluice_untrusted_words_total.*$/gm)?.toSorted()).toEqual(
      ['consumer', 'cost', 'header', 'ip', 'tenant', 'tier'].map(
        (kind) => `sluice_untrusted_words_total{kind="${kind}"} 1`,
      ),
    );
  });

  it('may say anything of a tier, as nobody listens', async () => {
    expect((await found({ isTrusted, tier: 'gold' })).selection?.rules).toHaveLength(1);
  });
});

describe('a domain of which nothing is known', () => {
  const decide = async (unknownDomain: 'Allow' | 'Deny'): Promise<Decision> =>
    (await aChecker(unknownDomain).check(SNAPSHOT, { ...REQUEST, domain: 'unheard.of' })).decision;

  it('is allowed, or denied where the limiter is told so', async () => {
    expect(await decide('Allow')).toMatchObject({ action: 'ALLOW', reason: 'NO_POLICY' });
    expect(await decide('Deny')).toMatchObject({
      action: 'BLOCK',
      reason: 'UNKNOWN_DOMAIN',
      triggeredBy: 'Authentication',
    });
  });
});

describe('the address of a gRPC caller', () => {
  it.each([
    ['127.0.0.1', '127.0.0.1'],
    ['::ffff:10.0.0.1', '::ffff:10.0.0.1'],
    ['::1', '::1'],
    ['fd00::5', 'fd00::5'],
    ['fe80::1%eth0', 'fe80::1'],
    ['unknown', undefined],
  ])('%s is %s', (peer, address) => {
    expect(addressIn(peer)).toBe(address);
  });
});
