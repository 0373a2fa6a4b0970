// A pod that remembers denials, and what its Redis may say, for tests of what it remembers.
import { DenyCache } from '../../limiter/deny-cache.ts';
import type { PenaltyOutcome, PenaltyState } from '../../policy/decision.ts';
import { RedisClock } from '../../store/clock.ts';
import type { TimedVerdict } from '../../store/decide.ts';
import type { DecideRequest } from '../../store/decide-wire.ts';
import { StoreError } from '../../store/errors.ts';

export const REDIS_MICROS = 1_790_000_000_000_000;

export const penaltyOf = (state: PenaltyState, endsInMicros = 0, before = state): PenaltyOutcome => ({
  before,
  after: state,
  endsInMicros,
  violations: 0,
});

/** What Redis says of a request with one rule of one limit. */
export function denialOf(retryAfterMicros: number, penalties: readonly PenaltyOutcome[] = []): TimedVerdict {
  const limits = [{ remaining: 0, retryAfterMicros, resetAfterMicros: 60_000_000 }];
  const rules = [{ outcome: 'Denied' as const, limits }];
  return { code: 'denied', retryAfterMicros, byThrottle: false, penalties, rules, redisMicros: REDIS_MICROS };
}

export function blockOf(state: 'TEMP_BLOCK' | 'BLOCK', endsInMicros: number): TimedVerdict {
  const rules = [{ outcome: 'NotRun' as const, limits: [] }];
  const penalties = [penaltyOf(state, endsInMicros)];
  return {
    code: 'blocked',
    retryAfterMicros: endsInMicros,
    byThrottle: false,
    penalties,
    rules,
    redisMicros: REDIS_MICROS,
  };
}

export const ADMITTED: TimedVerdict = {
  code: 'admitted',
  retryAfterMicros: 0,
  byThrottle: false,
  penalties: [penaltyOf('NORMAL')],
  rules: [{ outcome: 'Admitted', limits: [{ remaining: 5, retryAfterMicros: 0, resetAfterMicros: 1 }] }],
  redisMicros: REDIS_MICROS,
};

/** A pod whose Redis answers what the test says; it is the fault and the clock that a real one could not show. */
export function aPod({ maxEntries }: { readonly maxEntries?: number } = {}) {
  let now = 0;
  let says: TimedVerdict | StoreError = ADMITTED;
  let configuration = 'one';
  const asked: DecideRequest[] = [];
  let latencyMillis = 0;
  let isFlushDue = false;
  let remembered = 0;
  const cache = new DenyCache({
    decider: {
      decide: async (request) => {
        asked.push(request);
        const answer = says;
        await Promise.resolve();
        now += latencyMillis;
        if (answer instanceof StoreError) throw answer;
        return answer;
      },
    },
    clock: new RedisClock(() => now),
    configuration: () => configuration,
    ...(maxEntries === undefined ? {} : { maxEntries }),
    onRemembered: () => void (remembered += 1),
    schedule: () => {
      isFlushDue = true;
      return () => void (isFlushDue = false);
    },
  });
  return {
    cache,
    asked,
    say: (answer: TimedVerdict | StoreError): void => void (says = answer),
    wait: (millis: number): void => void (now += millis),
    configure: (next: string): void => void (configuration = next),
    slow: (millis: number): void => void (latencyMillis = millis),
    isFlushDue: (): boolean => isFlushDue,
    /** How many denials were answered from memory, as it is counted. */
    remembered: (): number => remembered,
    /** How often Redis was asked for this. */
    callsOf: async (...requests: readonly DecideRequest[]): Promise<number> => {
      const before = asked.length;
      for (const request of requests) await cache.decide(request).catch(() => undefined);
      return asked.length - before;
    },
    /** The denials that Redis was told of by a flush. */
    told: async (): Promise<(number | undefined)[]> => {
      const before = asked.length;
      await cache.flush();
      return asked.slice(before).map(({ rememberedDenials }) => rememberedDenials);
    },
  };
}
