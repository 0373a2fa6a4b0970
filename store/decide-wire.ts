import type { LimitOutcome, PenaltyOutcome, PenaltyState, Verdict } from '../policy/decision.ts';
import type { CompiledPenalty } from '../policy/documents.ts';
import type { RuleOutcome, SelectedLimit, SelectedRule, Selection } from '../policy/selection.ts';
import { StoreError } from './errors.ts';
import type { Names } from './names.ts';

export type DecideRequest = {
  readonly partition: string;
  readonly selection: Pick<Selection, 'rules' | 'penalties'>;
  /** The same answer, and nothing is charged or punished. */
  readonly isPeek?: boolean;
  /** So many denials were answered from memory; see `rememberedRequest`. At least 1. */
  readonly rememberedDenials?: number;
};

const PEEK = 0;
const CONSUME = 1;

/** The mode of the script. A number of denials that cannot be counts as a peek: never as a request that is charged. */
function modeOf({ isPeek, rememberedDenials }: DecideRequest): number {
  if (isPeek === true) return PEEK;
  if (rememberedDenials === undefined) return CONSUME;
  return Number.isSafeInteger(rememberedDenials) && rememberedDenials >= 1 ? CONSUME + rememberedDenials : PEEK;
}

/**
 * What tells Redis that a pod answered `denials` requests like `request` by itself, because it remembers this verdict:
 * the rules and limits that denied, and nothing else. It is never charged; the answer says what became of the penalties.
 */
export function rememberedRequest(request: DecideRequest, verdict: Verdict, denials: number): DecideRequest {
  const rules = request.selection.rules.flatMap((rule, i) => {
    const said = verdict.rules[i];
    if (rule.group !== 0 || rule.penalty === undefined || said?.outcome !== 'Denied') return [];
    const limits = rule.limits.filter((_, n) => said.limits[n]?.retryAfterMicros !== 0);
    return [{ ...rule, after: [], limits }];
  });
  const { penalties } = request.selection;
  return { ...request, selection: { rules, penalties }, isPeek: false, rememberedDenials: denials };
}

export const ALGORITHM_CODES = { TokenBucket: 1, SlidingWindow: 2, SlidingWindowLog: 3 } as const;
const OUTCOME_CODES = { Admitted: 1, Denied: 2, NotRun: 3 } as const;
const OUTCOMES: readonly (RuleOutcome | undefined)[] = [undefined, 'Admitted', 'Denied', 'NotRun', 'Forgiven'];
const CODES: readonly (Verdict['code'] | undefined)[] = ['denied', 'admitted', undefined, 'blocked'];
export const STATES: readonly PenaltyState[] = ['NORMAL', 'WARN', 'THROTTLE', 'TEMP_BLOCK', 'BLOCK'];

/** Of the text of a shape. */
type Part = string | number;

const areSame = (parts: readonly Part[], others: readonly Part[]): boolean =>
  parts.length === others.length && parts.every((part, i) => part === others[i]);

/** KEYS and ARGV of the decision script for a batch of requests; see lua/decide.lua. */
export class DecideArguments {
  readonly keys: string[] = [];
  readonly args: (string | number)[];
  readonly #names: Names;
  /** Numbers of shapes by their text: requests of one batch are mostly alike. */
  readonly #shapes = new Map<string, number>();
  /** The shape of the request before: most are like it, and comparing parts costs a fraction of joining and looking up. */
  #lastParts: readonly Part[] = [];
  #lastShape = 0;
  /** Where the keys of the request in hand begin. */
  #firstKey = 0;

