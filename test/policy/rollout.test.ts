// For whom a rule is enforced, what it costs, and whether answers speak of it.
import { describe, expect, it } from 'vitest';
import type { Rule } from '../../policy/schema/rate-limit-policy.ts';
import { selectRules } from '../../policy/select.ts';
import type { RequestContext, SelectedRule } from '../../policy/selection.ts';
import type { DomainIndex } from '../../policy/snapshot.ts';
import { aPolicy, indexOf, type PolicyBuilder } from './builders.ts';
import { admits, aJudgedRule, aSelectedLimit, decideOn, denies } from './verdicts.ts';

const NOW = Date.parse('2026-06-01T12:00:00Z') * 1000;

const rulesOf = (index: DomainIndex, request: RequestContext): readonly SelectedRule[] =>
  selectRules(index, request, NOW, { healths: [] }).rules;

describe('a rule that is enforced for a part of its subjects', () => {
  const SUBJECTS = 10_000;
  const consumers = Array.from({ length: SUBJECTS }, (_, index) => `key:consumer-${index}`);
  const at = (enforcePercent: number): PolicyBuilder => aPolicy().withRule({ name: 'partly', enforcePercent });

  /** The subjects for which it is enforced. */
  function enforcedFor(enforcePercent: number): Set<string> {
    const index = indexOf([at(enforcePercent).document()]);
    return new Set(consumers.filter((consumer) => rulesOf(index, { consumer })[0]?.group === 0));
  }

  it('is enforced for nobody at 0, and for all at 100', () => {
    expect(enforcedFor(0).size).toBe(0);
    expect(enforcedFor(100).size).toBe(SUBJECTS);
  });

  it.each([1, 10, 50, 99])('is enforced for about %i percent of them', (percent) => {
    // Six standard deviations of a fair choice.
    const deviation = Math.sqrt(SUBJECTS * (percent / 100) * (1 - percent / 100));
    expect(Math.abs(enforcedFor(percent).size - (SUBJECTS * percent) / 100)).toBeLessThan(6 * deviation);
  });

  it('stays enforced for whom it is, the same each time, when the percentage rises', () => {
    const steps = [1, 5, 10, 20, 60, 95].map(enforcedFor);
    expect(enforcedFor(10)).toEqual(steps[2]);
    steps.slice(1).forEach((larger, index) => {
      expect([...(steps[index] ?? [])].every((consumer) => larger.has(consumer))).toBe(true);
    });
  });

  it('is enforced for whole subjects: what it does not count by changes nothing', () => {
    const index = indexOf([at(50).document()]);
    for (const consumer of consumers.slice(0, 100)) {
      const groups = ['/a', '/b'].flatMap((path) =>
        rulesOf(index, { consumer, path, tenant: path, method: 'PUT' }).map(({ group }) => group),
      );
      expect(new Set(groups).size).toBe(1);
    }
  });

  it('is in shadow for the others by itself, and disturbs no other rule', () => {
    const policy = aPolicy().withPenalty().withRule({ name: 'all' }).withRule({ name: 'a', enforcePercent: 0 });
    const index = indexOf([
      policy.withRule({ name: 'b', enforcePercent: 0 }).withRule({ name: 'c', mode: 'Shadow' }).document(),
      aPolicy().named('other').withRule({ name: 'd', enforcePercent: 0 }).document(),
    ]);
    const rules = rulesOf(index, { consumer: 'key:acme' });
    expect(rules.map(({ rule, penalty }) => [rule, penalty])).toEqual([
      ['all', 0],
      ['a', undefined],
      ['b', undefined],
      ['c', undefined],
      ['d', undefined],
    ]);
    expect(rules[0]?.group).toBe(0);
    expect(new Set(rules.map(({ group }) => group)).size).toBe(5);
  });

  it('counts as not matched, for those for whom it is not enforced, where others wait for it', () => {
    const waiting = (outcome: 'Denied' | 'NotMatched'): readonly string[] => {
      const policy = at(0).withRule({ name: 'waits', after: [{ rule: 'partly', outcome }] });
      return rulesOf(indexOf([policy.document()]), { consumer: 'key:acme' }).map(({ rule }) => rule);
    };
    expect(waiting('Denied')).toEqual(['partly']);
    expect(waiting('NotMatched')).toEqual(['partly', 'waits']);
  });

  it('has one counter whether or not it is enforced', () => {
    const counter = (percent: number): unknown =>
      rulesOf(indexOf([at(percent).document()]), { consumer: 'key:acme' }).flatMap(({ limits }) =>
        limits.map(({ subject, field }) => [subject, field]),
      );
    expect(counter(0)).toEqual(counter(100));
  });
});

