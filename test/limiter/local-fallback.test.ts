import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { LocalFallback } from '../../limiter/local-fallback.ts';
import type { SelectedLimit, SelectedRule } from '../../policy/selection.ts';
import { aRule } from '../harness/plain.ts';
import { aSelectedLimit } from '../policy/verdicts.ts';

const aLimit = (capacity: number, overrides: Partial<SelectedLimit> = {}): SelectedLimit =>
  aSelectedLimit({ capacity, algorithm: 'SlidingWindow', ...overrides });

const withCost = (rules: readonly SelectedRule[], cost: number): SelectedRule[] =>
  rules.map((rule) => ({ ...rule, cost }));

/** A pod on a clock of the test's own. */
function aPod(pods: number | undefined, maxBuckets = 50_000) {
  let now = 0;
  let count = pods;
  const fallback = new LocalFallback({ pods: () => count, monotonicMillis: () => now, maxBuckets });
  return {
    fallback,
    wait: (millis: number): void => void (now += millis),
    scaleTo: (next: number): void => void (count = next),
    decide: (rules: readonly SelectedRule[], cost = 1, mayOpen = true) =>
      fallback.decide(withCost(rules, cost), { isPeek: false, mayOpen }),
    peek: (rules: readonly SelectedRule[], cost = 1) => fallback.decide(withCost(rules, cost), { isPeek: true }),
  };
}

const admitted = (pod: ReturnType<typeof aPod>, rules: readonly SelectedRule[], times: number): number =>
  Array.from({ length: times }, () => pod.decide(rules)).filter(({ action }) => action === 'ALLOW').length;

