// What domains and policies cannot be in force together, and why.
import { describe, expect, it } from 'vitest';
import {
  object,
  limits,
  rule,
  policy,
  domain,
  OTHER,
  LATER,
  granting,
  Operator,
  judge,
  problemsOf,
  theProblem,
  edited,
} from './judging.ts';

describe('a policy for the domain of another namespace', () => {
  const guest = policy('guest', { domain: 'shop' }, OTHER);

  it.each([
    ['there is no such RateLimitDomain', []],
    ['it grants nothing', [domain()]],
    ['it grants the domain to others', [domain(granting('teams', 'tea'))]],
    ['another domain is granted', [domain(granting('team'), 'shop.eu')]],
  ])('is refused where %s', (_title, domains) => {
    const desired = judge(...domains, guest);
    expect(theProblem(desired)).toMatchObject([
      'RateLimitPolicy/team/guest',
      { path: 'spec.domain', reason: 'DomainNotGranted', message: expect.stringContaining('"shop"') },
    ]);
    expect(desired.entries.has('RateLimitPolicy/team/guest')).toBe(false);
  });

  it('is in force where the domain is granted', () => {
    const desired = judge(domain(granting('team')), guest);
    expect(desired.problems.size).toBe(0);
    expect(desired.entries.has('RateLimitPolicy/team/guest')).toBe(true);
  });

  it('leaves force when the grant is taken back, and comes again with it', () => {
    const operator = new Operator();
    const owner = domain(granting('team'));
    operator.judge(owner, guest);
    const revoked = operator.judge(edited(owner, {}), guest);
    expect(theProblem(revoked)).toMatchObject(['RateLimitPolicy/team/guest', { reason: 'DomainNotGranted' }]);
    expect([...operator.inForce.keys()]).toEqual(['RateLimitDomain/shop/shop']);
    operator.judge(owner, guest);
    expect(operator.inForce.has('RateLimitPolicy/team/guest')).toBe(true);
  });

  it('leaves force when the RateLimitDomain is deleted', () => {
    const operator = new Operator();
    operator.judge(domain(granting('team')), guest);
    expect(operator.judge(guest).entries.size).toBe(0);
  });

  it.each([
    ['not valid', { domain: 'shop', rules: [] }],
    [
      'of another domain, and has too many limits',
      { rules: [rule('a', { limits: limits(9) }), rule('b', { limits: limits(8) })] },
    ],
  ])('leaves force with its grant while an edit of it is refused that is %s', (_title, spec) => {
    const owner = domain(granting('team'));
    const refused = edited(guest, spec);
    // As it goes on, and after a restart.
    for (const isRestarted of [false, true]) {
      const operator = new Operator();
      operator.judge(owner, guest);
      operator.judge(owner, refused);
      expect(operator.inForce.get('RateLimitPolicy/team/guest')?.generation).toBe(1);
      if (isRestarted) operator.restart();
      const revoked = operator.judge(edited(owner, {}), refused);
      expect([...operator.inForce.keys()]).toEqual(['RateLimitDomain/shop/shop']);
      expect(revoked.policies.size).toBe(0);
      const reasons = problemsOf(revoked, 'RateLimitPolicy/team/guest').map(({ reason }) => reason);
      expect(reasons.at(-1)).toBe('DomainNotGranted');
      expect(reasons.length).toBeGreaterThan(1);
      // The same again, by what is remembered.
      operator.judge(
        edited(owner, {}),
        refused,
        object('SystemHealth', 'incident', { mode: 'NORMAL' }, { namespace: '' }),
      );
      expect(operator.inForce.has('RateLimitPolicy/team/guest')).toBe(false);
    }
  });

  it('stays in force while an edit of the RateLimitDomain is not valid', () => {
    const operator = new Operator();
    const owner = domain(granting('team'));
    operator.judge(owner, guest);
    const desired = operator.judge(edited(owner, { partitionBy: 'moon' }), guest);
    expect([...desired.problems.keys()]).toEqual(['RateLimitDomain/shop/shop']);
    expect(operator.inForce.has('RateLimitPolicy/team/guest')).toBe(true);
  });

  describe('after a restart of the operator while an edit of the RateLimitDomain is not valid', () => {
    const owner = domain(granting('team'));
    const invalid = edited(owner, { partitionBy: 'moon' });
    const another = policy('another', { domain: 'shop' }, OTHER);
    const restarted = (): Operator => {
      const operator = new Operator();
      operator.judge(owner, guest);
      return operator.restart();
    };

    it('stays in force as it is', () => {
      const operator = restarted();
      const before = operator.inForce;
      const desired = operator.judge(invalid, guest);
      expect([...desired.problems.keys()]).toEqual(['RateLimitDomain/shop/shop']);
      expect(operator.inForce).toEqual(before);
    });

    it('can be edited, and others can come: what is in force still grants the domain', () => {
      const desired = restarted().judge(invalid, edited(guest, { domain: 'shop', rules: [rule('another')] }), another);
      expect([...desired.problems.keys()]).toEqual(['RateLimitDomain/shop/shop']);
      expect(desired.entries.get('RateLimitPolicy/team/guest')?.generation).toBe(2);
      expect(desired.entries.has('RateLimitPolicy/team/another')).toBe(true);
    });

    it('is refused where what is in force does not grant the domain, although the edit would', () => {
      const operator = new Operator();
      operator.judge(domain());
      const granted = edited(domain(), { ...granting('team'), partitionBy: 'moon' });
      const desired = operator.restart().judge(granted, guest);
      expect(problemsOf(desired, 'RateLimitPolicy/team/guest')).toMatchObject([{ reason: 'DomainNotGranted' }]);
    });

    it('keeps its last good state when it is edited and Redis has lost the grants, until they are known again', () => {
      const operator = restarted().loseDocuments();
      const before = operator.inForce;
      const second = edited(guest, { domain: 'shop', rules: [rule('again')] });
      const desired = operator.judge(invalid, second, another);
      for (const id of ['RateLimitPolicy/team/guest', 'RateLimitPolicy/team/another']) {
        expect(problemsOf(desired, id)).toMatchObject([{ path: 'spec.domain', reason: 'DomainUnknown' }]);
      }
      expect(operator.inForce).toEqual(before);
      expect(operator.judge(owner, second, another).problems.size).toBe(0);
    });

    it('does not stay where the RateLimitDomain in force was another object', () => {
      const anew = { ...invalid, metadata: { ...invalid.metadata, uid: 'made anew' } };
      const desired = restarted().judge(anew, guest);
      expect(problemsOf(desired, 'RateLimitPolicy/team/guest')).toMatchObject([{ reason: 'DomainNotGranted' }]);
      expect(desired.entries.size).toBe(0);
    });
  });

  it('is not granted anything by a RateLimitDomain of its own namespace', () => {
    const desired = judge(domain(granting('team'), 'shop', OTHER), guest);
    expect(problemsOf(desired, 'RateLimitDomain/team/shop')).toMatchObject([{ reason: 'DomainNotOwned' }]);
    expect(problemsOf(desired, 'RateLimitPolicy/team/guest')).toMatchObject([{ reason: 'DomainNotGranted' }]);
  });
});

