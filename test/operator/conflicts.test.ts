// What cannot be in force together, and why: every case as the operator judges the whole set of objects.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { CompileCache } from '../../operator/compile-cache.ts';
import { computeDesired, type Desired } from '../../operator/desired.ts';
import { hashOfKey } from '../../policy/api-key.ts';
import type { ManifestEntry, StoredDocument } from '../../policy/documents.ts';
import type { Metadata, Problem, RawResource } from '../../policy/resource.ts';
import type { RateLimitOverrideSpec } from '../../policy/schema/rate-limit-override.ts';
import type { Rule } from '../../policy/schema/rate-limit-policy.ts';

const NOTHING = new Map<string, ManifestEntry>();

const object = (
  kind: RawResource['kind'],
  name: string,
  spec: unknown,
  metadata: Partial<Metadata> = {},
): RawResource => ({
  kind,
  metadata: {
    namespace: 'shop',
    name,
    uid: `uid-${metadata.namespace ?? 'shop'}-${name}`,
    generation: 1,
    creationTimestamp: '2026-01-01T00:00:00Z',
    ...metadata,
  },
  spec,
});

const limits = (count: number): Rule['limits'] =>
  Array.from({ length: count }, (_, index) => ({ windowSeconds: index + 1, requests: 5 }));
const rule = (name: string, fields: Partial<Rule> = {}): unknown => ({
  name,
  countBy: ['consumer'],
  algorithm: 'TokenBucket',
  ...(fields.limitsFrom === undefined ? { limits: limits(1) } : {}),
  ...fields,
});
const policy = (name: string, spec: object = {}, metadata: Partial<Metadata> = {}): RawResource =>
  object('RateLimitPolicy', name, { rules: [rule('r')], ...spec }, metadata);
const domain = (spec: object = {}, name = 'shop', metadata: Partial<Metadata> = {}): RawResource =>
  object('RateLimitDomain', name, spec, metadata);
const override = (spec: Partial<RateLimitOverrideSpec> = {}, name = 'override'): RawResource =>
  object('RateLimitOverride', name, {
    policyRef: { name: 'limits' },
    subject: { consumer: 'key:acme' },
    action: 'Block',
    expiresAt: '2026-12-01T00:00:00Z',
    ...spec,
  });
const consumer = (name: string, spec: object = {}, metadata: Partial<Metadata> = {}): RawResource =>
  object('Consumer', name, spec, metadata);

const OTHER = { namespace: 'team' };
const LATER = { creationTimestamp: '2026-02-01T00:00:00Z' };
const granting = (...namespaces: string[]): object => ({ grants: namespaces.map((namespace) => ({ namespace })) });

/** An operator that goes on from round to round, with what it published in force. */
class Operator {
  inForce: ReadonlyMap<string, ManifestEntry> = NOTHING;
  #cache = new CompileCache();
  #revision = 0;
  /** What is in Redis. */
  readonly #documents = new Map<string, StoredDocument>();

