// An independent model of rules that wait for each other and of rules in shadow, on top of the model of limits. It
// follows the words of the contract, by recursion and by trying out times; it shares no code with the product.
import { Model, type ModelLimit, type ModelOutcome as LimitOutcome } from './model.ts';

export type ModelRule = {
  readonly group: number;
  readonly after: readonly { readonly rule: number; readonly outcome: 'Admitted' | 'Denied' | 'NotRun' }[];
  readonly limits: readonly ModelLimit[];
  /** It takes the cost of the request so many times; 1 if it is not given. */
  readonly times?: bigint;
};

const costOf = (rule: ModelRule, cost: bigint): bigint => cost * (rule.times ?? 1n);

export type ModelOutcome = 'Admitted' | 'Denied' | 'NotRun' | 'Forgiven';

export class RulesModel {
  readonly #limits = new Model();

  /** The outcomes of all rules, and of the limits of those that ran; charges as the contract says. */
  decide(
    rules: readonly ModelRule[],
    cost: bigint,
    now: bigint,
  ): { passes: boolean; outcomes: ModelOutcome[]; limits: LimitOutcome[][] } {
    const waits = rules.map((rule) => rule.limits.map((limit) => this.#limits.wait(limit, costOf(rule, cost), now)));
    const enforced = this.judge(rules, 0, cost, now);
    const outcomes = [...enforced.outcomes];
    const charged = enforced.passes ? [0] : [];
    for (const group of new Set(rules.map((rule) => rule.group))) {
      if (group === 0) continue;
      const shadow = this.judge(rules, group, cost, now);
      rules.forEach((rule, i) => {
        if (rule.group === group) outcomes[i] = shadow.outcomes[i] ?? 'NotRun';
      });
      if (shadow.passes && enforced.passes) charged.push(group);
    }
    rules.forEach((rule, i) => {
      if (!charged.includes(rule.group) || outcomes[i] !== 'Admitted') return;
      for (const limit of rule.limits) this.#limits.charge(limit, costOf(rule, cost), now);
    });
    const limits = rules.map((rule, i) =>
      outcomes[i] === 'NotRun'
        ? []
        : rule.limits.map((limit, n) => ({ ...this.#limits.report(limit, now), retryAfter: waits[i]?.[n] ?? 0n })),
    );
    return { passes: enforced.passes, outcomes, limits };
  }

  /** Whether the enforced rules would pass a request at a later time, if nothing else came. */
  passesAt(rules: readonly ModelRule[], cost: bigint, at: bigint): boolean {
    return this.judge(rules, 0, cost, at).passes;
  }

  /** Every time after now at which some limit of some rule may change its mind. */
  momentsAfter(rules: readonly ModelRule[], cost: bigint, now: bigint): bigint[] {
    return rules
      .flatMap((rule) => rule.limits.map((limit) => this.#limits.wait(limit, costOf(rule, cost), now)))
      .filter((wait) => wait > 0n)
      .map((wait) => now + wait);
  }

  judge(
    rules: readonly ModelRule[],
    group: number,
    cost: bigint,
    at: bigint,
  ): { passes: boolean; outcomes: ModelOutcome[] } {
    const outcomes = rules.map((): ModelOutcome => 'NotRun');
    rules.forEach((rule, i) => {
      const runs =
        rule.after.length === 0 ||
        rule.after.some(({ rule: other, outcome }) => this.#heard(rules, outcomes, other, group) === outcome);
      if (rule.group !== group || !runs) return;
      outcomes[i] = rule.limits.every((limit) => this.#limits.wait(limit, costOf(rule, cost), at) === 0n)
        ? 'Admitted'
        : 'Denied';
    });
    const isForgiven = (index: number): boolean =>
      rules.some(
        (rule, i) =>
          rule.group === group &&
          rule.after.some((condition) => condition.rule === index && condition.outcome === 'Denied') &&
          (outcomes[i] === 'Admitted' || (outcomes[i] === 'Denied' && isForgiven(i))),
      );
    const final = outcomes.map((outcome, i): ModelOutcome =>
      outcome === 'Denied' && isForgiven(i) ? 'Forgiven' : outcome,
    );
    return { passes: !final.includes('Denied'), outcomes: final };
  }

  /** The outcome of another rule as a rule of this group hears it. */
  #heard(rules: readonly ModelRule[], outcomes: readonly ModelOutcome[], index: number, group: number): ModelOutcome {
    return rules[index]?.group === group ? (outcomes[index] ?? 'NotRun') : 'NotRun';
  }
}