describe('an edit that was accepted and could not be published', () => {
  const small = policy('small');
  const large = edited(small, { rules: [rule('a', { limits: limits(6) }), rule('b', { limits: limits(6) })] });
  const invalid = edited(large, { rules: [] });
  const another = policy('another', { rules: [rule('r', { limits: limits(8) })] }, LATER);

  it('is in nobody’s way once another edit is refused: what is in force stays, and others are judged beside it', () => {
    const operator = new Operator();
    operator.judge(small);
    expect(operator.look(large).problems.size).toBe(0);
    const desired = operator.judge(invalid, another);
    expect([...desired.problems.keys()]).toEqual(['RateLimitPolicy/shop/small']);
    expect([...desired.policies.values()].map(({ metadata }) => [metadata.name, metadata.generation])).toEqual([
      ['another', 1],
      ['small', 1],
    ]);
    // The same again, by what is remembered, and after a restart.
    expect(operator.judge(invalid, another).problems).toEqual(desired.problems);
    expect([...operator.restart().judge(invalid, another).problems.keys()]).toEqual(['RateLimitPolicy/shop/small']);
  });

  it('does not come into force by a refused edit where nothing was', () => {
    const operator = new Operator();
    operator.look(large);
    const desired = operator.judge(invalid, another);
    expect([[...desired.entries.keys()], desired.policies.size]).toEqual([['RateLimitPolicy/shop/another'], 1]);
  });
});

