import { randomBytes } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { SubjectBudget } from '../../limiter/subject-budget.ts';
import { printOf, SubjectSet } from '../../limiter/subject-set.ts';
import { subjectOf } from '../../policy/hash.ts';
import type { SelectedRule } from '../../policy/selection.ts';
import { aWindow } from '../harness/limits.ts';
import { aRule } from '../harness/plain.ts';

type Selected = { readonly rules: readonly SelectedRule[] };

const WINDOW_MILLIS = 60_000;

/** A pod on a clock of the test's own. */
function aPod(maxSubjects?: number) {
  let now = 0;
  const overflows: { readonly rule: string; readonly isFirst: boolean }[] = [];
  const budget = new SubjectBudget({
    monotonicMillis: () => now,
    onOverflow: (_policy, rule, isFirst) => void overflows.push({ rule, isFirst }),
    maxSubjects,
    seed: 7,
  });
  return {
    budget,
    overflows,
    wait: (millis: number): void => void (now += millis),
    /** Whose counter a request of this subject would charge. */
    chargedTo: (name: string, isPeek = false): string | undefined =>
      budget.apply(selectionOf(name), isPeek).rules[0]?.limits[0]?.subject,
  };
}

/** As the selector names a subject. */
const named = (name: string): string => subjectOf(['consumer', name]);

// Made once: a million requests are asked about below.
const window = aWindow();
const rule = aRule([window]);

const selectionOf = (...names: readonly string[]): Selected => ({
  rules: names.map((name, i) => ({ ...rule, rule: `rule-${i}`, limits: [{ ...window, subject: named(name) }] })),
});

const isOwn = (pod: ReturnType<typeof aPod>, name: string, isPeek = false): boolean =>
  pod.chargedTo(name, isPeek) === named(name);

/** How many of so many subjects have a counter of their own. */
function own(pod: ReturnType<typeof aPod>, prefix: string, count: number): number {
  let owners = 0;
  for (let i = 0; i < count; i += 1) if (isOwn(pod, `${prefix}-${i}`)) owners += 1;
  return owners;
}

