// A request of Envoy's rate limit service, whether it came over gRPC or as JSON: what both turn into, and how that
// becomes questions to the engine.
import { parseIP } from '../../policy/ip.ts';
import type { RequestLimit } from '../../policy/request-limit.ts';
import { MAX_REQUEST_SECONDS } from '../../policy/schema/limit.ts';
import { type Asked, hostOf, NotUnderstood, understoodPath } from '../asked.ts';

/** `unit` is one of Envoy's RateLimitUnit: 1 = second, 2 = minute, 3 = hour, 4 = day; others cannot be kept here. */
export type BroughtLimit = { readonly requestsPerUnit: number; readonly unit: number };

export type RlsEntry = { readonly key: string; readonly value: string };

export type RlsDescriptor = {
  readonly entries: readonly RlsEntry[];
  /** Hits of this descriptor, instead of those of the request; 0 = check only. */
  readonly hitsAddend: number | undefined;
  /** The hits are given back. */
  readonly isNegativeHits: boolean;
  /** A limit that the caller brings along, as it came. */
  readonly limit: BroughtLimit | undefined;
};

export type RlsRequest = {
  readonly domain: string;
  readonly descriptors: readonly RlsDescriptor[];
  /** 0 means 1. */
  readonly hitsAddend: number;
};

/** A request that no gateway should send: its configuration is wrong. */
export class BadRlsRequest extends Error {
  override readonly name = 'BadRlsRequest';
  readonly code = 'BAD_RLS_REQUEST';
  readonly transient = false;
}

/** What is done with the hits of a descriptor. */
export type Hits = { readonly kind: 'consume' | 'peek' | 'give-back'; readonly cost: number | undefined };

/** Descriptors that are judged together, as one request: they do not contradict each other. */
export type RlsQuestion = {
  readonly hits: Hits;
  /** Positions of the descriptors in the request. */
  readonly descriptors: readonly number[];
  readonly entries: ReadonlyMap<string, string>;
  /** The limit by which it is judged instead of those of the policies. */
  readonly limit: (BroughtLimit & { readonly countBy: readonly RlsEntry[] }) | undefined;
};

const WINDOWS: readonly ({ readonly name: string; readonly seconds: number } | undefined)[] = [
  undefined,
  { name: 'limit-per-second', seconds: 1 },
  { name: 'limit-per-minute', seconds: 60 },
  { name: 'limit-per-hour', seconds: 3_600 },
  { name: 'limit-per-day', seconds: 86_400 },
];

/** Whether a limit that was brought along can be kept: its unit has a window, and the counters can hold so many. */
export function canBeKept({ requestsPerUnit, unit }: BroughtLimit): boolean {
  const seconds = WINDOWS[unit]?.seconds;
  return seconds !== undefined && requestsPerUnit * seconds <= MAX_REQUEST_SECONDS;
}

const MAX_DESCRIPTORS = 64;
const MAX_ENTRIES = 64;
const MAX_DOMAIN_LENGTH = 253;
const MAX_KEY_LENGTH = 256;
const MAX_VALUE_LENGTH = 8192;
const MAX_NAME_LENGTH = 256;
const MAX_API_KEY_LENGTH = 512;
const MAX_HITS = 1_000_000;

/** Throws BadRlsRequest for what the gateway's configuration decides; what clients decide is looked at later. */
export function checkShape(request: RlsRequest): void {
  if (request.domain === '' || request.domain.length > MAX_DOMAIN_LENGTH) {
    throw new BadRlsRequest(`domain: must have 1 to ${MAX_DOMAIN_LENGTH} characters`);
  }
  if (request.descriptors.length === 0 || request.descriptors.length > MAX_DESCRIPTORS) {
    throw new BadRlsRequest(`descriptors: must be 1 to ${MAX_DESCRIPTORS}, not ${request.descriptors.length}`);
  }
  for (const [at, { entries }] of request.descriptors.entries()) {
    if (entries.length === 0 || entries.length > MAX_ENTRIES) {
      throw new BadRlsRequest(`descriptors[${at}].entries: must be 1 to ${MAX_ENTRIES}, not ${entries.length}`);
    }
    const bad = entries.findIndex(({ key }) => key === '' || key.length > MAX_KEY_LENGTH);
    if (bad !== -1) {
      throw new BadRlsRequest(`descriptors[${at}].entries[${bad}].key: must have 1 to ${MAX_KEY_LENGTH} characters`);
    }
  }
}

/**
 * Descriptors are facts about one request, so those that agree are one question: a rule that two of them satisfy
 * counts once. Where two give different values to a key, or take different hits, they are questions of their own, and so is
 * each that brings a limit along.
 */
