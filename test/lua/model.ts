// An independent model of the limits: slow, exact, obviously right. BigInt throughout; shares no code with the product.

export type ModelLimit = {
  readonly id: string;
  readonly algorithm: 'TokenBucket' | 'SlidingWindow' | 'SlidingWindowLog';
  readonly capacity: bigint;
  readonly refill: bigint;
  readonly windowMicros: bigint;
};

export type ModelOutcome = { readonly remaining: bigint; readonly retryAfter: bigint; readonly resetAfter: bigint };

type Admission = { readonly at: bigint; readonly cost: bigint };

/** A fraction with a positive denominator. */
type Fraction = { readonly numerator: bigint; readonly denominator: bigint };

const ceil = ({ numerator, denominator }: Fraction): bigint => (numerator + denominator - 1n) / denominator;

/** All admissions of each limit, ever. Everything else is computed from them, every time anew. */
export class Model {
  readonly #admissions = new Map<string, Admission[]>();

  /** Charges all limits if all admit, else none. */
  decide(limits: readonly ModelLimit[], cost: bigint, now: bigint): { admitted: boolean; outcomes: ModelOutcome[] } {
    const waits = limits.map((limit) => this.#wait(limit, cost, now));
    const admitted = waits.every((wait) => wait === 0n);
    if (admitted) for (const limit of limits) this.#of(limit).push({ at: now, cost });
    return {
      admitted,
      outcomes: limits.map((limit, index) => ({
        remaining: this.#remaining(limit, now),
        retryAfter: waits[index] ?? 0n,
        resetAfter: this.#resetAfter(limit, now),
      })),
    };
  }

  /** 0 = admitted at that time, -1 = never, else the least number of microseconds after which it is admitted. */
  wait(limit: ModelLimit, cost: bigint, at: bigint): bigint {
    return this.#wait(limit, cost, at);
  }

  /** What is left at a time, and how long until all is back. */
  report(limit: ModelLimit, at: bigint): Omit<ModelOutcome, 'retryAfter'> {
    return { remaining: this.#remaining(limit, at), resetAfter: this.#resetAfter(limit, at) };
  }

  charge(limit: ModelLimit, cost: bigint, at: bigint): void {
    this.#of(limit).push({ at, cost });
  }

  /** Taken from the slot that it was counted in; into a bucket so much flows at this moment. */
  refund(limit: ModelLimit, cost: bigint, charge: { readonly at: bigint; readonly now: bigint }): void {
    if (limit.algorithm === 'TokenBucket') {
      this.#of(limit).push({ at: charge.now, cost: -cost });
      return;
    }
    const slot = this.#slot(limit, charge.at);
    this.#take(limit, cost, ({ at }) => this.#slot(limit, at) === slot);
  }

  /** Without knowing of which charge: what would leave a window first. */
  refundOldest(limit: ModelLimit, cost: bigint, now: bigint): void {
    if (limit.algorithm === 'TokenBucket') {
      this.refund(limit, cost, { at: now, now });
      return;
    }
    const oldest = this.#slot(limit, now) - this.#span(limit);
    this.#take(limit, cost, ({ at }) => this.#slot(limit, at) >= oldest);
  }

  #take(limit: ModelLimit, cost: bigint, isMeant: (admission: Admission) => boolean): void {
    let left = cost;
    const kept = this.#of(limit).map((admission) => {
      const taken = !isMeant(admission) ? 0n : left < admission.cost ? left : admission.cost;
      left -= taken;
      return { at: admission.at, cost: admission.cost - taken };
    });
    this.#admissions.set(
      limit.id,
      kept.filter((admission) => admission.cost > 0n),
    );
  }

  #of(limit: ModelLimit): Admission[] {
    const known = this.#admissions.get(limit.id) ?? [];
    this.#admissions.set(limit.id, known);
    return known;
  }

  /** 0 = admitted now, -1 = never, else the least number of microseconds after which it is admitted. */
  #wait(limit: ModelLimit, cost: bigint, now: bigint): bigint {
    if (cost > limit.capacity) return -1n;
    return limit.algorithm === 'TokenBucket' ? this.#bucketWait(limit, cost, now) : this.#windowWait(limit, cost, now);
  }

  /** The bucket's debt in requests: what was taken and has not flowed back, event by event. */
  #debt(limit: ModelLimit, now: bigint): Fraction {
    const denominator = limit.windowMicros;
    let numerator = 0n;
    let last: bigint | undefined;
    const repay = (until: bigint): void => {
      if (last !== undefined) numerator -= (until - last) * limit.refill;
      if (numerator < 0n) numerator = 0n;
      last = until;
    };
    for (const { at, cost } of this.#of(limit)) {
      repay(at);
      numerator += cost * denominator;
      if (numerator < 0n) numerator = 0n;
    }
    repay(now);
    return { numerator, denominator };
  }

  #bucketWait(limit: ModelLimit, cost: bigint, now: bigint): bigint {
    const debt = this.#debt(limit, now);
    const excess = debt.numerator + (cost - limit.capacity) * debt.denominator;
    return excess <= 0n ? 0n : ceil({ numerator: excess, denominator: limit.refill });
  }

  /** How long a slot is: a tenth of the window, or for the log the shortest time that there is. */
  #width(limit: ModelLimit): bigint {
    return limit.algorithm === 'SlidingWindowLog' ? 1n : limit.windowMicros / 10n;
  }

  /** How many slots before the current one still count. */
  #span(limit: ModelLimit): bigint {
    return limit.algorithm === 'SlidingWindowLog' ? limit.windowMicros - 1n : 10n;
  }

  #slot(limit: ModelLimit, at: bigint): bigint {
    return at / this.#width(limit);
  }

  /** What is counted in the current slot and those before it that still count. */
  #used(limit: ModelLimit, now: bigint): bigint {
    const current = this.#slot(limit, now);
    let used = 0n;
    for (const { at, cost } of this.#of(limit)) {
      if (this.#slot(limit, at) >= current - this.#span(limit)) used += cost;
    }
    return used;
  }

  #windowWait(limit: ModelLimit, cost: bigint, now: bigint): bigint {
    if (this.#used(limit, now) + cost <= limit.capacity) return 0n;
    // Capacity returns only when the slot of an admission leaves.
    const leaving = this.#of(limit).map(
      ({ at }) => (this.#slot(limit, at) + this.#span(limit) + 1n) * this.#width(limit),
    );
    const passing = leaving.filter((time) => time > now && this.#used(limit, time) + cost <= limit.capacity);
    return passing.reduce((first, time) => (time < first ? time : first)) - now;
  }

  #remaining(limit: ModelLimit, now: bigint): bigint {
    if (limit.algorithm !== 'TokenBucket') {
      const left = limit.capacity - this.#used(limit, now);
      return left > 0n ? left : 0n;
    }
    const debt = this.#debt(limit, now);
    const left = limit.capacity * debt.denominator - debt.numerator;
    return left > 0n ? left / debt.denominator : 0n;
  }

  #resetAfter(limit: ModelLimit, now: bigint): bigint {
    if (limit.algorithm === 'TokenBucket')
      return ceil({ numerator: this.#debt(limit, now).numerator, denominator: limit.refill });
    const current = this.#slot(limit, now);
    const counted = this.#of(limit)
      .map(({ at }) => this.#slot(limit, at))
      .filter((slot) => slot >= current - this.#span(limit));
    if (counted.length === 0) return 0n;
    const newest = counted.reduce((one, other) => (other > one ? other : one));
    return (newest + this.#span(limit) + 1n) * this.#width(limit) - now;
  }
}
