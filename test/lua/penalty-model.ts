// An independent model of the penalty state machine, on top of the model of limits. It follows the words of the contract,
// event by event; it shares no code with the product. Times are microseconds, BigInt throughout.
import type { PenaltyState } from '../../policy/decision.ts';
import { Model, type ModelLimit } from './model.ts';

export type ModelPenalty = {
  readonly tolerancePercent: bigint;
  readonly window: bigint;
  readonly minStep: bigint;
  /** Violations that lead to each state that there is, and how long it lasts. */
  readonly steps: Partial<Record<'WARN' | 'THROTTLE' | 'TEMP_BLOCK', { violations: bigint; lasts: bigint }>>;
  readonly percent: bigint;
  /** `lasts` 0n = for ever. */
  readonly block: { tempBlocks: bigint; within: bigint; lasts: bigint } | undefined;
};

export type ModelAnswer = {
  readonly code: 'admitted' | 'denied' | 'blocked';
  readonly before: PenaltyState;
  readonly after: PenaltyState;
  /** -1n = never, 0n = NORMAL. */
  readonly endsIn: bigint;
  readonly violations: bigint;
};

const SECOND = 1_000_000n;
const LADDER = ['WARN', 'THROTTLE', 'TEMP_BLOCK'] as const;
const SERVED: ReadonlySet<PenaltyState> = new Set(['NORMAL', 'WARN', 'THROTTLE']);

const portion = (value: bigint, percent: bigint): bigint => {
  const cut = (value * percent) / 100n;
  return cut < 1n ? 1n : cut;
};

const roundedUp = (value: bigint, percent: bigint): bigint => (value * percent + 99n) / 100n;

export class PenaltyModel {
  readonly #penalty: ModelPenalty;
  readonly #limits: readonly ModelLimit[];
  readonly #counters = new Model();
  /** What each limit's meter holds, in requests times the window, and when it was last looked at. */
  readonly #meters = new Map<string, { level: bigint; at: bigint }>();
  #state: PenaltyState = 'NORMAL';
  /** undefined = never by itself. */
  #until: bigint | undefined;
  #violations = 0n;
  #countedSince: bigint | undefined;
  #tempBlocks = 0n;
  #tempBlocksSince: bigint | undefined;
  #steppedAt: bigint | undefined;
  #violatedAt: bigint | undefined;

  constructor(penalty: ModelPenalty, limits: readonly ModelLimit[]) {
    this.#penalty = penalty;
    this.#limits = limits;
  }

  ask(cost: bigint, now: bigint, isPeek: boolean): ModelAnswer {
    this.#fall(now);
    const before = this.#state;
    const code = SERVED.has(before) ? this.#judge(cost, now, isPeek) : 'blocked';
    const endsIn = this.#state === 'NORMAL' ? 0n : this.#until === undefined ? -1n : this.#until - now;
    return { code, before, after: this.#state, endsIn, violations: this.#violations };
  }

  #judge(cost: bigint, now: bigint, isPeek: boolean): 'admitted' | 'denied' {
    const denied = this.#limits.filter((limit) => this.#counters.wait(this.#cut(limit), cost, now) !== 0n);
    if (denied.length === 0) {
      if (!isPeek) for (const limit of this.#limits) this.#counters.charge(limit, cost, now);
      return 'admitted';
    }
    if (isPeek) return 'denied';
    const overflowing = denied
      .filter((limit) => cost <= limit.capacity)
      .filter((limit) => this.#overflows(limit, cost, now));
    if (overflowing.length > 0) this.#violate(now);
    return 'denied';
  }

  #cut(limit: ModelLimit): ModelLimit {
    return this.#state === 'THROTTLE' ? { ...limit, capacity: portion(limit.capacity, this.#penalty.percent) } : limit;
  }

  /** A denial that the meter does not hold leaves it as it is. */
  #overflows(limit: ModelLimit, cost: bigint, now: bigint): boolean {
    const holds = roundedUp(limit.capacity, this.#penalty.tolerancePercent);
    const { level, at } = this.#meters.get(limit.id) ?? { level: 0n, at: now };
    const leaked = level - (now - at) * holds;
    const left = leaked > 0n ? leaked : 0n;
    const filled = left + cost * limit.windowMicros;
    const overflows = filled > holds * limit.windowMicros;
    this.#meters.set(limit.id, { level: overflows ? left : filled, at: now });
    return overflows;
  }

  #violate(now: bigint): void {
    if (this.#violatedAt !== undefined && now - this.#violatedAt < SECOND) return;
    this.#violatedAt = now;
    if (this.#countedSince === undefined || now - this.#countedSince > this.#penalty.window) {
      this.#violations = this.#floor();
      this.#countedSince = now;
    }
    this.#violations += 1n;
    const next = LADDER.slice(this.#rung() + 1).find((state) => this.#penalty.steps[state] !== undefined);
    const threshold = next === undefined ? undefined : this.#penalty.steps[next]?.violations;
    const rested = this.#steppedAt === undefined || now - this.#steppedAt >= this.#penalty.minStep;
    if (next !== undefined && threshold !== undefined && this.#violations >= threshold && rested) this.#rise(next, now);
    else if (this.#state !== 'NORMAL') this.#until = now + this.#lasts(this.#state);
  }

  #rise(next: (typeof LADDER)[number], now: bigint): void {
    const { block } = this.#penalty;
    this.#state = next;
    this.#steppedAt = now;
    this.#until = now + this.#lasts(next);
    if (next !== 'TEMP_BLOCK' || block === undefined) return;
    if (this.#tempBlocksSince === undefined || now - this.#tempBlocksSince > block.within) {
      this.#tempBlocks = 0n;
      this.#tempBlocksSince = now;
    }
    this.#tempBlocks += 1n;
    if (this.#tempBlocks < block.tempBlocks) return;
    this.#state = 'BLOCK';
    this.#until = block.lasts === 0n ? undefined : now + block.lasts;
  }

  /** Everything that has ended by now, one state after the other. */
  #fall(now: bigint): void {
    while (this.#state !== 'NORMAL' && this.#until !== undefined && this.#until <= now) {
      const moment = this.#until;
      if (this.#state === 'BLOCK') {
        this.#tempBlocks = 0n;
        this.#tempBlocksSince = undefined;
        this.#state = 'NORMAL';
      } else {
        const lower = LADDER.slice(0, this.#rung()).toReversed();
        this.#state = lower.find((state) => this.#penalty.steps[state] !== undefined) ?? 'NORMAL';
      }
      this.#until = this.#state === 'NORMAL' ? undefined : moment + this.#lasts(this.#state);
      this.#violations = this.#floor();
      this.#countedSince = moment;
    }
  }

  /** -1 in NORMAL. */
  #rung(): number {
    return LADDER.findIndex((state) => state === this.#state);
  }

  #floor(): bigint {
    return (
      LADDER.flatMap((state) => (state === this.#state ? [this.#penalty.steps[state]?.violations ?? 0n] : []))[0] ?? 0n
    );
  }

  #lasts(state: PenaltyState): bigint {
    return LADDER.flatMap((rung) => (rung === state ? [this.#penalty.steps[rung]?.lasts ?? 0n] : []))[0] ?? 0n;
  }
}
