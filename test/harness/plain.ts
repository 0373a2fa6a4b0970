import type { LimitOutcome } from '../../policy/decision.ts';
import type { SelectedLimit, SelectedRule, Selection } from '../../policy/selection.ts';
import type { Decider } from '../../store/decide.ts';
import type { DecideRequest } from '../../store/decide-wire.ts';

/** One enforced rule of these limits. */
export function aRule(limits: readonly SelectedLimit[], overrides: Partial<SelectedRule> = {}): SelectedRule {
  return {
    policy: 'test/policy',
    rule: 'rule',
    group: 0,
    penalty: undefined,
    throttled: false,
    cost: 1,
    isShown: true,
    failurePolicy: 'LocalFallback',
    after: [],
    limits,
    ...overrides,
  };
}

/** A request that is subject to one rule of these limits, without any penalty. */
export function plainRequest(partition: string, limits: readonly SelectedLimit[], cost = 1): DecideRequest {
  const selection: Pick<Selection, 'rules' | 'penalties'> = { rules: [aRule(limits, { cost })], penalties: [] };
  return { partition, selection };
}

/** What became of a plain request. */
export type PlainVerdict = {
  readonly admitted: boolean;
  /** Time of Redis at the decision, microseconds since 1970. */
  readonly redisMicros: number;
  /** In the order of the limits. */
  readonly outcomes: readonly LimitOutcome[];
};

/** Decides a request that is subject to these limits only. */
export async function decidePlain(
  decider: Pick<Decider, 'decide'>,
  {
    partition,
    cost,
    limits,
  }: { readonly partition: string; readonly cost: number; readonly limits: readonly SelectedLimit[] },
): Promise<PlainVerdict> {
  const { code, redisMicros, rules } = await decider.decide(plainRequest(partition, limits, cost));
  return { admitted: code === 'admitted', redisMicros, outcomes: rules.flatMap((rule) => rule.limits) };
}