  constructor(names: Names, requests: readonly DecideRequest[]) {
    this.#names = names;
    const args: (string | number)[] = [];
    for (const request of requests) {
      this.#firstKey = this.keys.length;
      args.push(this.#shapeOf(request), modeOf(request));
      for (const { text } of request.selection.penalties) args.push(text);
    }
    this.args = [this.#shapes.size, ...this.#shapes.keys(), ...args];
  }

  /** Names the keys of a request; the number of its shape. */
  #shapeOf({ partition, selection }: DecideRequest): number {
    const parts: Part[] = [0, selection.penalties.length, selection.rules.length];
    for (const { subject, penalty } of selection.penalties) {
      const key = this.#key(this.#names.penalty(partition, subject));
      parts.push(key, this.#key(this.#names.penaltyIndex(partition)), penaltyText(penalty));
    }
    for (const rule of selection.rules) this.#addRule(parts, partition, rule);
    parts[0] = this.keys.length - this.#firstKey;
    if (!areSame(parts, this.#lastParts)) {
      this.#lastParts = parts;
      this.#lastShape = this.#numberOf(`${parts.join(' ')} `);
    }
    return this.#lastShape;
  }

  #numberOf(text: string): number {
    const known = this.#shapes.get(text);
    if (known !== undefined) return known;
    const number = this.#shapes.size + 1;
    this.#shapes.set(text, number);
    return number;
  }

  #addRule(parts: Part[], partition: string, rule: SelectedRule): void {
    const penalty = rule.penalty === undefined ? 0 : rule.penalty + 1;
    const conditions = rule.after.length === 0 ? '-' : conditionsText(rule);
    parts.push(rule.group, penalty, rule.throttled ? 1 : 0, rule.cost, conditions, rule.limits.length);
    let subject = '';
    let key = 0;
    for (const limit of rule.limits) {
      // Limits of one rule count the same subject.
      if (limit.subject !== subject) key = this.#key(this.#names.counters(partition, limit.subject));
      ({ subject } = limit);
      parts.push(key, limitText(limit));
    }
  }

  /** The number of a key among those of the request in hand, from 1. */
  #key(name: string): number {
    for (let i = this.#firstKey; i < this.keys.length; i += 1) {
      if (this.keys[i] === name) return i - this.#firstKey + 1;
    }
    return this.keys.push(name) - this.#firstKey;
  }
}

const conditionsText = ({ after }: SelectedRule): string =>
  after.map(({ rule, outcome }) => `${rule + 1}:${OUTCOME_CODES[outcome]}`).join(',');

/** The last text of each field, with the numbers that it was made of; emptied when there are this many. */
const limitTexts = new Map<string, { readonly limit: SelectedLimit; readonly text: string }>();
const MOST_LIMIT_TEXTS = 10_000;

/** A field names its algorithm and window as well; its numbers change with the tier and the mode, which is seldom. */
function limitText(limit: SelectedLimit): string {
  const known = limitTexts.get(limit.field);
  if (known !== undefined && isSame(known.limit, limit)) return known.text;
  const text = writeLimit(limit);
  if (limitTexts.size >= MOST_LIMIT_TEXTS) limitTexts.clear();
  limitTexts.set(limit.field, { limit, text });
  return text;
}

const isSame = (one: SelectedLimit, other: SelectedLimit): boolean =>
  one.capacity === other.capacity &&
  one.refill === other.refill &&
  one.normalCapacity === other.normalCapacity &&
  one.normalRefill === other.normalRefill &&
  one.windowSeconds === other.windowSeconds &&
  one.algorithm === other.algorithm;

function writeLimit(limit: SelectedLimit): string {
  const { field, algorithm, capacity, refill, windowSeconds, normalCapacity, normalRefill } = limit;
  return `${field} ${ALGORITHM_CODES[algorithm]} ${capacity} ${refill} ${windowSeconds} ${normalCapacity},${normalRefill}`;
}

/** A compiled penalty never changes, and every request of its policy needs the text. */
const penaltyTexts = new WeakMap<CompiledPenalty, string>();

function penaltyText(penalty: CompiledPenalty): string {
  const known = penaltyTexts.get(penalty);
  if (known !== undefined) return known;
  const text = writePenalty(penalty);
  penaltyTexts.set(penalty, text);
  return text;
}

