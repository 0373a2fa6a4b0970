import { describe, expect, it } from 'vitest';
import { compileHealth, compilePolicy, compileResource, counterFields } from '../../policy/compile.ts';
import { type Document, readDocument, toStored } from '../../policy/documents.ts';
import type { RawResource } from '../../policy/resource.ts';
import { validate } from '../../policy/validate.ts';
import { aHealth, aHealthDocument, aLimit, aPolicy, type PolicyBuilder } from './builders.ts';
import { goodCases, resourceWith } from './cases.ts';

/** The compiled form of what a source delivers. */
function compile(raw: RawResource): Document {
  const validation = validate(raw);
  if (!validation.ok) throw new TypeError(JSON.stringify(validation.problems));
  const document = compileResource(validation.resource);
  if (document === undefined) throw new TypeError('a consumer is not compiled');
  return document;
}

/** The same value with the fields of every object in the opposite order. */
function turned(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(turned);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    Object.entries(value)
      .toReversed()
      .map(([key, inner]) => [key, turned(inner)]),
  );
}

const compiledCases = goodCases
  .filter(({ kind }) => kind !== 'Consumer')
  .map(({ name, kind, spec }) => ({ name, raw: resourceWith(kind, spec) }));

describe('compiling', () => {
  it.each(compiledCases)('gives a document that reads as it was written: $raw.kind: $name', ({ raw }) => {
    const document = compile(raw);
    expect(readDocument(toStored(document).text)).toEqual(document);
  });

  it.each(compiledCases)('gives one text, in whatever order fields are written: $raw.kind: $name', ({ raw }) => {
    expect(JSON.stringify(compile({ ...raw, spec: turned(raw.spec) }))).toBe(JSON.stringify(compile(raw)));
  });

  it('gives one text, in whatever order axes are written', () => {
    const text = (countBy: string[]): string => JSON.stringify(aPolicy().withRule({ countBy }).document());
    expect(text(['tenant', 'consumer', 'header:a'])).toBe(text(['header:a', 'tenant', 'consumer']));
  });

  it('does not look at what is no part of the spec', () => {
    const policy = aPolicy().build();
    const later = { ...policy.metadata, generation: 9, uid: 'another', creationTimestamp: '2027-01-01T00:00:00Z' };
    expect(compilePolicy({ ...policy, metadata: later })).toEqual(compilePolicy(policy));
  });
});

describe('a compiled policy', () => {
  it('has its domain, which is the namespace unless given', () => {
    expect(aPolicy().document().domain).toBe('payments');
    expect(aPolicy().forDomain('payments.eu').document().domain).toBe('payments.eu');
  });

  it('has its tiers and the default one', () => {
    const policy = aPolicy().withTier('free').withTier('pro', { default: true });
    expect(policy.document()).toMatchObject({ tiers: ['free', 'pro'], defaultTier: 'pro' });
    expect(aPolicy().withTier('free').document()).not.toHaveProperty('defaultTier');
    expect(aPolicy().document().tiers).toEqual([]);
  });

  it('has the numbers that hold: burst and degraded are requests unless given', () => {
    const limits = [
      aLimit({ windowSeconds: 1, requests: 10 }),
      aLimit({ windowSeconds: 2, requests: 10, burst: 20, degraded: 0 }),
    ];
    expect(aPolicy().withRule({ limits }).document().rules[0]?.limits).toMatchObject([
      { windowSeconds: 1, requests: 10, capacity: 10, degraded: 10 },
      { windowSeconds: 2, requests: 10, capacity: 20, degraded: 0 },
    ]);
  });

  it('has the limits of every tier in a rule that takes them from there', () => {
    const policy = aPolicy()
      .withTier('free', { default: true, limits: [aLimit({ requests: 1 })] })
      .withTier('pro', { limits: [aLimit({ requests: 2 }), aLimit({ windowSeconds: 1, requests: 3 })] })
      .withRule({ limitsFrom: 'Tier' });
    expect(policy.document().rules[0]?.limits).toMatchObject({
      free: [{ requests: 1 }],
      pro: [{ requests: 2 }, { windowSeconds: 1, requests: 3 }],
    });
  });
});

describe('a rule of a compiled policy', () => {
  const waiting = aPolicy()
    .withRule({ name: 'last', after: [{ rule: 'middle', outcome: 'NotMatched' }] })
    .withRule({ name: 'middle', after: [{ rule: 'first', outcome: 'Denied' }] })
    .withRule({ name: 'first' });

  it('stands after those that it waits for, and says for what', () => {
    expect(waiting.document().rules.map(({ name, after }) => [name, after])).toEqual([
      ['first', []],
      ['middle', [{ rule: 'first', outcome: 'Denied' }]],
      ['last', [{ rule: 'middle', outcome: 'NotMatched' }]],
    ]);
  });

  it('keeps the order in which it was written where nothing waits', () => {
    const policy = aPolicy().withRule({ name: 'b' }).withRule({ name: 'a' });
    expect(policy.document().rules.map(({ name }) => name)).toEqual(['b', 'a']);
  });

  it('has its failure policy, which is LocalFallback unless given', () => {
    const policy = aPolicy().withRule({ name: 'a' }).withRule({ name: 'b', failurePolicy: 'Closed' });
    expect(policy.document().rules.map(({ failurePolicy }) => failurePolicy)).toEqual(['LocalFallback', 'Closed']);
  });

  it('is a shadow of its own, or of its policy', () => {
    const policy = aPolicy()
      .withRule({ name: 'a', mode: 'Shadow' })
      .withRule({ name: 'b' })
      .withRule({ name: 'c', mode: 'Shadow' });
    const groupsOf = (some: PolicyBuilder): number[] => some.document().rules.map(({ group }) => group);
    expect(groupsOf(policy)).toEqual([1, 0, 3]);
    expect(groupsOf(policy.inShadow())).toEqual([1, 1, 1]);
  });

  it('is cut by a penalty only if it counts by all axes of that', () => {
    const policy = aPolicy()
      .withPenalty({ countBy: ['tenant', 'consumer'] })
      .withRule({ name: 'a', countBy: ['consumer', 'method', 'tenant'] })
      .withRule({ name: 'b', countBy: ['consumer'] });
    expect(policy.document().rules.map(({ throttled }) => throttled)).toEqual([true, false]);
    expect(
      aPolicy()
        .document()
        .rules.map(({ throttled }) => throttled),
    ).toEqual([false]);
  });
});

