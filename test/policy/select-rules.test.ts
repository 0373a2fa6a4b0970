// What a request is subject to beyond limits: rules that wait, rules in shadow, penalties.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Rule } from '../../policy/schema/rate-limit-policy.ts';
import type { RequestContext, SelectedRule, Selection } from '../../policy/selection.ts';
import { aPolicy, selectAmong, type PolicyBuilder } from './builders.ts';

const REQUEST: RequestContext = {
  path: '/v1/users',
  method: 'GET',
  consumer: 'key:acme',
  tenant: 'tenant-1',
};

function select(policies: readonly PolicyBuilder[], request: RequestContext = REQUEST): Selection {
  return selectAmong(
    policies.map((policy) => policy.document()),
    request,
  );
}

const namesOf = ({ rules }: Selection): string[] => rules.map(({ rule }) => rule);

/** The conditions that are left of a rule, undefined if it does not apply. */
function conditionsOf(selection: Selection, name: string): SelectedRule['after'] | undefined {
  return selection.rules.find(({ rule }) => rule === name)?.after;
}

type Outcome = NonNullable<Rule['after']>[number]['outcome'];

const waitsFor = (rule: string, outcome: Outcome): Pick<Rule, 'after'> => ({ after: [{ rule, outcome }] });
/** Does not match, lacks an input, or has no limits for this request. */
const INAPPLICABLE: [string, Partial<Rule>][] = [
  ['does not match', { match: { methods: ['POST'] } }],
  ['lacks what it counts by', { countBy: ['header:absent'] }],
  ['has no limits for the tier', { limitsFrom: 'Tier' }],
];

describe('what a request is subject to', () => {
  it('is all that is told: nothing of the request itself', () => {
    expect(Object.keys(select([aPolicy()])).toSorted()).toEqual([
      'blockedBy',
      'exemptions',
      'missing',
      'overrides',
      'penalties',
      'rules',
    ]);
  });

  it('has the failure policy of each rule, which is LocalFallback unless given', () => {
    const policy = aPolicy()
      .withRule({ name: 'a' })
      .withRule({ name: 'b', failurePolicy: 'Open' })
      .withRule({ name: 'c', failurePolicy: 'Closed' });
    expect(select([policy]).rules.map(({ failurePolicy }) => failurePolicy)).toEqual([
      'LocalFallback',
      'Open',
      'Closed',
    ]);
  });
});

describe('a rule that waits for another that applies', () => {
  it.each([
    ['Admitted', 'Admitted'],
    ['Denied', 'Denied'],
    ['NotMatched', 'NotRun'],
  ] as const)('keeps its condition on %s, as %s', (outcome, kept) => {
    const policy = aPolicy()
      .withRule({ name: 'first' })
      .withRule({ name: 'waits', ...waitsFor('first', outcome) });
    const selection = select([policy]);
    expect(conditionsOf(selection, 'first')).toEqual([]);
    expect(conditionsOf(selection, 'waits')).toEqual([{ rule: 0, outcome: kept }]);
  });

  it('stands after it, in whatever order they are written, and counts positions among all rules that apply', () => {
    const policy = aPolicy()
      .withRule({ name: 'waits', ...waitsFor('first', 'Denied') })
      .withRule({ name: 'absent', match: { methods: ['POST'] } })
      .withRule({ name: 'beside' })
      .withRule({ name: 'first', ...waitsFor('beside', 'Admitted') });
    const selection = select([policy]);
    expect(namesOf(selection)).toEqual(['beside', 'first', 'waits']);
    expect(conditionsOf(selection, 'first')).toEqual([{ rule: 0, outcome: 'Admitted' }]);
    expect(conditionsOf(selection, 'waits')).toEqual([{ rule: 1, outcome: 'Denied' }]);
  });

  it('means the one of its own policy, not one of that name in another', () => {
    const policy = aPolicy()
      .withRule({ name: 'first' })
      .withRule({ name: 'waits', ...waitsFor('first', 'Denied') });
    const { rules } = select([policy.named('a'), policy.named('b'), aPolicy().named('c').withRule({ name: 'x' })]);
    expect(rules.map(({ after }) => after.map(({ rule }) => rule))).toEqual([[], [0], [], [2], []]);
  });
});

