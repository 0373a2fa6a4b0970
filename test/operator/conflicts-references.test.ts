// Overrides and Consumers, judged beside the policies that they refer to.
import { describe, expect, it } from 'vitest';
import { type Desired } from '../../operator/desired.ts';
import { hashOfKey } from '../../policy/api-key.ts';
import type { RawResource } from '../../policy/resource.ts';
import type { RateLimitOverrideSpec } from '../../policy/schema/rate-limit-override.ts';
import {
  limits,
  rule,
  policy,
  domain,
  override,
  consumer,
  OTHER,
  LATER,
  granting,
  Operator,
  judge,
  problemsOf,
  theProblem,
  edited,
} from './judging.ts';

describe('an override', () => {
  const target = policy('limits', { rules: [rule('a', { limits: limits(2) }), rule('b')] });

  it('of a policy and rules that are there is in force', () => {
    const desired = judge(target, override({ rules: ['a', 'b'] }));
    expect(desired.problems.size).toBe(0);
    expect(desired.entries.has('RateLimitOverride/shop/override')).toBe(true);
  });

  it.each([
    ['a policy that is not there', { policyRef: { name: 'gone' } }, 'spec.policyRef.name', 'UnknownPolicy', '"gone"'],
    ['a rule that is not there', { rules: ['a', 'gone'] }, 'spec.rules[1]', 'UnknownRule', '"gone"'],
    [
      'more limits than a rule has',
      { action: 'Replace', rules: ['a', 'b'], limits: limits(2) },
      'spec.limits',
      'TooManyLimits',
      'rule "b" has at most 1',
    ],
    [
      'more limits than some rule has, where it names none',
      { action: 'Replace', limits: limits(2) },
      'spec.limits',
      'TooManyLimits',
      'rule "b" has at most 1',
    ],
    [
      'a network of many clients',
      { subject: { clientIP: '2001:db8::/32' } },
      'spec.subject.clientIP',
      'NotOneClient',
      '"2001:db8::/32" is not one client of domain "shop", which counts networks of 64 bits',
    ],
    [
      'a part of a client',
      { subject: { clientIP: '2001:db8::/96' } },
      'spec.subject.clientIP',
      'NotOneClient',
      '"2001:db8::/96"',
    ],
  ] as [string, Partial<RateLimitOverrideSpec>, ...string[]][])(
    'with %s is refused',
    (_title, spec, ...[path, reason, says]) => {
      const desired = judge(target, override(spec));
      expect(theProblem(desired)).toMatchObject([
        'RateLimitOverride/shop/override',
        { path, reason, message: expect.stringContaining(says ?? '') },
      ]);
      expect(desired.entries.has('RateLimitOverride/shop/override')).toBe(false);
    },
  );

  it('of a client is in force for an address, and for a network that its domain counts by', () => {
    const wide = domain({ identity: { ipv6PrefixLength: 48 } });
    const of = (clientIP: string): RawResource => override({ subject: { clientIP } });
    expect(judge(target, of('2001:db8::1')).problems.size).toBe(0);
    expect(judge(target, of('2001:db8::/64')).problems.size).toBe(0);
    expect(judge(target, of('2001:db8::1/128')).problems.size).toBe(0);
    expect(judge(target, of('203.0.113.9/32')).problems.size).toBe(0);
    expect(judge(wide, target, of('2001:db8::/48')).problems.size).toBe(0);
    expect(theProblem(judge(wide, target, of('2001:db8::/64')))).toMatchObject([
      'RateLimitOverride/shop/override',
      { reason: 'NotOneClient' },
    ]);
  });

  it('may bring as many limits as the largest tier has', () => {
    const tiers = [
      { name: 'free', default: true, limits: limits(1) },
      { name: 'pro', limits: limits(3) },
    ];
    const tiered = policy('limits', { tiers, rules: [rule('a', { limitsFrom: 'Tier' })] });
    const replacing = (count: number): Desired => judge(tiered, override({ action: 'Replace', limits: limits(count) }));
    expect(replacing(3).problems.size).toBe(0);
    expect(theProblem(replacing(4))).toMatchObject(['RateLimitOverride/shop/override', { reason: 'TooManyLimits' }]);
  });

  it('of a logged rule has limits that can be logged', () => {
    const logged = policy('limits', { rules: [rule('a', { algorithm: 'SlidingWindowLog' })] });
    const replaced = override({ action: 'Replace', limits: [{ windowSeconds: 1, requests: 1001 }] });
    expect(theProblem(judge(logged, replaced))).toMatchObject([
      'RateLimitOverride/shop/override',
      { path: 'spec.limits', reason: 'LimitTooLargeForLog' },
    ]);
  });

  it('meets the policy of its own namespace only', () => {
    const elsewhere = policy('limits', {}, OTHER);
    expect(theProblem(judge(elsewhere, override()))).toMatchObject([
      'RateLimitOverride/shop/override',
      { reason: 'UnknownPolicy' },
    ]);
  });

  it('stays in force while its policy has an edit that is not valid', () => {
    const operator = new Operator();
    operator.judge(target, override());
    const desired = operator.judge(edited(target, { rules: [] }), override());
    expect([...desired.problems.keys()]).toEqual(['RateLimitPolicy/shop/limits']);
    expect(operator.inForce.has('RateLimitOverride/shop/override')).toBe(true);
  });

  it('is judged beside the policy that is in force, also when the operator starts while its edit is not valid', () => {
    const operator = new Operator();
    operator.judge(target);
    const broken = edited(target, { rules: [] });
    const fits = override({ rules: ['a'], action: 'Replace', limits: limits(2) });
    const misfit = override({ rules: ['b'], action: 'Replace', limits: limits(2) }, 'misfit');
    for (const round of [operator.restart(), operator]) {
      const desired = round.judge(broken, fits, misfit);
      expect(problemsOf(desired, 'RateLimitOverride/shop/override')).toEqual([]);
      expect(problemsOf(desired, 'RateLimitOverride/shop/misfit')).toMatchObject([{ reason: 'TooManyLimits' }]);
    }
    // Nobody knows what is in force when Redis has lost that, too.
    const desired = operator.restart().loseDocuments().judge(broken, fits);
    expect(problemsOf(desired, 'RateLimitOverride/shop/override')).toMatchObject([{ reason: 'UnknownPolicy' }]);
  });
});

