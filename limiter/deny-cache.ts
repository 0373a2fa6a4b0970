import type { LimitOutcome, Verdict } from '../policy/decision.ts';
import type { RedisClock } from '../store/clock.ts';
import type { Decider, TimedVerdict } from '../store/decide.ts';
import { type DecideRequest, rememberedRequest } from '../store/decide-wire.ts';
import { KnownBlocks } from './known-blocks.ts';

export type DenyCacheOptions = {
  readonly decider: Pick<Decider, 'decide'>;
  readonly clock: RedisClock;
  /** What tells one configuration from another. */
  readonly configuration: () => string;
  readonly onRemembered?: () => void;
  readonly maxEntries?: number;
  /** Runs something later, unless what it returns is called before. */
  readonly schedule?: (run: () => void, millis: number) => () => void;
};

type Entry = {
  readonly request: DecideRequest;
  readonly verdict: TimedVerdict;
  readonly sentAtMillis: number;
  readonly receivedAtMillis: number;
  readonly untilMillis: number;
  /** Whether its denials may be violations. */
  readonly isCounted: boolean;
  /** Denials answered from it that Redis has not been told of. */
  denials: number;
};

const MAX_ENTRIES = 50_000;
/** A refund or a pardon whose announcement is lost is heeded after so long. */
const MAX_MILLIS = 1_000;
const FLUSH_MILLIS = 100;
/** Entries that Redis is told of at once; the others have their turn 100 ms later. */
const MAX_FLUSHED = 1_000;
const MAX_FORGOTTEN = 10_000;

/**
 * Decisions, of which denials are remembered: the same request is denied again without asking Redis, for as long as the
 * denial is sure to last and at most a second. This is exact: until retry_after the counters move only against the
 * client. What could end a denial sooner is part of the key (the configuration, and so whatever overrides and incidents
 * make of the limits), bounds its life (a penalty that steps down), or makes it forgotten (refund, pardon). An answer
 * that a failure policy gave is never here, and nothing is ever admitted from here.
 *
 * Remembered denials count as violations like others: Redis is told of them every 100 ms. A crash loses those of one
 * period, as does a Redis that cannot be told.
 *
 * While Redis cannot decide, the blocks that it told of before still hold, until their end.
 */
export class DenyCache {
  readonly #options: DenyCacheOptions;
  /** In the order in which they were asked for: the first ends within a second from when it was. */
  readonly #entries = new Map<string, Entry>();
  /** How many entries each first subject has: who has none needs no key, which takes longer than all else here. */
  readonly #subjects = new Map<string, number>();
  readonly #maxEntries: number;
  readonly #blocks = new KnownBlocks();
  readonly #untold = new Set<Entry>();
  /** When subjects were forgotten, the oldest first: what was asked before that is not remembered. */
  readonly #forgotten = new Map<string, number>();
  #clearedAtMillis = Number.NEGATIVE_INFINITY;
  #cancelFlush: (() => void) | undefined;

  constructor(options: DenyCacheOptions) {
    this.#options = options;
    this.#maxEntries = options.maxEntries ?? MAX_ENTRIES;
  }

  get size(): number {
    return this.#entries.size;
  }

  /** As Decider.decide. A peek neither reads what is remembered nor adds to it. */
  decide(request: DecideRequest): Promise<TimedVerdict> {
    if (request.isPeek === true) return this.#ask(request, undefined);
    const configuration = this.#options.configuration();
    const remembered = this.#subjects.has(firstSubjectOf(request))
      ? this.#recall(keyOf(configuration, request))
      : undefined;
    return remembered === undefined ? this.#ask(request, configuration) : Promise.resolve(remembered);
  }