describe('the budget of subjects', () => {
  it('leaves a selection as it is, the very object, while the rules have room', () => {
    const pod = aPod();
    const selection = selectionOf('alice', 'bob');
    expect(pod.budget.apply(selection, false)).toBe(selection);
    expect(pod.budget.apply(selection, false)).toBe(selection);
    expect(pod.overflows).toEqual([]);
  });

  it('makes new subjects of a full rule share a few, and leaves those that are known their own', () => {
    const pod = aPod(1_000);
    expect(own(pod, 'known', 1_000)).toBe(1_000);
    const shared = new Set(Array.from({ length: 5_000 }, (_, i) => pod.chargedTo(`flood-${i}`)));
    expect(shared.size).toBe(16);
    expect(own(pod, 'known', 1_000)).toBe(1_000);
    expect(pod.chargedTo('flood-1')).toBe(pod.chargedTo('flood-1'));
    expect(pod.overflows).toHaveLength(5_000 + 2);
    expect(pod.overflows.filter(({ isFirst }) => isFirst)).toHaveLength(1);
  });

  it('touches only the rule that is full, with all of its limits, and nothing of the selection that it was given', () => {
    const pod = aPod(1);
    pod.chargedTo('first');
    const limits = [aWindow({ subject: named('next') }), aWindow({ subject: named('next'), windowSeconds: 3_600 })];
    const selection = { rules: [aRule(limits, { rule: 'rule-0' }), aRule(limits, { rule: 'other' })], penalties: [] };
    const before = structuredClone(selection);
    const applied = pod.budget.apply(selection, false);
    expect(selection).toEqual(before);
    const subjects = applied.rules.map((one) => one.limits.map(({ subject }) => subject));
    const overflow = subjects[0]?.[0];
    expect(overflow).not.toBe(named('next'));
    expect(subjects).toEqual([
      [overflow, overflow],
      [named('next'), named('next')],
    ]);
  });

  it('adds nobody for a peek', () => {
    const pod = aPod(1);
    for (let i = 0; i < 10; i += 1) expect(isOwn(pod, `peek-${i}`, true)).toBe(true);
    expect(isOwn(pod, 'first')).toBe(true);
    expect(isOwn(pod, 'second', true)).toBe(false);
  });

  it('does not know a subject for longer because of a peek', () => {
    const pod = aPod(1);
    expect(isOwn(pod, 'first')).toBe(true);
    pod.wait(WINDOW_MILLIS);
    expect(isOwn(pod, 'first', true)).toBe(true);
    pod.wait(WINDOW_MILLIS);
    expect(isOwn(pod, 'second')).toBe(true);
    expect(isOwn(pod, 'first', true)).toBe(false);
  });

  it('knows nobody after a pause of two windows, also where these are short', () => {
    const pod = aPod(1);
    const subjectOfOneSecond = (name: string): string | undefined => {
      const limits = [aWindow({ subject: named(name), windowSeconds: 1 })];
      return pod.budget.apply({ rules: [aRule(limits)] }, false).rules[0]?.limits[0]?.subject;
    };
    expect(subjectOfOneSecond('first')).toBe(named('first'));
    pod.wait(1_999);
    expect(subjectOfOneSecond('first')).toBe(named('first'));
    expect(subjectOfOneSecond('second')).not.toBe(named('second'));
    pod.wait(2_000);
    expect(subjectOfOneSecond('second')).toBe(named('second'));
  });

  it('knows a subject for a window after it was last seen, and has room again when they are gone', () => {
    const pod = aPod(10);
    expect(own(pod, 'old', 10)).toBe(10);
    pod.wait(WINDOW_MILLIS);
    expect(own(pod, 'old', 5)).toBe(5);
    // Those that have not come again may still have a counter in Redis.
    expect(own(pod, 'new', 10)).toBe(0);
    pod.wait(WINDOW_MILLIS);
    expect(own(pod, 'new', 10)).toBe(5);
    expect(own(pod, 'old', 5)).toBe(5);
    pod.wait(2 * WINDOW_MILLIS);
    expect(own(pod, 'newest', 20)).toBe(10);
  });

  it('counts a subject once that is seen in both windows', () => {
    const pod = aPod(10);
    expect(own(pod, 'old', 5)).toBe(5);
    pod.wait(WINDOW_MILLIS);
    expect(own(pod, 'old', 5)).toBe(5);
    expect(own(pod, 'new', 10)).toBe(5);
  });

  it('counts in the longest window of the rule, and says once in each that it overflows', () => {
    const pod = aPod(1);
    const ask = (name: string): void => {
      const limits = [aWindow({ subject: named(name) }), aWindow({ subject: named(name), windowSeconds: 3_600 })];
      pod.budget.apply({ rules: [aRule(limits)] }, false);
    };
    ask('first');
    for (let minute = 0; minute < 59; minute += 1) {
      ask('another');
      pod.wait(WINDOW_MILLIS);
    }
    const ofOneHour = [true, ...Array.from({ length: 58 }, () => false)];
    expect(pod.overflows.map(({ isFirst }) => isFirst)).toEqual(ofOneHour);
    pod.wait(WINDOW_MILLIS);
    ask('first');
    ask('another');
    ask('another');
    expect(pod.overflows.map(({ isFirst }) => isFirst)).toEqual([...ofOneHour, true, false]);
  });

  it('forgets rules that nobody asks about any more', () => {
    const pod = aPod();
    for (let i = 0; i < 200; i += 1) {
      pod.budget.apply({ rules: [aRule([aWindow({ subject: named('x') })], { policy: `gone/${i}` })] }, false);
    }
    const many = pod.budget.bytes;
    pod.wait(2 * WINDOW_MILLIS);
    pod.chargedTo('alice');
    expect(many).toBe(200 * 512);
    expect(pod.budget.bytes).toBe(512);
  });
});