describe('the penalty of a compiled policy', () => {
  const states = {
    warn: { violations: 1, forSeconds: 2 },
    throttle: { violations: 3, forSeconds: 4, limitPercent: 50 },
    tempBlock: { violations: 5, forSeconds: 6 },
    block: { tempBlocks: 7, withinSeconds: 8, forSeconds: 0 },
  };

  it('has what was left out filled in, and no state that was not given', () => {
    expect(
      aPolicy()
        .withPenalty({ countBy: ['tenant', 'consumer'] })
        .document().penalty,
    ).toEqual({
      enforced: true,
      countBy: ['consumer', 'tenant'],
      tolerancePercent: 100,
      violationWindowSeconds: 600,
      minSecondsPerStep: 10,
      warn: { violations: 1, forSeconds: 60 },
    });
  });

  it('has what was written, zeros too', () => {
    const numbers = { tolerancePercent: 0, violationWindowSeconds: 9, minSecondsPerStep: 0 };
    expect(
      aPolicy()
        .withPenalty({ ...states, ...numbers, mode: 'Enforce' })
        .document().penalty,
    ).toEqual({
      enforced: true,
      countBy: ['consumer'],
      ...numbers,
      ...states,
    });
  });

  it('is not enforced in shadow', () => {
    expect(aPolicy().withPenalty({ mode: 'Shadow' }).document().penalty?.enforced).toBe(false);
  });

  it('is not there if none was given, or if the whole policy is in shadow', () => {
    expect(aPolicy().document()).not.toHaveProperty('penalty');
    expect(aPolicy().withPenalty().inShadow().document()).not.toHaveProperty('penalty');
  });

  it('reads as it was written', () => {
    const document = aPolicy().withPenalty(states).document();
    expect(readDocument(toStored(document).text)).toEqual(document);
  });
});

describe('the field of a counter', () => {
  const fields = (policy: PolicyBuilder): string[] => [...counterFields(policy.document()).keys()];
  const base = aPolicy().withRule({ limits: [aLimit({ windowSeconds: 60, requests: 10 })] });
  const tiered = aPolicy()
    .withTier('free', { default: true, limits: [aLimit({ requests: 1 })] })
    .withTier('pro', { limits: [aLimit({ requests: 2, burst: 9 })] })
    .withRule({ limitsFrom: 'Tier' });

  it.each([
    ['the numbers are others', aPolicy().withRule({ limits: [aLimit({ requests: 7, burst: 70, degraded: 0 })] })],
    ['the limits come from tiers', tiered],
    ['the rule matches other requests', aPolicy().withRule({ match: { methods: ['GET'] } })],
    ['the rule counts by other axes, which make another key', aPolicy().withRule({ countBy: ['tenant'] })],
    ['the domain is another, which makes another key', base.forDomain('payments.eu')],
  ])('is the same where %s', (_title, policy) => {
    expect(fields(policy)).toEqual(fields(base));
  });

  it.each([
    ['the rule has another name', aPolicy().withRule({ name: 'other' })],
    ['the window is another', aPolicy().withRule({ limits: [aLimit({ windowSeconds: 61 })] })],
    ['the algorithm is another', aPolicy().withRule({ algorithm: 'SlidingWindow' })],
    ['the policy has another name', base.named('other')],
    ['the policy is in another namespace', base.inNamespace('shop')],
  ])('is another where %s', (_title, policy) => {
    expect(fields(policy)).toHaveLength(1);
    expect(fields(policy)).not.toEqual(fields(base));
  });

  it('does not mix up names that only join to the same text', () => {
    const pairs = [
      ['a', 'b-c'],
      ['a-b', 'c'],
      ['a1', '1b'],
      ['a11', 'b'],
    ].map(([policy = '', rule = '']) => fields(aPolicy().named(policy).withRule({ name: rule })));
    expect(new Set(pairs.flat()).size).toBe(4);
  });

  it('is told with the rule and the window that it stands for', () => {
    expect([...counterFields(base.document()).values()]).toEqual(['payments/limits, rule per-consumer, window 60']);
  });
});

describe('a compiled health object', () => {
  it('has its end in microseconds since 1970, in whatever zone it is written', () => {
    const micros = Date.parse('2026-06-01T12:00:00.5Z') * 1000;
    expect(aHealthDocument({ expiresAt: '2026-06-01T12:00:00.5Z' }).expiresAtMicros).toBe(micros);
    expect(aHealthDocument({ expiresAt: '2026-06-01T17:45:00.500+05:45' }).expiresAtMicros).toBe(micros);
  });

  it('has what it covers, and nothing that was not said', () => {
    const scope = { domains: ['payments'], tiers: ['free'] };
    expect(aHealthDocument({ scope })).toMatchObject(scope);
    expect(Object.keys(compileHealth(aHealth({ mode: 'NORMAL', reason: undefined })))).toEqual([
      'format',
      'requires',
      'kind',
      'name',
      'mode',
    ]);
  });
});
