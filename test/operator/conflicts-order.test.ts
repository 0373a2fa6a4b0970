// What must not matter to what is in force: the order of the objects, and what the operator remembers.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { CompileCache } from '../../operator/compile-cache.ts';
import { computeDesired, type Desired } from '../../operator/desired.ts';
import { hashOfKey } from '../../policy/api-key.ts';
import type { RawResource } from '../../policy/resource.ts';
import {
  object,
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
  edited,
  judge,
} from './judging.ts';

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
      { numRuns: 300 },
    );
  });

  it('may be another one in each pass', () => {
    const operator = new Operator();
    const [one, other] = [policy('one'), policy('other', { domain: 'shop.other' })];
    operator.judge(one, other);
    operator.judge(other, one);
    const { entries } = operator.judge(other, edited(one, { rules: [rule('edited')] }));
    expect([...entries.keys()].toSorted()).toEqual(['RateLimitPolicy/shop/one', 'RateLimitPolicy/shop/other']);
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
    // These fit whatever is there: as long as nothing is refused, they are judged alone.
    [2, 3].map((count) => policy('third', { rules: [rule('a', { limits: limits(count) })] })),
    ['pro', 'gold'].map((name) =>
      policy('fourth', {
        tiers: [{ name, default: true, limits: limits(1) }],
        rules: [rule('t', { limitsFrom: 'Tier' })],
      }),
    ),
    [{ tier: 'pro' }, { tier: 'gold' }, { limits: [{ policy: 'limits', rule: 'r', limits: limits(1) }] }].map((spec) =>
      consumer('acme', spec),
    ),
    [object('SystemHealth', 'incident', { mode: 'NORMAL' }, { namespace: '' })],
  ];
  /** One object becomes one of its variants, each a generation of its own, or is deleted; and it is put in force, or Redis is away. */
  const change = fc
    .nat(variants.length - 1)
    .chain((index) => fc.tuple(fc.constant(index), fc.nat(variants[index]?.length), fc.boolean()));

  const generations = ({ policies }: Desired): unknown =>
    new Map([...policies].map(([id, { metadata }]) => [id, metadata.generation]));

  it('judges as one that starts with what is in force', () => {
    fc.assert(
      fc.property(fc.array(change, { minLength: 10, maxLength: 20 }), (changes) => {
        const operator = new Operator();
        const objects = new Map<number, RawResource>();
        for (const [index, at, isPublished] of changes) {
          const raw = variants[index]?.[at];
          if (raw === undefined) objects.delete(index);
          else objects.set(index, { ...raw, metadata: { ...raw.metadata, generation: at + 1 } });
          const resources = [...objects.values()];
          const fresh = operator.judgeAfresh(...resources);
          const known = isPublished ? operator.judge(...resources) : operator.look(...resources);
          expect(new Map(known.problems)).toEqual(new Map(fresh.problems));
          expect(new Map(known.entries)).toEqual(new Map(fresh.entries));
          expect(generations(known)).toEqual(generations(fresh));
          expect(new Set(known.documents.keys())).toEqual(new Set(fresh.documents.keys()));
        }
      }),
      { numRuns: 300 },
    );
  });

  it('says of a refused edit what is so now, when what was in force of it has left', () => {
    const operator = new Operator();
    const guest = policy('guest', { domain: 'shop' }, OTHER);
    operator.judge(domain(granting('team')), guest);
    const objects = [edited(domain(), {}), edited(guest, { domain: 'shop', rules: [] })];
    expect(operator.judge(...objects).entries.has('RateLimitPolicy/team/guest')).toBe(false);
    const fresh = operator.judgeAfresh(...objects);
    expect(new Map(operator.judge(...objects).problems)).toEqual(new Map(fresh.problems));
  });

  it('admits an edit as soon as there is room, also when the domain that the policy comes from was closed to it', () => {
    const operator = new Operator();
    const guest = policy('guest', { domain: 'shop' }, OTHER);
    const eu = domain(granting('team'), 'shop.eu');
    const full = policy('full', { domain: 'shop.eu', rules: [1, 2].map((n) => rule(`r${n}`, { limits: limits(8) })) });
    operator.judge(domain(granting('team')), eu, guest, full);
    const [closed, moved] = [edited(domain(), {}), edited(guest, { domain: 'shop.eu', rules: [rule('r')] })];
    const reasonsOf = (desired: Desired): unknown =>
      desired.problems.get('RateLimitPolicy/team/guest')?.map(({ reason }) => reason);
    expect(reasonsOf(operator.judge(closed, eu, moved, full))).toEqual(['TooManyLimits', 'DomainNotGranted']);
    // What was in force has left: nothing is wrong with it any more.
    expect(reasonsOf(operator.judge(closed, eu, moved, full))).toEqual(['TooManyLimits']);
    expect(reasonsOf(operator.judge(closed, eu, moved))).toBeUndefined();
    expect(operator.inForce.get('RateLimitPolicy/team/guest')?.generation).toBe(2);
  });
});