describe('without Redis', () => {
  it('an open rule admits, a closed one denies, and the strictest of several wins', () => {
    const open = aRule([aLimit(1)], { failurePolicy: 'Open' });
    const closed = aRule([aLimit(1)], { failurePolicy: 'Closed' });
    const local = aRule([aLimit(1)]);
    expect(aPod(1).decide([open])).toMatchObject({ action: 'ALLOW', reason: 'FAIL_OPEN' });
    expect(aPod(1).decide([local])).toMatchObject({ action: 'ALLOW', reason: 'LOCAL_FALLBACK' });
    expect(aPod(1).decide([closed])).toMatchObject({
      action: 'THROTTLE',
      reason: 'FAIL_CLOSED',
      retryAfterMicros: 1_000_000,
    });
    expect(aPod(1).decide([open, local, closed])).toMatchObject({ reason: 'FAIL_CLOSED' });
    expect(aPod(1).decide([open, local])).toMatchObject({ action: 'ALLOW', reason: 'FAIL_OPEN' });
  });

  it('a closed rule cannot be forgiven', () => {
    const closed = aRule([aLimit(1)], { failurePolicy: 'Closed' });
    const pool = aRule([aLimit(100, { subject: 'pool' })], { after: [{ rule: 0, outcome: 'Denied' }] });
    expect(aPod(1).decide([closed, pool])).toMatchObject({ reason: 'FAIL_CLOSED' });
  });

  it('every pod admits its share of a limit, rounded up, and at least one', () => {
    const rules = [aRule([aLimit(10)])];
    expect(admitted(aPod(1), rules, 50)).toBe(10);
    expect(admitted(aPod(3), rules, 50)).toBe(4);
    expect(admitted(aPod(100), rules, 50)).toBe(1);
    expect(admitted(aPod(undefined), rules, 50)).toBe(1);
    expect(admitted(aPod(1), [aRule([aLimit(0)])], 5)).toBe(0);
  });

  it('answers a peek as a request, and takes nothing for it', () => {
    const pod = aPod(2);
    const rules = [aRule([aLimit(10)])];
    for (let i = 0; i < 20; i += 1) expect(pod.peek(rules, 5)).toEqual(aPod(2).decide(rules, 5));
    expect(pod.peek(rules, 6)).toEqual(aPod(2).decide(rules, 6));
    expect(admitted(pod, rules, 50)).toBe(5);
    expect(pod.peek(rules)).toEqual(pod.decide(rules));
  });

  it('says exactly when the share admits again', () => {
    const pod = aPod(2);
    const rules = [aRule([aLimit(10)])];
    expect(admitted(pod, rules, 6)).toBe(5);
    const { retryAfterMicros } = pod.decide(rules);
    expect(retryAfterMicros).toBe(12_000_000);
    pod.wait(11_999);
    expect(pod.decide(rules).action).toBe('THROTTLE');
    pod.wait(1);
    expect(pod.decide(rules).action).toBe('ALLOW');
  });

  it('charges all limits of a request or none', () => {
    const pod = aPod(1);
    const narrow = aLimit(1, { field: 'narrow' });
    const wide = aLimit(3, { field: 'wide' });
    expect(admitted(pod, [aRule([narrow, wide])], 5)).toBe(1);
    expect(admitted(pod, [aRule([wide])], 5)).toBe(2);
  });

  it('lets a rule forgive the denial that it waits for', () => {
    const pod = aPod(1);
    const own = aRule([aLimit(2, { subject: 'own' })]);
    const pool = aRule([aLimit(3, { subject: 'pool' })], { after: [{ rule: 0, outcome: 'Denied' }] });
    expect(admitted(pod, [own, pool], 10)).toBe(5);
  });

  it('does not hear rules in shadow', () => {
    expect(aPod(1).decide([aRule([aLimit(0)], { group: 3 })])).toMatchObject({ action: 'ALLOW', reason: 'FAIL_OPEN' });
  });

  it('keeps its buckets over any number of outages: they never admit more than the share and what flows back', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 50 }),
        fc.integer({ min: 1, max: 8 }),
        fc.array(fc.record({ pause: fc.integer({ min: 0, max: 30_000 }), asks: fc.integer({ min: 0, max: 20 }) }), {
          maxLength: 30,
        }),
        (capacity, pods, outages) => {
          const pod = aPod(pods);
          const share = Math.ceil(capacity / pods);
          let elapsed = 0;
          let total = 0;
          for (const { pause, asks } of outages) {
            pod.wait(pause);
            elapsed += pause;
            total += admitted(pod, [aRule([aLimit(capacity)])], asks);
            expect(total).toBeLessThanOrEqual(share + (share * elapsed) / 60_000 + 1e-6);
          }
        },
      ),
    );
  });

  it('follows the number of pods without minting anything', () => {
    const pod = aPod(10);
    const rules = [aRule([aLimit(100)])];
    expect(admitted(pod, rules, 50)).toBe(10);
    pod.scaleTo(2);
    expect(admitted(pod, rules, 50)).toBe(0);
    pod.scaleTo(100);
    pod.wait(60_000);
    expect(admitted(pod, rules, 50)).toBe(1);
  });

  it('does not open for whom it must not: an open rule then admits the share, and says so', () => {
    const pod = aPod(2);
    const open = aRule([aLimit(10)], { failurePolicy: 'Open' });
    const answers = Array.from({ length: 6 }, () => pod.decide([open], 1, false));
    expect(answers.map(({ reason }) => reason)).toEqual([
      ...Array.from({ length: 5 }, () => 'LOCAL_FALLBACK'),
      'LOCAL_FALLBACK_EXCEEDED',
    ]);
    expect(pod.decide([open])).toMatchObject({ reason: 'FAIL_OPEN' });
    const closed = aRule([aLimit(10)], { failurePolicy: 'Closed' });
    expect(pod.decide([open, closed], 1, false)).toMatchObject({ reason: 'FAIL_CLOSED' });
  });
});

/** One bucket in whole numbers of any size: tokens times milliseconds of the window. */
class BucketModel {
  #level: bigint;
  #atMillis = 0n;
  readonly #capacity: bigint;
  readonly #refill: bigint;
  readonly #windowMillis: bigint;