function writePenalty(penalty: CompiledPenalty): string {
  const { enforced, tolerancePercent, violationWindowSeconds, minSecondsPerStep } = penalty;
  const { warn, throttle, tempBlock, block } = penalty;
  return [
    enforced ? 1 : 0,
    tolerancePercent,
    violationWindowSeconds,
    minSecondsPerStep,
    warn?.violations ?? 0,
    warn?.forSeconds ?? 0,
    throttle?.violations ?? 0,
    throttle?.forSeconds ?? 0,
    throttle?.limitPercent ?? 100,
    tempBlock?.violations ?? 0,
    tempBlock?.forSeconds ?? 0,
    block?.tempBlocks ?? 0,
    block?.withinSeconds ?? 0,
    block?.forSeconds ?? 0,
  ].join(',');
}

/** The verdict on one request from its part of the reply. Throws StoreError WRONG_TYPE or BAD_REPLY. */
export function decodeVerdict({ selection }: DecideRequest, text: string): Verdict {
  if (text === '2') throw new StoreError('WRONG_TYPE', 'a key of the counters holds something else');
  const numbers = new Numbers(text);
  const code = CODES[numbers.next()];
  if (code === undefined) throw new StoreError('BAD_REPLY', 'the reply has an unknown code');
  const retryAfterMicros = numbers.next();
  const byThrottle = numbers.next() === 1;
  const penalties = selection.penalties.map(() => nextPenalty(numbers));
  const rules = selection.rules.map((rule) => nextRule(numbers, rule));
  if (!numbers.isAtEnd) throw new StoreError('BAD_REPLY', 'the reply is longer than the request');
  return { code, retryAfterMicros, byThrottle, penalties, rules };
}

const SPACE = 32;
const MINUS = 45;
const ZERO = 48;

/** Whole numbers between single spaces, one after the other: every reply is read, and no list of parts is needed. */
class Numbers {
  readonly #text: string;
  #at = 0;

  constructor(text: string) {
    this.#text = text;
  }

  get isAtEnd(): boolean {
    return this.#at > this.#text.length;
  }

  next(): number {
    if (this.isAtEnd) throw new StoreError('BAD_REPLY', 'the reply is shorter than the request');
    const text = this.#text;
    const isNegative = text.charCodeAt(this.#at) === MINUS;
    const first = isNegative ? this.#at + 1 : this.#at;
    let value = 0;
    let i = first;
    for (; i < text.length; i += 1) {
      const digit = text.charCodeAt(i) - ZERO;
      if (digit === SPACE - ZERO) break;
      if (digit < 0 || digit > 9) throw notWhole(text);
      value = value * 10 + digit;
    }
    if (i === first || value > Number.MAX_SAFE_INTEGER) throw notWhole(text);
    this.#at = i + 1;
    return isNegative ? -value : value;
  }
}

const notWhole = (text: string): StoreError =>
  new StoreError('BAD_REPLY', `expected whole numbers, not ${JSON.stringify(text)}`);

function nextPenalty(numbers: Numbers): PenaltyOutcome {
  return {
    before: nextState(numbers),
    after: nextState(numbers),
    endsInMicros: numbers.next(),
    violations: numbers.next(),
  };
}

function nextState(numbers: Numbers): PenaltyState {
  const state = STATES[numbers.next()];
  if (state === undefined) throw new StoreError('BAD_REPLY', 'the reply has an unknown state');
  return state;
}

function nextRule(numbers: Numbers, rule: SelectedRule): Verdict['rules'][number] {
  const outcome = OUTCOMES[numbers.next()];
  if (outcome === undefined) throw new StoreError('BAD_REPLY', 'the reply has an unknown outcome');
  const limits: LimitOutcome[] =
    outcome === 'NotRun'
      ? []
      : rule.limits.map(() => ({
          remaining: numbers.next(),
          retryAfterMicros: numbers.next(),
          resetAfterMicros: numbers.next(),
        }));
  return { outcome, limits };
}
