import { LRUCache } from 'lru-cache';
import type { PenaltyOutcome, PenaltyState, Verdict } from '../policy/decision.ts';
import type { SelectedPenalty } from '../policy/selection.ts';
import type { DecideRequest } from '../store/decide-wire.ts';

type Block = {
  readonly state: PenaltyState;
  /** On the monotonic clock of this process; Infinity = until it is pardoned. */
  readonly untilMillis: number;
  /** Decisions that were sent later know better. */
  readonly sentAtMillis: number;
};

const MAX_BLOCKS = 10_000;
const NORMAL: PenaltyOutcome = { before: 'NORMAL', after: 'NORMAL', endsInMicros: 0, violations: 0 };

const isBlock = (state: PenaltyState): boolean => state === 'TEMP_BLOCK' || state === 'BLOCK';

/**
 * The blocks that this pod has met: they hold until their end also while Redis, which has all of them, is away. By the
 * subject of the penalty, in which its policy is.
 */
export class KnownBlocks {
  readonly #blocks = new LRUCache<string, Block>({ max: MAX_BLOCKS });

  get size(): number {
    return this.#blocks.size;
  }

  /** Learns from an answer of Redis who is blocked, and who is not any more. */
  learn(
    { selection }: DecideRequest,
    { penalties }: Verdict,
    sent: { readonly atMillis: number; readonly nowMillis: number },
  ): void {
    for (const [index, { subject, penalty }] of selection.penalties.entries()) {
      const said = penalties[index];
      if (said !== undefined && penalty.enforced) this.#learn(subject, said, sent);
    }
  }

  #learn(subject: string, said: PenaltyOutcome, sent: { readonly atMillis: number; readonly nowMillis: number }): void {
    const known = this.#blocks.peek(subject);
    if (known !== undefined && known.sentAtMillis > sent.atMillis) return;
    if (!isBlock(said.after)) {
      if (known !== undefined) this.#blocks.delete(subject);
      return;
    }
    const untilMillis = said.endsInMicros < 0 ? Number.POSITIVE_INFINITY : sent.nowMillis + said.endsInMicros / 1_000;
    this.#blocks.set(subject, { state: said.after, untilMillis, sentAtMillis: sent.atMillis });
  }

  /** What Redis would say of a request that a known block stops; undefined if none does. Without the time of Redis. */
  find({ selection }: DecideRequest, nowMillis: number): Verdict | undefined {
    const penalties = selection.penalties.map((selected) => this.#outcomeOf(selected, nowMillis));
    const ends = penalties.filter(({ after }) => isBlock(after)).map(({ endsInMicros }) => endsInMicros);
    if (ends.length === 0) return undefined;
    const retryAfterMicros = ends.includes(-1) ? -1 : Math.max(...ends);
    const rules = selection.rules.map(() => ({ outcome: 'NotRun' as const, limits: [] }));
    return { code: 'blocked', retryAfterMicros, byThrottle: false, penalties, rules };
  }

  #outcomeOf({ subject, penalty }: SelectedPenalty, nowMillis: number): PenaltyOutcome {
    const block = penalty.enforced ? this.#blocks.get(subject) : undefined;
    if (block === undefined || block.untilMillis <= nowMillis) return NORMAL;
    const left = (block.untilMillis - nowMillis) * 1_000;
    const endsInMicros = Number.isFinite(left) ? Math.ceil(left) : -1;
    return { before: block.state, after: block.state, endsInMicros, violations: 0 };
  }

  /** The subject was pardoned. */
  forget(subject: string): void {
    this.#blocks.delete(subject);
  }
}
