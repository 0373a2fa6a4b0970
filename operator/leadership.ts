/** Who may publish and write statuses, among the operators of one installation. */
export type Leadership = {
  /** Takes part; resolves at once. `onLost` is called at most once, and after it this process must end. */
  start(events: LeadershipEvents): void;
  /** Whether this operator leads, as far as it can know by its own clock. */
  isHeld(): boolean;
  /**
   * The number that fences what this leader writes: the one of its term, raised first if it is not above `floor`, the
   * highest that anyone is known to have used. Throws if it does not lead.
   */
  epochAbove(floor: number): Promise<number>;
  /** Stops taking part, and lets another operator lead at once. The last step of an orderly stop. */
  release(): Promise<void>;
};

export type LeadershipEvents = {
  onElected(): void;
  onLost(error: Error): void;
};

/** For an operator that has no rivals it could know of: it leads at once, and claims the next free epoch. */
export function alone(): Leadership {
  return {
    start: (events) => events.onElected(),
    isHeld: () => true,
    epochAbove: (floor) => Promise.resolve(floor + 1),
    release: () => Promise.resolve(),
  };
}