  /** Something of this subject was given back: a charge, or a penalty. */
  forget(subject: string): void {
    const now = this.#now();
    for (const [known, atMillis] of this.#forgotten) {
      if (now - atMillis <= MAX_MILLIS) break;
      this.#forgotten.delete(known);
    }
    this.#blocks.forget(subject);
    this.#forgotten.delete(subject);
    this.#forgotten.set(subject, now);
    if (this.#forgotten.size > MAX_FORGOTTEN) this.clear();
  }

  /**
   * Anything may have been given back to anybody. Blocks are kept: this is called when Redis is back, which may be gone
   * again before it could tell of them; it is asked first anyway.
   */
  clear(): void {
    this.#clearedAtMillis = this.#now();
    this.#forgotten.clear();
    this.#entries.clear();
    this.#subjects.clear();
  }

  /** Tells Redis of the denials that it was not asked about. Never rejects. */
  async flush(): Promise<void> {
    this.#cancelFlush?.();
    this.#cancelFlush = undefined;
    const told: Promise<void>[] = [];
    for (const entry of this.#untold) {
      if (told.length === MAX_FLUSHED) break;
      this.#untold.delete(entry);
      told.push(this.#tell(entry));
    }
    if (this.#untold.size > 0) this.#flushLater();
    await Promise.all(told);
  }

  async stop(): Promise<void> {
    await this.flush();
    this.#cancelFlush?.();
  }

  async #ask(request: DecideRequest, configuration: string | undefined): Promise<TimedVerdict> {
    const sentAtMillis = this.#now();
    this.#prune(sentAtMillis);
    try {
      const verdict = await this.#options.decider.decide(request);
      this.#learn(request, verdict, { sentAtMillis, configuration });
      return verdict;
    } catch (error) {
      const block = this.#blocks.find(request, this.#now());
      if (block === undefined) throw error;
      return { ...block, redisMicros: this.#options.clock.nowMicros() };
    }
  }

  #learn(
    request: DecideRequest,
    verdict: TimedVerdict,
    asked: { readonly sentAtMillis: number; readonly configuration: string | undefined },
  ): void {
    const { sentAtMillis, configuration } = asked;
    const { penalties } = request.selection;
    if (penalties.length === 0 && verdict.code === 'admitted') return;
    if (this.#isForgotten(request, sentAtMillis)) return;
    const receivedAtMillis = this.#now();
    this.#blocks.learn(request, verdict, { atMillis: sentAtMillis, nowMillis: receivedAtMillis });
    if (configuration === undefined || verdict.code === 'admitted') return;
    // Whom this very denial brought to another state is to hear of it the next time.
    if (verdict.penalties.some((penalty) => penalty.before !== penalty.after)) return;
    // What a rule that waits for others makes of the next request is not sure.
    if (request.selection.rules.some(({ after }) => after.length > 0)) return;
    const untilMillis = sentAtMillis + millisOf(verdict);
    if (untilMillis <= receivedAtMillis) return;
    const isCounted = verdict.code === 'denied' && rememberedRequest(request, verdict, 1).selection.rules.length > 0;
    const times = { sentAtMillis, receivedAtMillis, untilMillis };
    this.#remember(keyOf(configuration, request), { request, verdict, ...times, isCounted, denials: 0 });
    if (this.#entries.size > this.#maxEntries) this.#dropOldest();
  }

  #remember(key: string, entry: Entry): void {
    this.#drop(key);
    this.#entries.set(key, entry);
    const subject = firstSubjectOf(entry.request);
    this.#subjects.set(subject, (this.#subjects.get(subject) ?? 0) + 1);
  }

  #drop(key: string): void {
    const entry = this.#entries.get(key);
    if (entry === undefined) return;
    this.#entries.delete(key);
    const subject = firstSubjectOf(entry.request);
    const others = (this.#subjects.get(subject) ?? 1) - 1;
    if (others === 0) this.#subjects.delete(subject);
    else this.#subjects.set(subject, others);
  }

  #dropOldest(): void {
    const [oldest] = this.#entries.keys();
    if (oldest !== undefined) this.#drop(oldest);
  }

  /** Lets go of what cannot be used any more. */
  #prune(now: number): void {
    for (const [key, { sentAtMillis }] of this.#entries) {
      if (now - sentAtMillis <= MAX_MILLIS) return;
      this.#drop(key);
    }
  }

  #recall(key: string): TimedVerdict | undefined {
    const entry = this.#entries.get(key);
    if (entry === undefined) return undefined;
    const now = this.#now();
    if (now >= entry.untilMillis || this.#isForgotten(entry.request, entry.sentAtMillis)) {
      this.#drop(key);
      return undefined;
    }
    if (entry.isCounted) this.#count(entry);
    this.#options.onRemembered?.();
    return laterBy(entry.verdict, Math.floor((now - entry.receivedAtMillis) * 1_000));
  }