describe('a rule that waits for one that does not apply', () => {
  describe.each(INAPPLICABLE)('as that %s', (_title, first) => {
    const policyWith = (waits: Partial<Rule>): PolicyBuilder =>
      aPolicy()
        .withRule({ name: 'first', ...first })
        .withRule({ name: 'beside' })
        .withRule({ name: 'waits', ...waits });

    it('runs without any condition if it waits for that', () => {
      expect(conditionsOf(select([policyWith(waitsFor('first', 'NotMatched'))]), 'waits')).toEqual([]);
    });

    it('runs without any condition if that is one of several', () => {
      const after: Rule['after'] = [
        { rule: 'beside', outcome: 'Admitted' },
        { rule: 'first', outcome: 'NotMatched' },
      ];
      expect(conditionsOf(select([policyWith({ after })]), 'waits')).toEqual([]);
    });

    it('runs whatever becomes of the others, and still forgives a denial that it waits for', () => {
      const after: Rule['after'] = [
        { rule: 'beside', outcome: 'Denied' },
        { rule: 'first', outcome: 'NotMatched' },
      ];
      expect(conditionsOf(select([policyWith({ after })]), 'waits')).toEqual([
        { rule: 1, outcome: 'NotRun' },
        { rule: 0, outcome: 'Denied' },
      ]);
    });

    it.each(['Admitted', 'Denied'] as const)('does not apply if it waits for it to be %s', (outcome) => {
      expect(conditionsOf(select([policyWith(waitsFor('first', outcome))]), 'waits')).toBeUndefined();
    });

    it('keeps its other conditions', () => {
      const after: Rule['after'] = [
        { rule: 'first', outcome: 'Denied' },
        { rule: 'beside', outcome: 'Denied' },
      ];
      expect(conditionsOf(select([policyWith({ after })]), 'waits')).toEqual([{ rule: 0, outcome: 'Denied' }]);
    });
  });

  it('counts as one that does not apply for those that wait for it', () => {
    const policy = aPolicy()
      .withRule({ name: 'first', match: { methods: ['POST'] } })
      .withRule({ name: 'second', ...waitsFor('first', 'Denied') })
      .withRule({ name: 'third', ...waitsFor('second', 'Admitted') })
      .withRule({ name: 'otherwise', ...waitsFor('second', 'NotMatched') });
    const selection = select([policy]);
    expect(namesOf(selection)).toEqual(['otherwise']);
    expect(conditionsOf(selection, 'otherwise')).toEqual([]);
    expect(selection.missing).toEqual([]);
  });
});

describe('a rule that waits for one in shadow', () => {
  it.each([
    ['Enforce', 'Shadow'],
    ['Shadow', 'Enforce'],
    ['Shadow', 'Shadow'],
  ] as const)('(%s for %s) takes it for one that does not match, as they are not judged together', (mode, other) => {
    const policy = aPolicy()
      .withRule({ name: 'first', mode: other })
      .withRule({ name: 'waits', mode, ...waitsFor('first', 'NotMatched') })
      .withRule({ name: 'never', mode, ...waitsFor('first', 'Denied') });
    expect(namesOf(select([policy]))).toEqual(['first', 'waits']);
    expect(conditionsOf(select([policy]), 'waits')).toEqual([]);
  });

  it('hears it where the whole policy is in shadow', () => {
    const policy = aPolicy()
      .inShadow()
      .withRule({ name: 'first' })
      .withRule({ name: 'waits', ...waitsFor('first', 'Denied') });
    expect(conditionsOf(select([policy]), 'waits')).toEqual([{ rule: 0, outcome: 'Denied' }]);
  });
});

