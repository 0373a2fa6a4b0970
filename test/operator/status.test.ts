import { describe, expect, it } from 'vitest';
import { type Conditions, conditionsFor, type StatusFacts } from '../../operator/status.ts';

const NOW = '2026-11-21T10:00:00Z';
const EARLIER = '2026-11-20T10:00:00Z';

const fine: StatusFacts = {
  generation: 7,
  problems: [],
  activeGeneration: 7,
  revision: 1841,
  readyPods: 12,
  laggingPods: [],
  failingPods: [],
  isOverdue: false,
  isStoreReachable: true,
  isShadow: false,
  isActiveKnown: true,
};

const someProblem = { path: 'spec.rules', reason: 'TooManyLimits', message: 'too many' };
const laggards = ['pod-b', 'pod-a'].map((pod) => ({ pod, problem: undefined, isPassing: false }));

/** Type=Status(Reason) of each condition. */
const shown = ({ conditions }: Conditions): string[] =>
  conditions.map(({ type, status, reason }) => `${type}=${status}(${reason})`);

describe('the conditions of an object', () => {
  it.each<[string, Partial<StatusFacts>, string[]]>([
    ['everything is fine', {}, ['Accepted=True(Accepted)', 'Enforced=True(Enforced)', 'Ready=True(Enforced)']],
    [
      'it is in shadow, and loaded everywhere',
      { isShadow: true },
      ['Accepted=True(Accepted)', 'Enforced=False(Shadow)', 'Ready=True(Shadow)'],
    ],
    [
      'it is in shadow, and pods are still loading',
      { isShadow: true, laggingPods: laggards },
      [
        'Accepted=True(Accepted)',
        'Enforced=False(Propagating)',
        'Ready=False(Propagating)',
        'Reconciling=True(Propagating)',
      ],
    ],
    [
      'it has not started yet, and is loaded everywhere',
      { offTime: 'Pending' },
      ['Accepted=True(Accepted)', 'Enforced=False(Pending)', 'Ready=True(Pending)'],
    ],
    [
      'it has not started yet, and pods are still loading',
      { offTime: 'Pending', laggingPods: laggards },
      [
        'Accepted=True(Accepted)',
        'Enforced=False(Propagating)',
        'Ready=False(Propagating)',
        'Reconciling=True(Propagating)',
      ],
    ],
    [
      'it has expired, whatever the pods have loaded',
      { offTime: 'Expired', laggingPods: laggards },
      ['Accepted=True(Accepted)', 'Enforced=False(Expired)', 'Ready=True(Expired)'],
    ],
    [
      'pods are still loading',
      { laggingPods: laggards },
      [
        'Accepted=True(Accepted)',
        'Enforced=False(Propagating)',
        'Ready=False(Propagating)',
        'Reconciling=True(Propagating)',
      ],
    ],
    [
      'pods are behind for long',
      { laggingPods: laggards, isOverdue: true },
      [
        'Accepted=True(Accepted)',
        'Enforced=False(PodsLagging)',
        'Ready=False(PodsLagging)',
        'Reconciling=True(PodsLagging)',
      ],
    ],
    [
      'no pod is ready',
      { readyPods: 0 },
      ['Accepted=True(Accepted)', 'Enforced=False(NoPods)', 'Ready=False(NoPods)', 'Reconciling=True(NoPods)'],
    ],
    [
      'the generation is not published',
      { activeGeneration: 6 },
      [
        'Accepted=True(Accepted)',
        'Enforced=False(NotPublished)',
        'Ready=False(NotPublished)',
        'Reconciling=True(NotPublished)',
      ],
    ],
    [
      'Redis cannot be reached',
      { isStoreReachable: false },
      [
        'Accepted=True(Accepted)',
        'Enforced=Unknown(RedisUnavailable)',
        'Ready=Unknown(RedisUnavailable)',
        'Reconciling=True(RedisUnavailable)',
      ],
    ],
    [
      'another installation is in this Redis, whatever its pods say',
      { otherOwner: 'not ours', readyPods: 0 },
      [
        'Accepted=True(Accepted)',
        'Enforced=Unknown(RedisOwnedByOther)',
        'Ready=Unknown(RedisOwnedByOther)',
        'Reconciling=True(RedisOwnedByOther)',
      ],
    ],
    [
      'an edit is invalid and the last good one in force',
      { problems: [someProblem], activeGeneration: 6 },
      ['Accepted=False(Invalid)', 'Enforced=False(LastGoodActive)', 'Ready=False(Invalid)', 'Stalled=True(Invalid)'],
    ],
    [
      'it is invalid, and it is not known what is in force',
      { problems: [someProblem], activeGeneration: 0, isActiveKnown: false, isStoreReachable: false },
      [
        'Accepted=False(Invalid)',
        'Enforced=Unknown(RedisUnavailable)',
        'Ready=False(Invalid)',
        'Stalled=True(Invalid)',
      ],
    ],
    [
      'it is invalid and nothing is in force',
      { problems: [someProblem], activeGeneration: 0 },
      ['Accepted=False(Invalid)', 'Enforced=False(NothingActive)', 'Ready=False(Invalid)', 'Stalled=True(Invalid)'],
    ],
  ])('when %s', (_situation, facts, expected) => {
    expect(shown(conditionsFor({ ...fine, ...facts }, undefined, NOW))).toEqual(expected);
  });

  it('name the lagging pods in order, with what they complain of', () => {
    const laggingPods = [...laggards, { pod: 'pod-c', problem: 'unknown format', isPassing: false }];
    const { conditions } = conditionsFor({ ...fine, laggingPods, isOverdue: true }, undefined, NOW);
    expect(conditions[1]?.message).toBe('not acknowledged by pod-a, pod-b, pod-c (unknown format)');
  });

  it('name at most five lagging pods and three problems', () => {
    const laggingPods = Array.from({ length: 7 }, (_, i) => ({
      pod: `pod-${i}`,
      problem: undefined,
      isPassing: false,
    }));
    const { conditions } = conditionsFor({ ...fine, laggingPods, isOverdue: true }, undefined, NOW);
    expect(conditions[1]?.message).toMatch(/pod-4 and 2 more$/);
    const invalid = conditionsFor({ ...fine, problems: Array.from({ length: 5 }, () => someProblem) }, undefined, NOW);
    expect(invalid.conditions[0]?.message).toMatch(/; and 2 more$/);
  });

  it('keep the time of their last transition while their status stays', () => {
    const before = conditionsFor(fine, undefined, EARLIER);
    const same = conditionsFor({ ...fine, generation: 8, activeGeneration: 8 }, before, NOW);
    expect(same.conditions.map(({ lastTransitionTime }) => lastTransitionTime)).toEqual([EARLIER, EARLIER, EARLIER]);
    const changed = conditionsFor({ ...fine, readyPods: 0 }, before, NOW);
    expect(changed.conditions.map(({ lastTransitionTime }) => lastTransitionTime)).toEqual([EARLIER, NOW, NOW, NOW]);
  });

  it('stay enforced while a pod is just coming or going, but a new generation has to be acknowledged by it, too', () => {
    const before = conditionsFor(fine, undefined, EARLIER);
    const laggingPods = [{ pod: 'pod-new', problem: undefined, isPassing: true }];
    expect(conditionsFor({ ...fine, readyPods: 13, laggingPods }, before, NOW)).toEqual(before);
    const edited = { ...fine, generation: 8, activeGeneration: 8, laggingPods };
    expect(shown(conditionsFor(edited, before, NOW))).toContain('Enforced=False(Propagating)');
    const stuck = { ...fine, laggingPods: [{ pod: 'pod-new', problem: undefined, isPassing: false }], isOverdue: true };
    expect(shown(conditionsFor(stuck, before, NOW))).toContain('Enforced=False(PodsLagging)');
  });

  it('do not change their pod counts because the limiter is scaled', () => {
    const before = conditionsFor(fine, undefined, EARLIER);
    expect(before.pods).toEqual({ ready: 12, acknowledged: 12 });
    expect(conditionsFor({ ...fine, readyPods: 40 }, before, NOW)).toEqual(before);
  });

  it('count the pods anew with a new generation, and keep the counts while Redis is away', () => {
    const before = conditionsFor(fine, undefined, EARLIER);
    const edited = conditionsFor({ ...fine, generation: 8, activeGeneration: 8, readyPods: 3 }, before, NOW);
    expect(edited.pods).toEqual({ ready: 3, acknowledged: 3 });
    const away = conditionsFor({ ...fine, readyPods: 0, isStoreReachable: false }, before, NOW);
    expect(away.pods).toEqual({ ready: 12, acknowledged: 12 });
  });
});