describe('a domain that is partitioned', () => {
  const byTenant = domain({ partitionBy: 'tenant' });
  const fits = policy('fits', {
    rules: [rule('r', { countBy: ['tenant', 'route'], match: { paths: [{ type: 'Prefix', value: '/' }] } })],
  });
  const PENALTY = { countBy: ['tenant'], warn: { violations: 1, forSeconds: 60 } };

  it('takes policies that count by its axis', () => {
    expect(judge(byTenant, fits).problems.size).toBe(0);
  });

  it('refuses a rule and a penalty that do not, where the domain was there first', () => {
    const operator = new Operator();
    operator.judge(byTenant, fits);
    const rules = [rule('a', { countBy: ['tenant'] }), rule('b')];
    const late = policy('late', { rules, penalty: { ...PENALTY, countBy: ['consumer'] } }, LATER);
    const before = operator.inForce;
    // While the operator runs, and after its restart.
    for (let round = 0; round < 2; round += 1) {
      const desired = operator.judge(byTenant, fits, late);
      expect([...desired.problems.keys()]).toEqual(['RateLimitPolicy/shop/late']);
      expect(problemsOf(desired, 'RateLimitPolicy/shop/late')).toMatchObject([
        { path: 'spec.rules[1].countBy', reason: 'CrossPartitionRule' },
        { path: 'spec.penalty.countBy', reason: 'CrossPartitionRule' },
      ]);
      expect(operator.inForce).toEqual(before);
      operator.restart();
    }
  });

  it('stays partitioned for whoever comes while its edit is not valid, also after a restart of the operator', () => {
    const operator = new Operator();
    operator.judge(byTenant, fits);
    const invalid = edited(byTenant, { partitionBy: 'moon' });
    const late = policy('late', { rules: [rule('r')] }, LATER);
    for (let round = 0; round < 2; round += 1) {
      const desired = operator.judge(invalid, fits, late);
      expect([...desired.problems.keys()]).toEqual(['RateLimitDomain/shop/shop', 'RateLimitPolicy/shop/late']);
      expect(problemsOf(desired, 'RateLimitPolicy/shop/late')).toMatchObject([{ reason: 'CrossPartitionRule' }]);
      operator.restart();
    }
  });

  it('is refused where a policy is in the way that was there first', () => {
    const operator = new Operator();
    const old = domain();
    const inTheWay = policy('in-the-way', { rules: [rule('b')] });
    operator.judge(old, inTheWay, fits);
    const desired = operator.judge(edited(old, { partitionBy: 'tenant' }), inTheWay, fits);
    expect(theProblem(desired)).toMatchObject([
      'RateLimitDomain/shop/shop',
      { path: 'spec.partitionBy', reason: 'CrossPartitionRule', message: expect.stringContaining('shop/in-the-way') },
    ]);
    expect(operator.inForce.size).toBe(3);
  });

  it('is not held up by a policy of a namespace to which it is not granted', () => {
    const intruder = policy('intruder', { domain: 'shop' }, OTHER);
    const desired = judge(byTenant, fits, intruder);
    expect([...desired.problems.keys()]).toEqual(['RateLimitPolicy/team/intruder']);
    expect(desired.entries.has('RateLimitDomain/shop/shop')).toBe(true);
    const granted = domain({ partitionBy: 'tenant', ...granting('team') });
    expect(problemsOf(judge(granted, fits, intruder), 'RateLimitDomain/shop/shop')).toMatchObject([
      { reason: 'CrossPartitionRule', message: expect.stringContaining('team/intruder') },
    ]);
  });

  it('says nothing of other domains', () => {
    expect(judge(byTenant, policy('other', { domain: 'shop.eu' })).problems.size).toBe(0);
  });
});