/** As many subjects as a flood may bring, alike to those that the selector makes: 128 bits as text. */
function subjectsOf(count: number): (index: number) => string {
  const bits = randomBytes(16 * count);
  return (index) => bits.toString('base64url', 16 * index, 16 * (index + 1));
}

// Whatever else this machine does meanwhile: it is the bytes that count here.
const PATIENCE_MILLIS = 240_000;

describe('a flood of subjects [P52]', () => {
  it(
    'of ten times the budget takes bounded memory, and nearly none of it gets a counter of its own',
    () => {
      const pod = aPod(100_000);
      const subjectAt = subjectsOf(1_100_000);
      const owners = (from: number, to: number): number => {
        let count = 0;
        for (let i = from; i < to; i += 1) {
          const subject = subjectAt(i);
          const applied = pod.budget.apply({ rules: [{ ...rule, limits: [{ ...window, subject }] }] }, false);
          if (applied.rules[0]?.limits[0]?.subject === subject) count += 1;
        }
        return count;
      };
      expect(owners(0, 100_000)).toBe(100_000);
      // 100,000 / 2^32 of a million is 23 to be expected; more than 60 is less likely than one in 10^9.
      expect(owners(100_000, 1_100_000)).toBeLessThan(60);
      expect(owners(0, 100_000)).toBe(100_000);
      expect(pod.budget.bytes).toBeLessThanOrEqual(2 * 1_048_576);
    },
    PATIENCE_MILLIS,
  );

  it(
    'of a million has counters of its own if nothing else is said, and hardly anybody who comes after it',
    () => {
      const pod = aPod();
      const subjectAt = subjectsOf(1_010_000);
      for (let i = 0; i < 1_000_000; i += 1) {
        pod.budget.apply({ rules: [{ ...rule, limits: [{ ...window, subject: subjectAt(i) }] }] }, false);
      }
      expect(pod.overflows).toEqual([]);
      for (let i = 1_000_000; i < 1_010_000; i += 1) {
        pod.budget.apply({ rules: [{ ...rule, limits: [{ ...window, subject: subjectAt(i) }] }] }, false);
      }
      // 116 of the million share a print with another one, and leave their room to others.
      expect(pod.overflows.length).toBeGreaterThan(9_500);
    },
    PATIENCE_MILLIS,
  );

  it(
    'of a million that all fit takes at most 8 MiB in each of two windows',
    () => {
      const set = new SubjectSet();
      const subjectAt = subjectsOf(1_000_000);
      for (let i = 0; i < 1_000_000; i += 1) set.add(printOf(subjectAt(i), 7));
      expect(set.bytes).toBeLessThanOrEqual(8 * 1_048_576);
      // Two of them may have the same print: 116 pairs are to be expected.
      expect(set.size).toBeGreaterThan(999_700);
      let known = 0;
      for (let i = 0; i < 1_000_000; i += 1_000) if (set.has(printOf(subjectAt(i), 7))) known += 1;
      expect(known).toBe(1_000);
    },
    PATIENCE_MILLIS,
  );
});

describe('a set of subjects', () => {
  it('agrees with a plain set, whatever prints it holds', () => {
    const set = new SubjectSet();
    const plain = new Set<number>();
    for (let i = 0; i < 20_000; i += 1) {
      // Crowded and far apart, with both of the prints that are stored alike.
      const print = i % 3 === 0 ? i : (Math.imul(i, 0x0001_0003) >>> (i % 7)) >>> 0;
      const wanted = print === 0 ? 1 : print;
      expect(set.has(print)).toBe(plain.has(wanted));
      expect(set.add(print)).toBe(!plain.has(wanted));
      plain.add(wanted);
    }
    expect(set.size).toBe(plain.size);
  });

  it('has other prints with every seed', () => {
    const prints = new Set(Array.from({ length: 1_000 }, (_, seed) => printOf(named('alice'), seed)));
    expect(prints.size).toBe(1_000);
  });
});
