// What Envoy's rate limit service answers, as plain data: gRPC and JSON write it each in their own way.
import type { Decision, ReportedLimit, ShownLimit } from '../../policy/decision.ts';
import type { DomainIndex } from '../../policy/snapshot.ts';
import type { AskedResult } from '../asked.ts';
import { wholeSeconds } from '../rate-limit-headers.ts';
import type { RlsQuestion, RlsRequest } from './request.ts';

export const CODES = ['UNKNOWN', 'OK', 'OVER_LIMIT'] as const;
export const UNITS = ['UNKNOWN', 'SECOND', 'MINUTE', 'HOUR', 'DAY'] as const;

export type RlsCode = 'OK' | 'OVER_LIMIT';
export type RlsUnit = (typeof UNITS)[number];

export type RlsStatus = {
  readonly code: RlsCode;
  readonly currentLimit:
    | { readonly name: string; readonly requestsPerUnit: number; readonly unit: RlsUnit }
    | undefined;
  readonly limitRemaining: number;
  readonly secondsUntilReset: number | undefined;
};

export type RlsAnswer = {
  readonly overallCode: RlsCode;
  /** As many as descriptors, in their order. */
  readonly statuses: readonly RlsStatus[];
  readonly headers: Readonly<Record<string, string>>;
  /** Why; lands in Envoy's dynamic metadata. */
  readonly metadata: Readonly<Record<string, string | number>>;
};

const MAX_UINT32 = 0xffff_ffff;

const NO_LIMIT: RlsStatus = { code: 'OK', currentLimit: undefined, limitRemaining: 0, secondsUntilReset: undefined };

/** The engine's word on one question; undefined where hits were given back. */
export type Answered = { readonly question: RlsQuestion; readonly result: AskedResult | undefined };

/** One status for each descriptor, by the answers to the questions that the descriptors became. */
export function statusesOf(
  request: RlsRequest,
  answered: readonly Answered[],
  domain: DomainIndex | undefined,
): RlsStatus[] {
  const statuses = request.descriptors.map(() => NO_LIMIT);
  for (const { question, result } of answered) {
    if (result === undefined) continue;
    const { decision } = result;
    // Each descriptor has the first that speaks of it: one that denies, else the tightest.
    for (const limit of decision.shown ?? [decision.reported]) {
      for (const position of meantBy(request, question, limit, domain)) {
        if (statuses[position] === NO_LIMIT) statuses[position] = statusOf(decision, limit);
      }
    }
  }
  return statuses;
}

/**
 * The descriptors of a question that a limit speaks of: those that carry everything that its rule looks at.
 * All of them if it takes several together, and of a denial that no limit explains.
 */
function meantBy(
  request: RlsRequest,
  question: RlsQuestion,
  reported: ReportedLimit | undefined,
  domain: DomainIndex | undefined,
): readonly number[] {
  const inputs = reported === undefined ? [] : inputsOf(reported, domain, question.entries);
  const carrying = question.descriptors.filter((position) => {
    const keys = request.descriptors[position]?.entries.map(({ key }) => key) ?? [];
    return inputs.every((input) => keys.includes(input));
  });
  return carrying.length === 0 ? question.descriptors : carrying;
}

const KEYS_OF_MATCHERS = [
  ['paths', 'path'],
  ['methods', 'method'],
  ['hosts', 'host'],
  ['networks', 'remote_address'],
  ['tenants', 'tenant'],
  ['tiers', 'tier'],
] as const;

/** The keys of descriptors that a rule counts by or matches. */
function inputsOf(
  { policy, rule }: ReportedLimit,
  domain: DomainIndex | undefined,
  entries: ReadonlyMap<string, string>,
): readonly string[] {
  const compiled = domain?.policies.find(({ id }) => id === policy)?.rules.find(({ name }) => name === rule);
  if (compiled === undefined) return [];
  const inputs = compiled.countBy.map((axis) => keyOfAxis(axis, entries));
  for (const [matcher, key] of KEYS_OF_MATCHERS) if (compiled.matcher?.[matcher] !== undefined) inputs.push(key);
  return inputs.filter((input) => input !== undefined && entries.has(input)).map(String);
}

/** The key by which descriptors say what an axis counts; undefined if it is none of theirs. */
function keyOfAxis(axis: string, entries: ReadonlyMap<string, string>): string | undefined {
  switch (axis) {
    case 'consumer':
      return ['api_key', 'consumer', 'remote_address'].find((key) => entries.has(key));
    case 'clientIP':
      return 'remote_address';
    case 'route':
      return 'path';
    case 'tenant':
    case 'method':
      return axis;
    default:
      return axis.startsWith('descriptor:') ? axis.slice('descriptor:'.length) : undefined;
  }
}

function statusOf({ action, retryAfterMicros }: Decision, reported: ReportedLimit | ShownLimit | undefined): RlsStatus {
  const isFine = reported !== undefined && 'isExceeded' in reported && !reported.isExceeded;
  const code = action === 'ALLOW' || isFine ? 'OK' : 'OVER_LIMIT';
  if (reported === undefined) {
    return {
      ...NO_LIMIT,
      code,
      secondsUntilReset: retryAfterMicros === undefined ? undefined : wholeSeconds(retryAfterMicros),
    };
  }
  return {
    code,
    currentLimit: {
      name: reported.rule,
      requestsPerUnit: Math.min(reported.limit, MAX_UINT32),
      unit: unitOf(reported.windowSeconds),
    },
    limitRemaining: Math.min(reported.remaining, MAX_UINT32),
    // Envoy tells the client this as Retry-After, and cuts off what is below a second.
    secondsUntilReset: wholeSeconds(
      code === 'OK' ? reported.resetAfterMicros : (retryAfterMicros ?? reported.resetAfterMicros),
    ),
  };
}

/** Envoy prints a window only for units that it knows; for any other it must not print a wrong one. */
function unitOf(windowSeconds: number): RlsUnit {
  switch (windowSeconds) {
    case 1:
      return 'SECOND';
    case 60:
      return 'MINUTE';
    case 3_600:
      return 'HOUR';
    case 86_400:
      return 'DAY';
    default:
      return 'UNKNOWN';
  }
}