export function questionsOf(request: RlsRequest): RlsQuestion[] {
  const questions: (RlsQuestion & { descriptors: number[]; entries: Map<string, string> })[] = [];
  for (const [position, descriptor] of request.descriptors.entries()) {
    const { entries } = descriptor;
    const limit = descriptor.limit && { ...descriptor.limit, countBy: entries };
    const hits = hitsOf(request, descriptor);
    const joined = limit === undefined ? questions.find((one) => canJoin(one, hits, entries)) : undefined;
    const question = joined ?? { hits, limit, descriptors: [], entries: new Map<string, string>() };
    if (joined === undefined) questions.push(question);
    question.descriptors.push(position);
    for (const { key, value } of entries) question.entries.set(key, value);
  }
  return questions;
}

function canJoin(one: RlsQuestion, hits: Hits, entries: readonly RlsEntry[]): boolean {
  return one.limit === undefined && isSame(one.hits, hits) && agrees(one.entries, entries);
}

function hitsOf(request: RlsRequest, descriptor: RlsDescriptor): Hits {
  const said = descriptor.hitsAddend ?? (request.hitsAddend === 0 ? undefined : request.hitsAddend);
  if (said === 0) return { kind: 'peek', cost: undefined };
  return { kind: descriptor.isNegativeHits ? 'give-back' : 'consume', cost: said };
}

const isSame = (one: Hits, other: Hits): boolean => one.kind === other.kind && one.cost === other.cost;

/** A descriptor that says one thing twice, differently, still agrees with itself: its last word counts. */
function agrees(known: ReadonlyMap<string, string>, entries: readonly RlsEntry[]): boolean {
  return entries.every(({ key, value }) => !known.has(key) || known.get(key) === value);
}

export type RlsCaller = {
  readonly peerIP: string | undefined;
  readonly isTrusted: boolean;
  /** Whether the answer speaks of every limit that applied. */
  readonly needsAllLimits?: boolean;
};

/** Throws NotUnderstood for what a client may have put into a value: that must not open a way around the limits. */
export function toAsked(domain: string, question: RlsQuestion, caller: RlsCaller, refundId?: string): Asked {
  const { hits, entries, limit } = question;
  for (const [key, value] of entries) checkValue(key, value);
  for (const { key, value } of limit?.countBy ?? []) checkValue(key, value);
  if (hits.cost !== undefined && !(Number.isSafeInteger(hits.cost) && hits.cost <= MAX_HITS)) {
    throw new NotUnderstood('BAD_VALUE', `hits_addend ${hits.cost}: must be at most ${MAX_HITS}`);
  }
  const path = entries.get('path');
  const host = nonEmpty(entries.get('host'));
  const clientIP = entries.get('remote_address');
  if (clientIP !== undefined && parseIP(clientIP) === undefined) {
    throw new NotUnderstood('BAD_ADDRESS', 'remote_address: must be an IPv4 or IPv6 address');
  }
  return {
    domain,
    cost: hits.cost,
    isPeek: hits.kind === 'peek',
    ...caller,
    apiKey: nonEmpty(entries.get('api_key')),
    consumer: nonEmpty(entries.get('consumer')),
    tenant: nonEmpty(entries.get('tenant')),
    tier: nonEmpty(entries.get('tier')),
    limit: limit === undefined ? undefined : toRequestLimit(limit),
    refundId,
    context: {
      method: nonEmpty(entries.get('method'))?.toUpperCase(),
      path: path === undefined ? undefined : understoodPath(path),
      host: host === undefined ? undefined : hostOf(host),
      clientIP,
      descriptors: otherThanFields(entries),
    },
  };
}

/** Undefined if it cannot be kept. */
function toRequestLimit({
  requestsPerUnit,
  unit,
  countBy,
}: NonNullable<RlsQuestion['limit']>): RequestLimit | undefined {
  const window = WINDOWS[unit];
  if (window === undefined) return undefined;
  return { name: window.name, requests: requestsPerUnit, windowSeconds: window.seconds, countBy };
}

/** What is said by these keys is a field of the request; every other key is a descriptor. */
const FIELDS: ReadonlySet<string> = new Set([
  'path',
  'method',
  'host',
  'remote_address',
  'api_key',
  'consumer',
  'tenant',
  'tier',
]);

function otherThanFields(entries: ReadonlyMap<string, string>): ReadonlyMap<string, string> {
  const others = new Map<string, string>();
  for (const [key, value] of entries) if (!FIELDS.has(key)) others.set(key, value);
  return others;
}

function checkValue(key: string, value: string): void {
  const longest = maxLengthOf(key);
  if (value.length > longest) {
    throw new NotUnderstood('BAD_VALUE', `${key}: must have at most ${longest} characters, not ${value.length}`);
  }
  if (!value.isWellFormed()) throw new NotUnderstood('BAD_VALUE', `${key}: must not contain half of a surrogate pair`);
}

function maxLengthOf(key: string): number {
  switch (key) {
    case 'api_key':
      return MAX_API_KEY_LENGTH;
    case 'consumer':
    case 'tenant':
    case 'tier':
    case 'method':
      return MAX_NAME_LENGTH;
    default:
      return MAX_VALUE_LENGTH;
  }
}

/** An empty value says as much as none. */
const nonEmpty = (text: string | undefined): string | undefined => (text === '' ? undefined : text);