  /** Judges them while it cannot publish. */
  look(...resources: readonly RawResource[]): Desired {
    return computeDesired(resources, { entries: this.inForce, documents: this.#documents }, this.#cache);
  }

  judge(...resources: readonly RawResource[]): Desired {
    const desired = this.look(...resources);
    for (const [name, document] of desired.documents) this.#documents.set(name, document);
    this.#revision += 1;
    const entries = [...desired.entries].map(([id, entry]): [string, ManifestEntry] => [
      id,
      { ...entry, revision: entry.revision === 0 ? this.#revision : entry.revision },
    ]);
    this.inForce = new Map(entries);
    return desired;
  }

  /** What an operator says that starts now, without putting it in force. */
  judgeAfresh(...resources: readonly RawResource[]): Desired {
    return computeDesired(resources, { entries: this.inForce, documents: this.#documents }, new CompileCache());
  }

  /** It forgets all but what is in Redis. */
  restart(): this {
    this.#cache = new CompileCache();
    return this;
  }

  /** Redis has lost what the entries in force refer to. */
  loseDocuments(): this {
    this.#documents.clear();
    return this;
  }
}

const judge = (...resources: readonly RawResource[]): Desired => new Operator().judge(...resources);

function problemsOf(desired: Desired, id: string): readonly Problem[] {
  return desired.problems.get(id) ?? [];
}

/** The only problem of the only object that has any. */
function theProblem(desired: Desired): readonly [string, Partial<Problem>] {
  const found = [...desired.problems].flatMap(([id, problems]) => problems.map((problem) => [id, problem] as const));
  expect(found).toHaveLength(1);
  return found[0] ?? ['', {}];
}

const edited = (resource: RawResource, spec: object): RawResource => ({
  ...resource,
  metadata: { ...resource.metadata, generation: resource.metadata.generation + 1 },
  spec,
});

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
      expect(revoked.policies).toEqual([]);
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
    expect(desired.policies.map(({ metadata }) => [metadata.name, metadata.generation])).toEqual([
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
    expect([[...desired.entries.keys()], desired.policies.length]).toEqual([['RateLimitPolicy/shop/another'], 1]);
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

describe('the order in which objects come', () => {
  const all: readonly RawResource[] = [
    domain({ partitionBy: 'consumer', ...granting('team') }),
    domain(granting('nobody'), 'shop.eu'),
    policy('limits', { rules: [rule('a', { limits: limits(8) })] }),
    policy('heavy', { rules: [rule('b', { limits: limits(8) })] }, LATER),
    policy('too-heavy', { rules: [rule('c')] }, { creationTimestamp: '2026-03-01T00:00:00Z' }),
    policy('guest', { domain: 'shop.eu' }, OTHER),
    policy('crossing', { domain: 'shop', rules: [rule('x', { countBy: ['tenant'] })] }, { ...OTHER, ...LATER }),
    override({ rules: ['a'] }, 'good'),
    override({ rules: ['gone'] }, 'bad'),
    override({ policyRef: { name: 'too-heavy' } }, 'of-what-is-refused'),
    consumer('one', { apiKeyHashes: [`sha256:${hashOfKey('k')}`] }),
    consumer('two', { apiKeyHashes: [`sha256:${hashOfKey('k')}`] }),
    consumer('three', { apiKeyHashes: [`sha256:${hashOfKey('k')}`] }, { creationTimestamp: '2025-01-01T00:00:00Z' }),
  ];
  const summary = (desired: Desired): unknown => ({
    entries: [...desired.entries].toSorted(([one], [other]) => (one < other ? -1 : 1)),
    problems: [...desired.problems].toSorted(([one], [other]) => (one < other ? -1 : 1)),
    consumers: desired.consumers.map(({ metadata }) => metadata.name).toSorted(),
  });

  it('does not matter', () => {
    const expected = summary(judge(...all));
    expect(expected).toMatchObject({ consumers: ['three'] });
    const order = fc.shuffledSubarray([...all], { minLength: all.length });
    fc.assert(
      fc.property(order, (shuffled) => {
        expect(summary(judge(...shuffled))).toEqual(expected);
      }),
      { numRuns: 200 },
    );
  });

  it('does not matter to what is judged again, with a part of it in force', () => {
    const first = new Operator();
    first.judge(...all.slice(0, 4));
    const inForce = first.inForce;
    const again = (resources: readonly RawResource[]): unknown =>
      summary(computeDesired(resources, { entries: inForce, documents: new Map() }, new CompileCache()));
    const expected = again(all);
    fc.assert(
      fc.property(fc.shuffledSubarray([...all], { minLength: all.length }), (shuffled) => {
        expect(again(shuffled)).toEqual(expected);
      }),
      { numRuns: 100 },
    );
  });
});

describe('an operator that goes on from what it knows', () => {
  const variants: readonly (readonly RawResource[])[] = [
    [{}, { partitionBy: 'consumer' }, { grants: [{ namespace: 'team' }] }, { partitionBy: 'moon' }].map((spec) =>
      domain(spec),
    ),
    [{}, { rules: [rule('a'), rule('b', { countBy: ['tenant'] })] }, { rules: [] }].map((spec) =>
      policy('limits', spec),
    ),
    [
      { tiers: [{ name: 'pro', default: true, limits: limits(2) }], rules: [rule('t', { limitsFrom: 'Tier' })] },
      { rules: [1, 2, 3].map((n) => rule(`r${n}`, { limits: limits(4) })) },
      { rules: [] },
    ].map((spec) => policy('second', spec, LATER)),
    [{ domain: 'shop' }, { domain: 'shop', rules: [] }].map((spec) => policy('guest', spec, OTHER)),
    [{ rules: ['r'] }, { rules: ['b'] }, { policyRef: { name: 'second' } }].map((spec) => override(spec)),
    [{ tier: 'pro' }, { limits: [{ policy: 'limits', rule: 'r', limits: limits(1) }] }].map((spec) =>
      consumer('acme', spec),
    ),
    [object('SystemHealth', 'incident', { mode: 'NORMAL' }, { namespace: '' })],
  ];
  /** One object becomes one of its variants, each a generation of its own, or is deleted. */
  const change = fc
    .nat(variants.length - 1)
    .chain((index) => fc.tuple(fc.constant(index), fc.nat(variants[index]?.length)));

  it('judges as one that starts with what is in force', () => {
    fc.assert(
      fc.property(fc.array(change, { minLength: 10, maxLength: 20 }), (changes) => {
        const operator = new Operator();
        const objects = new Map<number, RawResource>();
        for (const [index, at] of changes) {
          const raw = variants[index]?.[at];
          if (raw === undefined) objects.delete(index);
          else objects.set(index, { ...raw, metadata: { ...raw.metadata, generation: at + 1 } });
          const resources = [...objects.values()];
          const fresh = operator.judgeAfresh(...resources);
          const known = operator.judge(...resources);
          expect([...known.problems]).toEqual([...fresh.problems]);
          expect(new Map(known.entries)).toEqual(new Map(fresh.entries));
          expect(known.policies.length).toBe(fresh.policies.length);
        }
      }),
      { numRuns: 100 },
    );
  });
});
