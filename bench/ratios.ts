import { type FiguresByTarget, median } from './figures.ts';
import type { Scenario } from './scenarios.ts';

export type Ratio = {
  readonly median: number;
  readonly min: number;
  readonly max: number;
  readonly target: number | null;
  readonly better: 'higher' | 'lower';
};

/** Each ratio is taken inside a round; then the median, smallest and largest of the rounds. */
export function ratiosOf(scenarios: readonly Scenario[], rounds: readonly FiguresByTarget[]): Record<string, Ratio> {
  const specs = scenarios.flatMap(({ ratios }) => Object.entries(ratios));
  return Object.fromEntries(
    specs.map(([name, { of, over, figure, target, better }]) => {
      const values = rounds.map(
        (round) => figure(round[of] ?? {}) / (over === undefined ? 1 : figure(round[over] ?? {})),
      );
      const [min, max] = [Math.min(...values), Math.max(...values)];
      return [name, { median: rounded(median(values)), min: rounded(min), max: rounded(max), target, better }];
    }),
  );
}

/** Undefined if nothing is asked of it. */
export function isMet({ median: value, target, better }: Ratio): boolean | undefined {
  if (target === null) return undefined;
  return better === 'higher' ? value >= target : value <= target;
}

/** More digits would claim more than such a measurement knows. */
const rounded = (value: number): number => Math.round(value * 1000) / 1000;
