import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { inOrder, orderProblems } from '../../policy/rule-order.ts';
import type { Rule } from '../../policy/schema/rate-limit-policy.ts';
import { aRule } from './builders.ts';

/** Rules by name, with the names of those that each waits for. */
function rulesOf(waits: Readonly<Record<string, readonly string[]>>): Rule[] {
  return Object.entries(waits).map(([name, others]) =>
    aRule({ name, after: others.map((rule) => ({ rule, outcome: 'Denied' })) }),
  );
}

const namesOf = (rules: readonly Rule[]): string[] => rules.map(({ name }) => name);

describe('the order of rules', () => {
  it.each([
    ['is as written where nothing waits', { c: [], a: [], b: [] }, ['c', 'a', 'b']],
    ['is as written where it fits', { a: [], b: ['a'], c: ['b'] }, ['a', 'b', 'c']],
    ['moves what is waited for before who waits', { a: ['c'], b: [], c: [] }, ['c', 'a', 'b']],
    ['is turned where all wait for the next', { a: ['b'], b: ['c'], c: [] }, ['c', 'b', 'a']],
    ['has each rule of a diamond once', { d: ['b', 'c'], b: ['a'], c: ['a'], a: [] }, ['a', 'b', 'c', 'd']],
    ['does not mind a rule that does not exist', { b: ['gone', 'a'], a: [] }, ['a', 'b']],
  ] as [string, Record<string, string[]>, string[]][])('%s', (_title, waits, expected) => {
    expect(namesOf(inOrder(rulesOf(waits)))).toEqual(expected);
  });

  it('leaves the rules themselves as they are', () => {
    const rules = rulesOf({ a: ['b'], b: [] });
    const [b, a] = inOrder(rules);
    expect(a).toBe(rules[0]);
    expect(b).toBe(rules[1]);
    expect(namesOf(rules)).toEqual(['a', 'b']);
  });

  it('comes without after as well', () => {
    expect(namesOf(inOrder([aRule({ name: 'b' }), aRule({ name: 'a' })]))).toEqual(['b', 'a']);
  });
});

describe('what is wrong with an order', () => {
  const messagesOf = (waits: Record<string, string[]>): string[] =>
    orderProblems(rulesOf(waits)).map(({ message }) => message);

  it('is nothing, for rules that wait for each other without a cycle', () => {
    expect(orderProblems(rulesOf({ d: ['b', 'c'], b: ['a'], c: ['a'], a: [] }))).toEqual([]);
    expect(orderProblems([aRule()])).toEqual([]);
  });

  it.each([
    [{ a: ['a'] }, 'a -> a'],
    [{ a: ['b'], b: ['a'] }, 'a -> b -> a'],
    [{ a: ['b'], b: ['c'], c: ['a'] }, 'a -> b -> c -> a'],
    [{ start: ['a'], a: ['b'], b: ['a'] }, 'a -> b -> a'],
    [{ a: [], b: ['a'], c: ['a', 'd'], d: ['b', 'c'] }, 'c -> d -> c'],
  ] as [Record<string, string[]>, string][])('is a cycle, which is named: %j', (waits, cycle) => {
    expect(orderProblems(rulesOf(waits))).toEqual([
      { path: 'spec.rules', reason: 'RuleCycle', message: `rules wait for each other: ${cycle}` },
    ]);
  });

  it('is every rule that does not exist, beside a cycle', () => {
    expect(messagesOf({ a: ['x', 'a'], b: ['a', 'y'] })).toEqual([
      'there is no rule "x" in this policy',
      'there is no rule "y" in this policy',
      'rules wait for each other: a -> a',
    ]);
  });
});

const MOST_RULES = 8;

/** Any graph of rules named r0, r1, ..., cycles and all. */
const graphs = fc
  .array(fc.uniqueArray(fc.nat({ max: MOST_RULES - 1 }), { maxLength: 3 }), { minLength: 1, maxLength: MOST_RULES })
  .map((waits) =>
    Object.fromEntries(
      waits.map((others, index) => [
        `r${index}`,
        others.filter((other) => other < waits.length).map((other) => `r${other}`),
      ]),
    ),
  );

/** Whether a rule is reached from itself: slow, and obviously right. */
function hasCycle(waits: Readonly<Record<string, readonly string[]>>): boolean {
  return Object.keys(waits).some((start) => {
    let reached = new Set(waits[start]);
    for (let step = 0; step < MOST_RULES; step += 1) {
      reached = new Set([...reached, ...[...reached].flatMap((name) => waits[name] ?? [])]);
    }
    return reached.has(start);
  });
}

describe('for any rules', () => {
  it('a cycle is found if there is one, and each step of it is one that was written', () => {
    fc.assert(
      fc.property(graphs, (waits) => {
        const [problem] = orderProblems(rulesOf(waits));
        expect(problem !== undefined).toBe(hasCycle(waits));
        const cycle = problem?.message.replace('rules wait for each other: ', '').split(' -> ') ?? [];
        cycle.slice(1).forEach((name, index) => expect(waits[cycle[index] ?? '']).toContain(name));
        expect(cycle[0]).toBe(cycle.at(-1));
      }),
      { numRuns: 1_000 },
    );
  });

  it('none is lost, and without a cycle each stands after all that it waits for', () => {
    fc.assert(
      fc.property(graphs, (waits) => {
        const order = namesOf(inOrder(rulesOf(waits)));
        expect(order.toSorted()).toEqual(Object.keys(waits).toSorted());
        if (hasCycle(waits)) return;
        for (const [name, others] of Object.entries(waits)) {
          for (const other of others) expect(order.indexOf(other)).toBeLessThan(order.indexOf(name));
        }
      }),
      { numRuns: 1_000 },
    );
  });
});