  #count(entry: Entry): void {
    if (entry.denials === 0) {
      // So many at once are more than Redis could be told of: what is not counted favours the client.
      if (this.#untold.size >= this.#maxEntries) return;
      this.#untold.add(entry);
      this.#flushLater();
    }
    entry.denials += 1;
  }

  #flushLater(): void {
    const schedule = this.#options.schedule ?? scheduleUnreferenced;
    this.#cancelFlush ??= schedule(() => void this.flush(), FLUSH_MILLIS);
  }

  async #tell(entry: Entry): Promise<void> {
    const { request, verdict, denials } = entry;
    entry.denials = 0;
    const atMillis = this.#now();
    try {
      const said = await this.#options.decider.decide(rememberedRequest(request, verdict, denials));
      if (this.#isForgotten(request, atMillis)) return;
      this.#blocks.learn(request, said, { atMillis, nowMillis: this.#now() });
      const isAsRemembered = said.penalties.every(({ after }, i) => after === verdict.penalties[i]?.after);
      if (!isAsRemembered) this.#drop(keyOf(this.#options.configuration(), request));
    } catch {
      // Nobody knows whether they were counted: to tell again could punish twice.
    }
  }

  #isForgotten({ selection }: DecideRequest, sentAtMillis: number): boolean {
    if (sentAtMillis <= this.#clearedAtMillis) return true;
    if (this.#forgotten.size === 0) return false;
    const isForgotten = (subject: string): boolean => sentAtMillis <= (this.#forgotten.get(subject) ?? -1);
    return (
      selection.penalties.some(({ subject }) => isForgotten(subject)) ||
      selection.rules.some(({ limits }) => limits.some(({ subject }) => isForgotten(subject)))
    );
  }

  #now(): number {
    return this.#options.clock.monotonicMillis();
  }
}

/** Everything that the verdict depends on but the counters: a field names policy, rule, algorithm and window. */
function keyOf(configuration: string, { partition, selection }: DecideRequest): string {
  let key = `${configuration} ${partition}`;
  for (const { group, cost, limits } of selection.rules) {
    key += `|${group} ${cost}`;
    for (const { subject, field, capacity, refill, normalCapacity, normalRefill } of limits) {
      key += ` ${subject} ${field} ${capacity} ${refill} ${normalCapacity} ${normalRefill}`;
    }
  }
  for (const { subject } of selection.penalties) key += `/${subject}`;
  return key;
}

/** A part of every key. */
const firstSubjectOf = ({ selection }: DecideRequest): string => selection.rules[0]?.limits[0]?.subject ?? '';

/** How long a denial is sure to last, from when it was asked for. */
function millisOf({ retryAfterMicros, penalties }: Verdict): number {
  let micros = MAX_MILLIS * 1_000;
  if (retryAfterMicros >= 0) micros = Math.min(micros, retryAfterMicros);
  for (const { endsInMicros } of penalties) if (endsInMicros > 0) micros = Math.min(micros, endsInMicros);
  return micros / 1_000;
}

/** The same verdict so many microseconds later. What lies ahead stays ahead: a remembered denial has not ended. */
function laterBy(verdict: TimedVerdict, elapsedMicros: number): TimedVerdict {
  const left = (micros: number): number => (micros > 0 ? Math.max(1, micros - elapsedMicros) : micros);
  const limitAfter = ({ remaining, retryAfterMicros, resetAfterMicros }: LimitOutcome): LimitOutcome => ({
    remaining,
    retryAfterMicros: left(retryAfterMicros),
    resetAfterMicros: left(resetAfterMicros),
  });
  return {
    code: verdict.code,
    byThrottle: verdict.byThrottle,
    retryAfterMicros: left(verdict.retryAfterMicros),
    redisMicros: verdict.redisMicros + elapsedMicros,
    penalties: verdict.penalties.map((one) => ({ ...one, endsInMicros: left(one.endsInMicros) })),
    rules: verdict.rules.map(({ outcome, limits }) => ({ outcome, limits: limits.map(limitAfter) })),
  };
}

/** Never keeps the process alive. */
function scheduleUnreferenced(run: () => void, millis: number): () => void {
  const timer = setTimeout(run, millis).unref();
  return () => clearTimeout(timer);
}