describe('what a request costs', () => {
  const cost = (spec: Rule['cost'], request: RequestContext): number | undefined =>
    rulesOf(indexOf([aPolicy().withRule({ cost: spec }).document()]), { consumer: 'key:acme', ...request })[0]?.cost;
  const priced = { default: 3, header: 'x-cost', max: 50 };
  const trusted = (header: string, request: RequestContext = {}): RequestContext => ({
    headers: new Map([['x-cost', header]]),
    hasTrustedHeaders: true,
    ...request,
  });

  it.each([
    ['1 where nothing is said', undefined, {}, 1],
    ['the default of the rule', { default: 3 }, {}, 3],
    ['what a trusted caller says', undefined, { cost: 7 }, 7],
    ['at least the default', { default: 3 }, { cost: 2 }, 3],
    ['at most the max', { max: 5 }, { cost: 6 }, 5],
    ['at most a million', undefined, { cost: 2_000_000 }, 1_000_000],
    ['what a trusted header says', priced, trusted('20'), 20],
    ['at least the default, whatever the header says', priced, trusted('2'), 3],
    ['at least the default, for a header of 0', priced, trusted('0'), 3],
    ['at most the max, whatever the header says', priced, trusted('51'), 50],
    ['at most the max, for a header of 15 digits', priced, trusted('9'.repeat(15)), 50],
    ['what the header says, where the caller says something else', priced, trusted('20', { cost: 30 }), 20],
    ['the default, where nobody trusts the header', priced, { headers: new Map([['x-cost', '20']]) }, 3],
    ['the default, where another header says something', priced, trusted('20', { headers: new Map([['x', '20']]) }), 3],
    ['1, where the rule names no header', undefined, trusted('20'), 1],
  ] as [string, Rule['cost'], RequestContext, number][])('is %s', (_title, spec, request, expected) => {
    expect(cost(spec, request)).toBe(expected);
  });

  it.each(['', ' ', '-1', '+5', '1.5', '1e3', '0x10', '٣', ' 7', '7 ', '7,8', 'NaN', 'Infinity', '9'.repeat(16)])(
    'is the default for a header that is no whole number: "%s"',
    (header) => {
      expect(cost(priced, trusted(header))).toBe(3);
      expect(cost(priced, trusted(header, { cost: 30 }))).toBe(3);
    },
  );

  it('is that of each rule by itself', () => {
    const policy = aPolicy()
      .withRule({ name: 'a' })
      .withRule({ name: 'b', cost: { default: 10 } })
      .withRule({ name: 'c', cost: { max: 2 } });
    const rules = rulesOf(indexOf([policy.document()]), { consumer: 'key:acme', cost: 5 });
    expect(rules.map((rule) => rule.cost)).toEqual([5, 10, 2]);
  });
});

describe('a rule that answers must not speak of', () => {
  it('is selected as such', () => {
    const shown = (headers: Rule['headers']): unknown =>
      rulesOf(indexOf([aPolicy().withRule({ headers }).document()]), { consumer: 'key:acme' })[0]?.isShown;
    expect([shown(undefined), shown('Show'), shown('Hide')]).toEqual([true, true, false]);
  });

  const hidden = aSelectedLimit({ capacity: 100 });
  const open = aSelectedLimit({ capacity: 10 });

  it('is not reported where it is the tightest, and the next one is', () => {
    const rules = [
      aJudgedRule('Admitted', [hidden, admits(1)], { rule: 'hidden', isShown: false }),
      aJudgedRule('Admitted', [open, admits(9)], { rule: 'open' }),
    ];
    expect(decideOn({ rules, verdict: { code: 'admitted' } }).reported).toMatchObject({ rule: 'open', remaining: 9 });
    expect(decideOn({ rules: rules.slice(0, 1), verdict: { code: 'admitted' } }).reported).toBeUndefined();
  });

  it('denies all the same, with the time to wait and without its numbers', () => {
    const rules = [
      aJudgedRule('Denied', [hidden, denies(9)], { rule: 'hidden', isShown: false }),
      aJudgedRule('Admitted', [open, admits(9)], { rule: 'open' }),
    ];
    expect(decideOn({ rules, verdict: { code: 'denied', retryAfterMicros: 9_000_000 } })).toMatchObject({
      action: 'THROTTLE',
      reason: 'RATE_LIMIT_EXCEEDED',
      retryAfterMicros: 9_000_000,
      reported: undefined,
    });
  });
});
