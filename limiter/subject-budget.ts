import { subjectOf } from '../policy/hash.ts';
import type { SelectedRule, Selection } from '../policy/selection.ts';
import { printOf, SubjectSet } from './subject-set.ts';

export type SubjectBudgetOptions = {
  readonly monotonicMillis: () => number;
  /** A request of a new subject had to share a counter; `isFirst` in this window of the rule. */
  readonly onOverflow: (policy: string, rule: string, isFirst: boolean) => void;
  /** Subjects of one rule, in its longest window, that have counters of their own. Default: 1,000,000. */
  readonly maxSubjects?: number | undefined;
  /** Any 32 bits, new with each process. */
  readonly seed?: number;
};

/** The subjects of one rule: those of this window, and those of the one before. */
type Seen = {
  current: SubjectSet;
  previous: SubjectSet;
  /** How many of the previous ones are among the current ones. */
  returned: number;
  startedAtMillis: number;
  windowMillis: number;
  hasOverflowed: boolean;
};

const MAX_SUBJECTS = 1_000_000;
/** More than one, so that not all who come too late are limited as one client. */
const OVERFLOW_SUBJECTS = 16;
const SWEEP_MILLIS = 60_000;

const overflowSubjects = Array.from({ length: OVERFLOW_SUBJECTS }, (_, n) => subjectOf([`overflow:${n}`]));

/**
 * Bounds what a flood of ever new subjects can take from Redis: of each rule at most a million subjects in a window (by
 * this pod) have counters of their own. Those beyond share a few; who was known keeps its own. A subject is known for at
 * least one window, the longest of its rule, after it was last seen.
 *
 * Memory: two sets of 4 bytes a slot, at most 16 MiB for each rule with a million subjects, 512 bytes for one with few.
 * Subjects are told apart by 32 bits: at a million, 0.023 % of the new ones are taken for known and keep their own.
 */
export class SubjectBudget {
  readonly #options: SubjectBudgetOptions;
  readonly #maxSubjects: number;
  readonly #seed: number;
  /** By policy, then by rule: no text is put together for each request. */
  readonly #seen = new Map<string, Map<string, Seen>>();
  #sweptAtMillis = 0;

  constructor(options: SubjectBudgetOptions) {
    this.#options = options;
    this.#maxSubjects = options.maxSubjects ?? MAX_SUBJECTS;
    this.#seed = options.seed ?? Math.floor(Math.random() * 2 ** 32);
  }

  /** Bytes that the sets of all rules take. */
  get bytes(): number {
    let sum = 0;
    for (const rules of this.#seen.values()) {
      for (const { current, previous } of rules.values()) sum += current.bytes + previous.bytes;
    }
    return sum;
  }

  /** The same selection, nearly always; otherwise one in which new subjects of a full rule share. A peek adds nobody. */
  apply<T extends Pick<Selection, 'rules'>>(selection: T, isPeek: boolean): T {
    const now = this.#options.monotonicMillis();
    if (now - this.#sweptAtMillis >= SWEEP_MILLIS) this.#sweep(now);
    let rules: SelectedRule[] | undefined;
    for (let i = 0; i < selection.rules.length; i += 1) {
      const rule = selection.rules[i];
      if (rule === undefined) continue;
      const overflow = this.#overflowOf(rule, now, isPeek);
      if (overflow === undefined) continue;
      rules ??= [...selection.rules];
      rules[i] = { ...rule, limits: rule.limits.map((limit) => ({ ...limit, subject: overflow })) };
    }
    return rules === undefined ? selection : { ...selection, rules };
  }

  /** The subject that takes the place of this rule's own; undefined if it has its own. */
  #overflowOf(rule: SelectedRule, now: number, isPeek: boolean): string | undefined {
    // All limits of a rule count one subject.
    const subject = rule.limits[0]?.subject;
    if (subject === undefined) return undefined;
    const seen = this.#seenBy(rule, now);
    const print = printOf(subject, this.#seed);
    if (seen.current.has(print)) return undefined;
    if (seen.previous.has(print)) {
      if (!isPeek && seen.current.add(print)) seen.returned += 1;
      return undefined;
    }
    if (seen.current.size + seen.previous.size - seen.returned < this.#maxSubjects) {
      if (!isPeek) seen.current.add(print);
      return undefined;
    }
    this.#options.onOverflow(rule.policy, rule.rule, !seen.hasOverflowed);
    seen.hasOverflowed = true;
    return overflowSubjects[print % OVERFLOW_SUBJECTS];
  }

  #seenBy({ policy, rule, limits }: SelectedRule, now: number): Seen {
    let rules = this.#seen.get(policy);
    if (rules === undefined) this.#seen.set(policy, (rules = new Map<string, Seen>()));
    let seen = rules.get(rule);
    if (seen === undefined) rules.set(rule, (seen = nobody(now)));
    let longest = 0;
    for (const { windowSeconds } of limits) longest = Math.max(longest, windowSeconds);
    seen.windowMillis = longest * 1_000;
    if (now - seen.startedAtMillis >= seen.windowMillis) turn(seen, now);
    return seen;
  }

  /** Forgets rules that nobody asked about for two windows: also those that are no more. */
  #sweep(now: number): void {
    this.#sweptAtMillis = now;
    for (const [policy, rules] of this.#seen) {
      for (const [rule, seen] of rules) if (now - seen.startedAtMillis >= 2 * seen.windowMillis) rules.delete(rule);
      if (rules.size === 0) this.#seen.delete(policy);
    }
  }
}

const nobody = (now: number): Seen => ({
  current: new SubjectSet(),
  previous: new SubjectSet(),
  returned: 0,
  startedAtMillis: now,
  windowMillis: 0,
  hasOverflowed: false,
});

/** Begins another window; after a pause of two nobody is known. */
function turn(seen: Seen, now: number): void {
  const isRecent = now - seen.startedAtMillis < 2 * seen.windowMillis;
  seen.previous = isRecent ? seen.current : new SubjectSet();
  seen.current = new SubjectSet();
  seen.returned = 0;
  seen.startedAtMillis = now;
  seen.hasOverflowed = false;
}