describe('a Consumer', () => {
  const target = policy('limits', {
    tiers: [
      { name: 'free', default: true, limits: limits(1) },
      { name: 'pro', limits: limits(2) },
    ],
    rules: [rule('a'), rule('by-tier', { limitsFrom: 'Tier' })],
  });
  const agreeing = (fields: object): RawResource =>
    consumer('acme', { limits: [{ policy: 'limits', rule: 'a', limits: limits(1), ...fields }] });

  it.each([
    ['limits for a policy that is not there', { policy: 'gone' }, 'spec.limits[0].policy', 'UnknownPolicy'],
    ['limits for a rule that is not there', { rule: 'gone' }, 'spec.limits[0].rule', 'UnknownRule'],
    ['more limits than the rule has', { limits: limits(2) }, 'spec.limits[0].limits', 'TooManyLimits'],
    ['more limits than any tier has', { rule: 'by-tier', limits: limits(3) }, 'spec.limits[0].limits', 'TooManyLimits'],
  ])('with %s is refused', (_title, fields, path, reason) => {
    const desired = judge(target, agreeing(fields));
    expect(theProblem(desired)).toMatchObject(['Consumer/shop/acme', { path, reason }]);
    expect(desired.consumers).toEqual([]);
  });

  it('is judged beside the tiers and rules in force, also when the operator starts while an edit of these is not valid', () => {
    const operator = new Operator();
    operator.judge(target);
    const broken = edited(target, { rules: [] });
    const desired = operator
      .restart()
      .judge(
        broken,
        consumer('pro', { tier: 'pro', limits: [{ policy: 'limits', rule: 'by-tier', limits: limits(2) }] }),
        consumer('gold', { tier: 'gold' }),
        consumer('greedy', { limits: [{ policy: 'limits', rule: 'by-tier', limits: limits(3) }] }),
      );
    expect(problemsOf(desired, 'Consumer/shop/pro')).toEqual([]);
    expect(problemsOf(desired, 'Consumer/shop/gold')).toMatchObject([{ reason: 'UnknownTier' }]);
    expect(problemsOf(desired, 'Consumer/shop/greedy')).toMatchObject([{ reason: 'TooManyLimits' }]);
  });

  it('with limits that fit counts', () => {
    const desired = judge(target, agreeing({ rule: 'by-tier', limits: limits(2) }));
    expect(desired.problems.size).toBe(0);
    expect(desired.consumers.map(({ metadata }) => metadata.name)).toEqual(['acme']);
  });

  it('with a tier that no policy knows is refused, with those that are known', () => {
    expect(theProblem(judge(target, consumer('acme', { tier: 'gold' })))).toMatchObject([
      'Consumer/shop/acme',
      { path: 'spec.tier', reason: 'UnknownTier', message: expect.stringContaining('"gold"') },
    ]);
    expect(theProblem(judge(target, consumer('acme', { tier: 'gold' })))[1].message).toContain('free, pro');
    expect(judge(target, consumer('acme', { tier: 'pro' })).problems.size).toBe(0);
  });

  it('may have any tier where no policy has any, and those of the domains that are granted to it', () => {
    expect(judge(policy('plain'), consumer('acme', { tier: 'gold' })).problems.size).toBe(0);
    const guest = consumer('guest', { tier: 'pro' }, OTHER);
    const own = policy('own', { tiers: [{ name: 'basic', limits: limits(1) }] }, OTHER);
    expect(judge(domain(granting('team')), target, own, guest).problems.size).toBe(0);
    expect(theProblem(judge(domain(), target, own, guest))).toMatchObject([
      'Consumer/team/guest',
      { reason: 'UnknownTier' },
    ]);
  });

  it('with several keys of others has each of them named, and nothing of the others', () => {
    const keys = ['one', 'two', 'three'].map((key) => `sha256:${hashOfKey(key)}`);
    const late = consumer('late', { apiKeyHashes: keys }, LATER);
    const secretive = consumer('secretive', { apiKeyHashes: [keys[0]] }, OTHER);
    const desired = judge(late, secretive, consumer('mine', { apiKeyHashes: [keys[2]] }));
    const problems = problemsOf(desired, 'Consumer/shop/late');
    expect(problems.map(({ path, reason }) => [path, reason])).toEqual([
      ['spec.apiKeyHashes[0]', 'Conflicted'],
      ['spec.apiKeyHashes[2]', 'Conflicted'],
    ]);
    expect(JSON.stringify(problems)).not.toMatch(/secretive|team|mine/);
    expect(desired.consumers).toHaveLength(2);
  });
});