describe('the group of a rule', () => {
  const groupsOf = (...policies: readonly PolicyBuilder[]): number[] =>
    select(policies).rules.map(({ group }) => group);
  const two = aPolicy().withRule({ name: 'a' }).withRule({ name: 'b' });
  const shadows = aPolicy().withRule({ name: 'a', mode: 'Shadow' }).withRule({ name: 'b', mode: 'Shadow' });

  it('is none if it is enforced', () => {
    expect(groupsOf(two.named('a'), two.named('b'))).toEqual([0, 0, 0, 0]);
    expect(groupsOf(aPolicy().withRule({ mode: 'Enforce' }))).toEqual([0]);
  });

  it('is its own if it alone is in shadow', () => {
    const [one = 0, other = 0] = groupsOf(shadows);
    expect(one).not.toBe(0);
    expect(other).not.toBe(0);
    expect(one).not.toBe(other);
  });

  it('is that of its policy if the whole of it is in shadow, whatever the rules say', () => {
    const [one = 0, other = 0] = groupsOf(two.inShadow());
    expect(one).not.toBe(0);
    expect(one).toBe(other);
    expect(groupsOf(shadows.inShadow())).toEqual([one, one]);
  });

  it('is never that of a rule of another policy', () => {
    const policies = [
      shadows.named('a'),
      two.named('b').inShadow(),
      two.named('c').inShadow(),
      shadows.named('d'),
      shadows.named('e'),
    ];
    const { rules } = select(policies);
    expect(rules.every(({ group }) => group !== 0)).toBe(true);
    const policiesOf = new Map<number, Set<string>>();
    for (const { group, policy } of rules) {
      policiesOf.set(group, (policiesOf.get(group) ?? new Set()).add(policy));
    }
    expect([...policiesOf.values()].every((some) => some.size === 1)).toBe(true);
    expect(policiesOf.size).toBe(2 + 1 + 1 + 2 + 2);
  });

  it('is that of no other policy even where one has as many rules as there may be', () => {
    const many = Array.from({ length: 64 }).reduce<PolicyBuilder>(
      (policy, _, index) => policy.withRule({ name: `r${index}`, mode: 'Shadow' }),
      aPolicy().named('a'),
    );
    expect(new Set(groupsOf(many, shadows.named('b'))).size).toBe(66);
  });
});

describe('a penalty', () => {
  const punished = aPolicy().withPenalty();

  it('governs the enforced rules of its policy, and no others', () => {
    const policy = punished
      .named('b')
      .withRule({ name: 'one' })
      .withRule({ name: 'shadow', mode: 'Shadow' })
      .withRule({ name: 'two' });
    const { rules, penalties } = select([aPolicy().named('a'), policy, punished.named('c')]);
    expect(penalties.map((penalty) => penalty.policy)).toEqual(['payments/b', 'payments/c']);
    expect(rules.map(({ policy: id, rule, penalty }) => [id, rule, penalty])).toEqual([
      ['payments/a', 'per-consumer', undefined],
      ['payments/b', 'one', 0],
      ['payments/b', 'shadow', undefined],
      ['payments/b', 'two', 0],
      ['payments/c', 'per-consumer', 1],
    ]);
  });

  it.each([
    ['no rule applies', { match: { methods: ['POST'] } }],
    ['the only rule that applies is in shadow', { mode: 'Shadow' }],
    ['the only rule that applies lacks an input', { countBy: ['header:absent'] }],
  ] as [string, Partial<Rule>][])('does not govern a request to which %s', (_title, rule) => {
    expect(select([punished.withRule(rule)]).penalties).toEqual([]);
  });

  it('does not govern a request whose only enforced rule waits in vain', () => {
    const policy = punished
      .withRule({ name: 'shadow', mode: 'Shadow' })
      .withRule({ name: 'never', ...waitsFor('shadow', 'Denied') });
    expect(select([policy]).penalties).toEqual([]);
  });

  it('is not there in a policy in shadow', () => {
    expect(select([punished.inShadow()]).penalties).toEqual([]);
  });

  it('that lacks what it counts by is reported, and its rules stay in force', () => {
    const policy = aPolicy()
      .withPenalty({ countBy: ['tenant'] })
      .withRule({ name: 'r' });
    const selection = select([policy], { ...REQUEST, tenant: undefined });
    expect(selection.penalties).toEqual([]);
    expect(selection.rules).toMatchObject([{ rule: 'r', penalty: undefined }]);
    expect(selection.missing).toEqual([{ policy: 'payments/limits', rule: '(penalty)', input: 'tenant' }]);
  });

  it('has one subject for each of those whom it may meet, in each policy', () => {
    const subjects = (request: RequestContext, ...policies: readonly PolicyBuilder[]): string[] =>
      select(policies, request).penalties.map(({ subject }) => subject);
    const [a, b] = subjects(REQUEST, punished.named('a'), punished.named('b'));
    const other = { ...REQUEST, consumer: 'key:other' };
    expect(new Set([a, b, ...subjects(other, punished.named('a'))]).size).toBe(3);
    expect(subjects({ ...REQUEST, tenant: 'another', path: '/else' }, punished.named('a'))).toEqual([a]);
  });

  it('has one subject in whatever order its axes are written', () => {
    const subjectOf = (countBy: string[]): unknown =>
      select([aPolicy().withPenalty({ countBy })]).penalties[0]?.subject;
    expect(subjectOf(['tenant', 'consumer'])).toBe(subjectOf(['consumer', 'tenant']));
  });

  it.each([
    [['consumer'], ['consumer'], true],
    [['consumer'], ['tenant', 'consumer'], true],
    [['consumer', 'tenant'], ['tenant', 'consumer', 'method'], true],
    [['consumer', 'tenant'], ['consumer'], false],
    [['consumer'], ['tenant'], false],
    [['consumer'], ['global'], false],
  ])('by %j cuts the limits of a rule by %j: %s', (penaltyAxes, ruleAxes, isCut) => {
    const policy = aPolicy().withPenalty({ countBy: penaltyAxes }).withRule({ countBy: ruleAxes });
    expect(select([policy]).rules).toMatchObject([{ throttled: isCut, penalty: 0 }]);
  });

  it('cuts nothing where there is none', () => {
    expect(select([aPolicy()]).rules).toMatchObject([{ throttled: false, penalty: undefined }]);
  });
});

