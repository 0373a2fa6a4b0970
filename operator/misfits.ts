// What is wrong with an object beside another one, as the status of the object says it.
import type { Problem, ValidPolicy } from '../policy/resource.ts';
import { fitsLog, type Limit, LOG_MESSAGE } from '../policy/schema/limit.ts';
import type { Rule } from '../policy/schema/rate-limit-policy.ts';

/** Counters of one decision are in one slot: in a partitioned domain everything counts by the axis. */
export function crossPartitionProblems({ spec }: ValidPolicy, axis: string): Problem[] {
  const message = `the domain is partitioned by ${axis}: every rule and the penalty must count by it`;
  const problems = spec.rules.flatMap((rule, index) =>
    rule.countBy.includes(axis)
      ? []
      : [{ path: `spec.rules[${index}].countBy`, reason: 'CrossPartitionRule', message }],
  );
  const { penalty } = spec;
  if (penalty === undefined || penalty.countBy.includes(axis)) return problems;
  return [...problems, { path: 'spec.penalty.countBy', reason: 'CrossPartitionRule', message }];
}

export function unknownPolicy(path: string, name: string, namespace: string): Problem {
  const message = `no policy "${name}" is in force in namespace "${namespace}"`;
  return { path, reason: 'UnknownPolicy', message };
}

export function unknownRule(path: string, name: string): Problem {
  return { path, reason: 'UnknownRule', message: `the policy has no rule "${name}"` };
}

/** Other limits for a rule: not more of them, so that a request stays within the number that is allowed. */
export function limitProblems(path: string, limits: readonly Limit[], policy: ValidPolicy, rule: Rule): Problem[] {
  if (rule.algorithm === 'SlidingWindowLog' && !fitsLog(limits)) {
    return [{ path, reason: 'LimitTooLargeForLog', message: `${LOG_MESSAGE} (rule "${rule.name}")` }];
  }
  const most = rule.limits?.length ?? Math.max(0, ...(policy.spec.tiers ?? []).map((tier) => tier.limits.length));
  if (limits.length <= most) return [];
  const message = `${limits.length} limits are not allowed: rule "${rule.name}" has at most ${most}`;
  return [{ path, reason: 'TooManyLimits', message }];
}
