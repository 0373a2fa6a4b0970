// Requests at a part of what a server can answer at most: how long answers take before everything is full.
import { type LoadSpec, loadTarget } from './load-target.ts';
import { EVALSHA, ONE_RULE } from './servers.ts';
import type { Target } from './target.ts';

export const PERCENTS = [30, 50, 70, 90] as const;

function atPercent(spec: LoadSpec, percent: number): Target {
  const name = `${spec.name}@${percent}%`;
  let perSecond = 0;
  // By the sender that then sends less, and right before: the machine is not always as fast.
  const saturated = loadTarget({ ...spec, name, sender: 'own' });
  const target = loadTarget({ ...spec, name, ratePerSecond: () => (perSecond * percent) / 100 });
  return {
    ...target,
    about: `${spec.name} at ${percent} % of the most that it answered, whether or not answers come`,
    measure: async (rig) => {
      perSecond = (await saturated.measure(rig)).perSecond ?? Number.NaN;
      return target.measure(rig);
    },
  };
}

export const RATE_TARGETS: readonly Target[] = [EVALSHA, ONE_RULE].flatMap((spec) =>
  PERCENTS.map((percent) => atPercent(spec, percent)),
);