  constructor(capacity: number, refill: number, windowSeconds: number) {
    this.#windowMillis = BigInt(windowSeconds) * 1_000n;
    [this.#capacity, this.#refill] = [BigInt(capacity) * this.#windowMillis, BigInt(refill)];
    this.#level = this.#capacity;
  }

  /** Microseconds to wait, 0 = admitted. */
  take(cost: number, nowMillis: number): bigint {
    const now = BigInt(nowMillis);
    const flown = this.#level + (now - this.#atMillis) * this.#refill;
    this.#level = flown < this.#capacity ? flown : this.#capacity;
    this.#atMillis = now;
    const missing = BigInt(cost) * this.#windowMillis - this.#level;
    if (missing > 0n) return (missing * 1_000n + this.#refill - 1n) / this.#refill;
    this.#level = -missing;
    return 0n;
  }
}

describe('the share of a pod', () => {
  it('is a bucket that is exact to the microsecond', () => {
    fc.assert(
      fc.property(
        fc.record({
          requests: fc.integer({ min: 1, max: 1_000 }),
          extra: fc.integer({ min: 0, max: 1_000 }),
          pods: fc.integer({ min: 1, max: 30 }),
          windowSeconds: fc.constantFrom(1, 60, 3_600, 86_400),
        }),
        fc.array(fc.tuple(fc.nat({ max: 100_000 }), fc.integer({ min: 1, max: 40 })), { maxLength: 60 }),
        ({ requests, extra, pods, windowSeconds }, asks) => {
          const [capacity, refill] = [Math.ceil((requests + extra) / pods), Math.ceil(requests / pods)];
          const model = new BucketModel(capacity, refill, windowSeconds);
          const pod = aPod(pods);
          const rules = [aRule([aLimit(requests + extra, { refill: requests, windowSeconds })])];
          let now = 0;
          for (const [pause, cost] of asks) {
            pod.wait(pause);
            now += pause;
            const { action, retryAfterMicros } = pod.decide(rules, cost);
            const isTooMuch = cost > capacity;
            const waitMicros = isTooMuch ? 0n : model.take(cost, now);
            expect(action).toBe(isTooMuch || waitMicros > 0n ? 'THROTTLE' : 'ALLOW');
            // The wait is told in microseconds, rounded up; a float may round one too far.
            const told = BigInt(retryAfterMicros ?? 0);
            expect(told - waitMicros === 0n || told - waitMicros === 1n).toBe(true);
          }
        },
      ),
    );
  });
});

type Admission = { readonly atMillis: number; readonly cost: number };

/** The most that was admitted in any interval beyond `slope` for each millisecond of it. */
function mostBeyond(admissions: readonly Admission[], slope: number): number {
  let most = 0;
  for (let from = 0; from < admissions.length; from += 1) {
    let sum = 0;
    for (let to = from; to < admissions.length; to += 1) {
      sum += admissions[to]?.cost ?? 0;
      most = Math.max(most, sum - slope * ((admissions[to]?.atMillis ?? 0) - (admissions[from]?.atMillis ?? 0)));
    }
  }
  return most;
}

const LIMIT = 20;
const WINDOW_MILLIS = 60_000;

type Scenario = readonly {
  readonly pauseMillis: number;
  readonly event: 'ask' | 'toggleRedis' | 'startPod' | 'stopPod';
  readonly pod: number;
  readonly times: number;
}[];

const scenarios = fc.array(
  fc.record({
    pauseMillis: fc.nat({ max: 20_000 }),
    event: fc.constantFrom(
      'ask' as const,
      'ask' as const,
      'toggleRedis' as const,
      'startPod' as const,
      'stopPod' as const,
    ),
    pod: fc.nat({ max: 9 }),
    times: fc.integer({ min: 1, max: 15 }),
  }),
  { minLength: 5, maxLength: 50 },
);

type Played = {
  /** Admitted by pods alone, and by Redis. */
  readonly local: readonly Admission[];
  readonly shared: readonly Admission[];
  /** The sum of the largest share that each pod ever had. */
  readonly shares: number;
};

/**
 * A fleet before a Redis that comes and goes. While it is there its one bucket decides, and all pods that run agree on
 * how many they are; while it is away each pod decides alone, and a pod that starts knows of no others.
 */
function play(scenario: Scenario): Played {
  const redis = new BucketModel(LIMIT, LIMIT, WINDOW_MILLIS / 1_000);
  const rules = [aRule([aLimit(LIMIT)])];
  const start = (agreed: number | undefined) => ({ pod: aPod(agreed), largest: Math.ceil(LIMIT / (agreed ?? LIMIT)) });
  const everyone = Array.from({ length: 3 }, () => start(3));
  let fleet = [...everyone];
  let [now, isUp] = [0, true];
  const played = { local: [] as Admission[], shared: [] as Admission[] };
  for (const { pauseMillis, event, pod, times } of scenario) {
    now += pauseMillis;
    for (const each of everyone) each.pod.wait(pauseMillis);
    if (event === 'toggleRedis') isUp = !isUp;
    if (event === 'stopPod' && fleet.length > 1) fleet = fleet.slice(1);
    if (event === 'startPod' && fleet.length < 10) {
      const started = start(undefined);
      everyone.push(started);
      fleet.push(started);
    }
    for (const each of isUp ? fleet : []) {
      each.pod.scaleTo(fleet.length);
      each.largest = Math.max(each.largest, Math.ceil(LIMIT / fleet.length));
    }
    const asks = event === 'ask' ? times : 0;
    for (let i = 0; i < asks; i += 1) {
      const asked = fleet[(pod + i) % fleet.length];
      if (isUp && redis.take(1, now) === 0n) played.shared.push({ atMillis: now, cost: 1 });
      if (!isUp && asked?.pod.decide(rules).action === 'ALLOW') played.local.push({ atMillis: now, cost: 1 });
    }
  }
  return { ...played, shares: everyone.reduce((sum, { largest }) => sum + largest, 0) };
}

describe('a fleet whose Redis comes and goes [P36] [P37]', () => {
  it('admits to a client that stays with one pod at most that pod’s largest share at once, and what flows back', () => {
    fc.assert(
      fc.property(
        fc.array(
          fc.record({ pause: fc.nat({ max: 20_000 }), pods: fc.integer({ min: 1, max: 10 }), asks: fc.nat(20) }),
          {
            maxLength: 40,
          },
        ),
        (outages) => {
          const pod = aPod(3);
          const largest = Math.max(...[3, ...outages.map(({ pods }) => pods)].map((pods) => Math.ceil(LIMIT / pods)));
          const local: Admission[] = [];
          let now = 0;
          for (const { pause, pods, asks } of outages) {
            pod.wait(pause);
            now += pause;
            pod.scaleTo(pods);
            const count = admitted(pod, [aRule([aLimit(LIMIT)])], asks);
            local.push({ atMillis: now, cost: count });
          }
          expect(mostBeyond(local, largest / WINDOW_MILLIS)).toBeLessThanOrEqual(largest + 1e-6);
        },
      ),
    );
  });

  it('admits in any interval the limit by Redis, and besides it the shares of its pods, once and for each window', () => {
    fc.assert(
      fc.property(scenarios, (scenario) => {
        const { local, shared, shares } = play(scenario);
        expect(mostBeyond(shared, LIMIT / WINDOW_MILLIS)).toBeLessThanOrEqual(LIMIT + 1e-6);
        expect(mostBeyond(local, shares / WINDOW_MILLIS)).toBeLessThanOrEqual(shares + 1e-6);
        const isFixed = !scenario.some(({ event }) => event === 'startPod' || event === 'stopPod');
        expect(isFixed ? shares : 0).toBeLessThanOrEqual(LIMIT + 3);
      }),
    );
  });

  it('admits no more when it is scaled from 3 to 10 to 2 pods while Redis is away: who starts takes one', () => {
    const rules = [aRule([aLimit(LIMIT)])];
    const old = Array.from({ length: 3 }, () => aPod(3));
    const started = Array.from({ length: 7 }, () => aPod(undefined));
    const all = [...old, ...started];
    const total = (pods: typeof all): number => pods.reduce((sum, pod) => sum + admitted(pod, rules, 50), 0);
    expect(total(all)).toBe(3 * 7 + 7);
    for (const pod of all) pod.wait(WINDOW_MILLIS);
    expect(total(all.slice(0, 2))).toBe(2 * 7);
  });
});

describe('more subjects than a pod has buckets for', () => {
  it('share a few, while no bucket can be forgotten without handing out its share twice', () => {
    const pod = aPod(1, 100);
    const rulesOf = (i: number): SelectedRule[] => [
      aRule([aLimit(10, { subject: `${String.fromCodePoint(97 + (i % 26))}-${i}` })]),
    ];
    for (let i = 0; i < 100; i += 1) expect(admitted(pod, rulesOf(i), 20)).toBe(10);
    let beyond = 0;
    for (let i = 100; i < 2_000; i += 1) beyond += admitted(pod, rulesOf(i), 20);
    expect(beyond).toBe(16 * 10);
    expect(pod.fallback.size).toBeLessThanOrEqual(100 + 16);
    // Who has one keeps it, and got nothing anew.
    for (let i = 0; i < 100; i += 1) expect(admitted(pod, rulesOf(i), 20)).toBe(0);
    pod.wait(WINDOW_MILLIS);
    for (let i = 2_000; i < 2_050; i += 1) expect(admitted(pod, rulesOf(i), 20)).toBe(10);
    expect(pod.fallback.size).toBeLessThanOrEqual(100 + 16);
  });

  it('find room beside a limit of a long window, whose buckets are full again later', () => {
    const pod = aPod(1, 100);
    const day = (i: number): SelectedLimit => aLimit(10, { subject: `a-${i}`, field: 'day', windowSeconds: 86_400 });
    for (let i = 0; i < 50; i += 1) admitted(pod, [aRule([day(i), aLimit(10, { subject: `a-${i}` })])], 1);
    pod.wait(WINDOW_MILLIS);
    for (let i = 50; i < 100; i += 1) {
      expect(admitted(pod, [aRule([aLimit(3, { subject: `a-${i}` })])], 9)).toBe(3);
    }
    expect(pod.fallback.size).toBe(100);
  });
});