describe('the text of who is punished', () => {
  const textOf = (consumer: string, tenant = 't'): string => {
    const policy = aPolicy().withPenalty({ countBy: ['tenant', 'consumer'] });
    return select([policy], { ...REQUEST, consumer, tenant }).penalties[0]?.text ?? '';
  };

  it('names the policy, each axis and its value', () => {
    expect(textOf('key:acme', 'tenant-1')).toBe('payments/limits consumer=key:acme tenant=tenant-1');
  });

  const OVERHEAD = 'payments/limits consumer= tenant=t'.length;

  it.each([
    ['ASCII', 'a', 256 - OVERHEAD],
    ['two bytes', 'é', (256 - OVERHEAD) / 2],
    ['four bytes', '𝒶', Math.floor((256 - OVERHEAD) / 4)],
  ])('is whole up to 256 bytes: %s', (_title, character, most) => {
    expect(textOf(character.repeat(most))).toBe(`payments/limits consumer=${character.repeat(most)} tenant=t`);
    expect(textOf(character.repeat(most + 1))).toMatch(/\.\.\.$/);
  });

  it.each(['a', 'é', '€', '𝒶'])('is cut between characters, as late as may be: %s', (character) => {
    for (const prefix of ['', 'x', 'xx', 'xxx']) {
      const text = textOf(prefix + character.repeat(300));
      const kept = `payments/limits consumer=${prefix}`;
      const count = Math.floor((253 - kept.length) / Buffer.byteLength(character));
      expect(text).toBe(`${kept}${character.repeat(count)}...`);
    }
  });

  it('is UTF-8 of at most 256 bytes and begins as the whole does, whatever the values are', () => {
    const anything = fc.oneof(
      fc.string({ unit: 'binary', maxLength: 400 }),
      fc.string({ maxLength: 400, minLength: 100 }),
      fc.array(fc.constantFrom('\uD800', '\uDC00', 'a', '€', '𝒶'), { maxLength: 200 }).map((some) => some.join('')),
    );
    fc.assert(
      fc.property(anything, anything, (consumer, tenant) => {
        const text = textOf(consumer, tenant);
        const bytes = Buffer.from(text);
        expect(bytes.length).toBeLessThanOrEqual(256);
        expect(text.isWellFormed()).toBe(true);
        expect(bytes.toString()).toBe(text);
        const whole = `payments/limits consumer=${consumer} tenant=${tenant}`.toWellFormed();
        const isCut = Buffer.byteLength(whole) > 256;
        expect(isCut ? whole.startsWith(text.slice(0, -3)) : text === whole).toBe(true);
        expect(bytes.length).toBeGreaterThan(isCut ? 256 - 4 : 0);
      }),
      { numRuns: 1_000 },
    );
  });
});
