import { z } from 'zod';
import { MAX_API_KEY_LENGTH } from '../../policy/api-key.ts';
import { normalisePath } from '../../policy/path.ts';
import { problemsOf } from '../../policy/problems.ts';
import type { Problem } from '../../policy/resource.ts';
import type { CheckRequest } from '../check.ts';
import { parseIP } from '../../policy/ip.ts';

/** Above it no body is read. */
export const MAX_BODY_BYTES = 65_536;

const MAX_COST = 1_000_000;
const MAX_PAIRS = 64;

/** Text that a request may carry: bounded, and well-formed, so that two different texts never have one UTF-8 form. */
function bounded(max: number, min = 1) {
  return z
    .string()
    .min(min)
    .max(max)
    .refine((value) => value.isWellFormed(), { error: 'must not contain half of a surrogate pair' });
}

const pairs = z
  .record(bounded(64), bounded(8192, 0))
  .refine((record) => Object.keys(record).length <= MAX_PAIRS, { error: `must have at most ${MAX_PAIRS} entries` });

/** The body of POST /v1/decision/check. */
export const decisionRequestSchema = z.strictObject({
  domain: bounded(253),
  api_key: bounded(MAX_API_KEY_LENGTH).optional(),
  consumer: bounded(256).optional(),
  tenant: bounded(256).optional(),
  tier: bounded(63).optional(),
  ip: bounded(64)
    .refine((value) => parseIP(value) !== undefined, { error: 'must be an IPv4 or IPv6 address' })
    .optional(),
  method: z
    .string()
    .regex(/^[A-Za-z][A-Za-z-]{0,15}$/)
    .optional(),
  path: bounded(8192)
    .refine((value) => normalisePath(value) !== undefined, {
      error: 'must be a path that begins with "/" and has no broken escapes',
    })
    .optional(),
  host: bounded(255).optional(),
  headers: pairs.optional(),
  attributes: pairs.optional(),
  descriptors: pairs.optional(),
  cost: z.int().min(1).max(MAX_COST).optional(),
  mode: z.enum(['consume', 'peek']).optional(),
  request_id: z
    .string()
    .regex(/^[\x21-\x7e]{1,128}$/)
    .optional(),
});

/** The body of POST /check. */
const plainRequestSchema = z.strictObject({ identifier: bounded(256), tier: bounded(63).optional() });

export type ParsedRequest = { readonly check: CheckRequest; readonly requestId: string | undefined };

/** A body that cannot be understood. */
export class BadRequest extends Error {
  override readonly name = 'BadRequest';
  readonly transient = false;
  readonly code: 'BODY_NOT_JSON' | 'BODY_TOO_LARGE' | 'BAD_FIELD';
  readonly problems: readonly Problem[];

  constructor(code: BadRequest['code'], message: string, problems: readonly Problem[] = []) {
    super(message);
    this.code = code;
    this.problems = problems;
  }
}

/** Throws BadRequest. */
export function parseDecisionRequest(body: string): ParsedRequest {
  const input = parseWith(decisionRequestSchema, body);
  const headers = toMap(input.headers, (name) => name.toLowerCase());
  return {
    requestId: input.request_id,
    check: {
      domain: input.domain,
      cost: input.cost,
      isPeek: input.mode === 'peek',
      isTrusted: true,
      peerIP: undefined,
      apiKey: input.api_key,
      consumer: input.consumer,
      tenant: input.tenant,
      tier: input.tier,
      context: {
        clientIP: input.ip,
        host: input.host === undefined ? undefined : hostOf(input.host),
        method: input.method?.toUpperCase(),
        path: input.path === undefined ? undefined : normalisePath(input.path),
        headers,
        attributes: toMap(input.attributes),
        descriptors: toMap(input.descriptors),
      },
    },
  };
}

/** Throws BadRequest. */
export function parsePlainRequest(body: string, domain: string): ParsedRequest {
  const input = parseWith(plainRequestSchema, body);
  return {
    requestId: undefined,
    check: {
      domain,
      cost: undefined,
      isPeek: false,
      isTrusted: true,
      peerIP: undefined,
      apiKey: undefined,
      consumer: input.identifier,
      tenant: undefined,
      tier: input.tier,
      context: {},
    },
  };
}

/** A host as policies name it: in lower case, without a port. */
export function hostOf(text: string): string {
  return text.toLowerCase().replace(/:[0-9]{1,5}$/, '');
}

function parseWith<S extends z.ZodType>(schema: S, body: string): z.output<S> {
  let value: unknown;
  try {
    value = JSON.parse(body);
  } catch {
    throw new BadRequest('BODY_NOT_JSON', 'the body is not valid JSON');
  }
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const problems = problemsOf(parsed.error, value, '');
  throw new BadRequest(
    'BAD_FIELD',
    'the body has fields that are not allowed as they are',
    problems.map((problem) => (problem.path === '' ? { ...problem, path: 'body' } : problem)),
  );
}

function toMap(
  record: Readonly<Record<string, string>> | undefined,
  nameOf: (name: string) => string = (name) => name,
): ReadonlyMap<string, string> | undefined {
  if (record === undefined) return undefined;
  const map = new Map<string, string>();
  for (const [name, value] of Object.entries(record)) map.set(nameOf(name), value);
  return map;
}
