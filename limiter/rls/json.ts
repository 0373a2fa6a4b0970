// The rate limit service as JSON: the protobuf messages in their JSON form, as envoyproxy/ratelimit speaks it.
import { z } from 'zod';
import type { RlsAnswer, RlsStatus } from './answer.ts';
import type { RlsRequest } from './request.ts';

/** In the order of their numbers, which JSON may use as well. */
const UNITS = ['UNKNOWN', 'SECOND', 'MINUTE', 'HOUR', 'DAY', 'MONTH', 'YEAR'] as const;

const MAX_ITEMS = 1_000;

/** A field that is absent or null has the value that absent fields have in protobuf. */
const optional = <T extends z.ZodType>(schema: T) => schema.nullish();

const uint32 = z.union([
  z.int().min(0).max(0xffff_ffff),
  z
    .string()
    .regex(/^\d{1,10}$/)
    .transform(Number),
]);
const uint64 = z.union([
  z.int().min(0),
  z
    .string()
    .regex(/^\d{1,16}$/)
    .transform(Number),
]);
const unit = z.union([
  z.enum(UNITS).transform((name) => UNITS.indexOf(name)),
  z
    .int()
    .min(0)
    .max(UNITS.length - 1),
]);

const entry = z.strictObject({ key: optional(z.string()), value: optional(z.string()) });

/** protobuf's JSON is written in lowerCamelCase, and read in snake_case too. */
const descriptor = z.preprocess(
  toCamelCase,
  z.strictObject({
    entries: optional(z.array(entry).max(MAX_ITEMS)),
    limit: optional(
      z.preprocess(toCamelCase, z.strictObject({ requestsPerUnit: optional(uint32), unit: optional(unit) })),
    ),
    hitsAddend: optional(uint64),
    isNegativeHits: optional(z.boolean()),
  }),
);

const request = z.preprocess(
  toCamelCase,
  z.strictObject({
    domain: optional(z.string()),
    descriptors: optional(z.array(descriptor).max(MAX_ITEMS)),
    hitsAddend: optional(uint32),
  }),
);

/** The body of POST /json. */
export const rlsBodySchema = request;

/** The body of POST /json, as it becomes a request. */
export const rlsRequestSchema = request.transform(({ domain, descriptors, hitsAddend }): RlsRequest => {
  return {
    domain: domain ?? '',
    hitsAddend: hitsAddend ?? 0,
    descriptors: (descriptors ?? []).map((one) => ({
      entries: (one.entries ?? []).map(({ key, value }) => ({ key: key ?? '', value: value ?? '' })),
      hitsAddend: one.hitsAddend ?? undefined,
      isNegativeHits: one.isNegativeHits ?? false,
      limit:
        one.limit === null || one.limit === undefined
          ? undefined
          : { requestsPerUnit: one.limit.requestsPerUnit ?? 0, unit: one.limit.unit ?? 0 },
    })),
  };
});

/** Names in lowerCamelCase. A name that is there in both forms stays as it is, and is refused as unknown. */
function toCamelCase(value: unknown): unknown {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return value;
  const renamed = new Map<string, unknown>();
  for (const [name, member] of Object.entries(value)) {
    const camel = name.replaceAll(/_([a-z])/g, (_match, letter: string) => letter.toUpperCase());
    renamed.set(camel !== name && Object.hasOwn(value, camel) ? name : camel, member);
  }
  return Object.fromEntries(renamed);
}

/** The body of its answer. Zero values are left out, as everywhere in protobuf's JSON. */
export function rlsAnswerBody(answer: RlsAnswer): unknown {
  const headers = Object.entries(answer.headers).map(([key, value]) => ({ key, value }));
  return {
    overallCode: answer.overallCode,
    statuses: answer.statuses.map(toJsonStatus),
    ...(headers.length > 0 ? { responseHeadersToAdd: headers } : {}),
    dynamicMetadata: answer.metadata,
  };
}

function toJsonStatus({ code, currentLimit, limitRemaining, secondsUntilReset }: RlsStatus): unknown {
  return {
    code,
    ...(currentLimit === undefined
      ? {}
      : {
          currentLimit: {
            name: currentLimit.name,
            ...(currentLimit.requestsPerUnit === 0 ? {} : { requestsPerUnit: currentLimit.requestsPerUnit }),
            ...(currentLimit.unit === 'UNKNOWN' ? {} : { unit: currentLimit.unit }),
          },
        }),
    ...(limitRemaining === 0 ? {} : { limitRemaining }),
    ...(secondsUntilReset === undefined ? {} : { durationUntilReset: `${secondsUntilReset}s` }),
  };
}
