import { describe, expect, it } from 'vitest';
import { isMet, ratiosOf } from '../../bench/ratios.ts';
import { RIVALS, SCENARIOS, targetsOf } from '../../bench/scenarios.ts';
import { commandFrom } from '../../bench/settings.ts';

/** What the limiter is to reach: at least, or at most. */
const PROMISES = {
  one_rule_vs_evalsha: '>= 1.3',
  three_rules_vs_evalsha: '>= 1.15',
  full_vs_evalsha: '>= 1',
  grpc_vs_http: '>= 0.7',
  batch_vs_pipeline: '>= 0.8',
  denied_vs_bare: '>= 0.8',
  domains_10k_cpu_vs_1: '<= 1.1',
  policies_10k_cpu_vs_1: '<= 1.1',
  subjects_1m_cpu_vs_10: '<= 1.1',
  p99_vs_evalsha_at_70_percent: '<= 3',
  p99_millis_at_70_percent: '<= 20',
  two_limiters_per_cpu_vs_one: '>= 0.9',
  swap_one_slowest_millis: '<= 20',
  swap_all_slowest_millis: '<= 20',
  million_subjects_rss_mib: '<= 128',
};

const ratios = (): [string, string][] =>
  SCENARIOS.flatMap((scenario) => Object.entries(scenario.ratios)).flatMap(([name, { target, better }]) =>
    target === null ? [] : [[name, `${better === 'higher' ? '>=' : '<='} ${target}`]],
  );

describe('the scenarios of the benchmark', () => {
  it('compare every promise with what was measured', () => {
    expect(Object.fromEntries(ratios())).toEqual(PROMISES);
  });

  it('have a target to measure for each name in a ratio', () => {
    expect(targetsOf([...SCENARIOS, RIVALS]).length).toBeGreaterThan(SCENARIOS.length);
  });

  it('take a ratio inside each round, and call it met by the median', () => {
    const rounds = [1.2, 1.4, 2].map((factor, index) => ({
      'one-rule': { perSecond: factor * (index + 1) },
      evalsha: { perSecond: index + 1 },
    }));
    const { one_rule_vs_evalsha: ratio } = ratiosOf(SCENARIOS, rounds);
    expect(ratio).toMatchObject({ median: 1.4, min: 1.2, max: 2, target: 1.3 });
    expect(ratio && isMet(ratio)).toBe(true);
    expect(ratio && isMet({ ...ratio, median: 1.29 })).toBe(false);
  });

  it('include a rival only where its program is named', () => {
    const namesWith = (env: Record<string, string>): string[] => {
      const command = commandFrom([], env);
      return command.kind === 'measure' ? command.scenarios.map(({ name }) => name) : [];
    };
    expect(namesWith({})).not.toContain('rivals');
    expect(namesWith({ RIVAL_RATELIMIT: '/somewhere/ratelimit' })).toContain('rivals');
  });
});
