import type { Redis } from 'ioredis';
import type { PenaltyState } from '../../policy/decision.ts';
import type { CompiledPenalty } from '../../policy/documents.ts';
import type { SelectedLimit, SelectedPenalty } from '../../policy/selection.ts';
import type { Decider, TimedVerdict } from '../../store/decide.ts';
import type { DecideRequest } from '../../store/decide-wire.ts';
import { aWindow } from './limits.ts';
import { aRule } from './plain.ts';
import { setClock } from './virtual-clock.ts';

/** Every denial is a violation; one step for each, as fast as they come. */
export const quickPenalty: CompiledPenalty = {
  enforced: true,
  countBy: ['consumer'],
  tolerancePercent: 0,
  violationWindowSeconds: 600,
  minSecondsPerStep: 0,
  warn: { violations: 1, forSeconds: 100 },
  throttle: { violations: 2, forSeconds: 50, limitPercent: 50 },
  tempBlock: { violations: 3, forSeconds: 30 },
  block: { tempBlocks: 2, withinSeconds: 1_000, forSeconds: 500 },
};

/** As in the design's example. */
export const usualPenalty: CompiledPenalty = {
  enforced: true,
  countBy: ['consumer'],
  tolerancePercent: 100,
  violationWindowSeconds: 600,
  minSecondsPerStep: 10,
  warn: { violations: 3, forSeconds: 600 },
  throttle: { violations: 10, forSeconds: 900, limitPercent: 50 },
  tempBlock: { violations: 25, forSeconds: 300 },
  block: { tempBlocks: 3, withinSeconds: 86_400, forSeconds: 86_400 },
};

export const aPenalty = (subject: string, penalty: Partial<CompiledPenalty> = {}): SelectedPenalty => ({
  policy: 'test/policy',
  subject,
  text: `test/policy consumer=${subject}`,
  penalty: { ...quickPenalty, ...penalty },
});

/** A request of a subject that may ask so many times a minute, in a sliding window, and is punished beyond that. */
export function punishableRequest(
  subject: string,
  penalty: Partial<CompiledPenalty> = {},
  limit: number | SelectedLimit = 1,
): DecideRequest {
  const limits = [typeof limit === 'number' ? aWindow({ subject, capacity: limit }) : limit];
  const rules = [aRule(limits, { penalty: 0, throttled: true })];
  return { partition: 'p', selection: { rules, penalties: [aPenalty(subject, penalty)] } };
}

/** Asks on the virtual clock, from `from` (microseconds) on once a second, until the state is reached; says when. */
export async function driveTo(
  state: PenaltyState,
  { redis, decider, request, from }: { redis: Redis; decider: Decider; request: DecideRequest; from: bigint },
): Promise<{ readonly at: bigint; readonly verdict: TimedVerdict }> {
  for (let second = 0n; second < 500n; second += 1n) {
    const at = from + second * 1_000_000n;
    await setClock(redis, at);
    const verdict = await decider.decide(request);
    if (verdict.penalties[0]?.after === state) return { at, verdict };
  }
  throw new Error(`never reached ${state}`);
}
