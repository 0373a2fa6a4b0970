import { z } from 'zod';
import { MAX_API_KEY_LENGTH } from '../../policy/api-key.ts';
import { parseIP } from '../../policy/ip.ts';
import { normalisePath } from '../../policy/path.ts';
import { problemsOf } from '../../policy/problems.ts';
import type { Problem } from '../../policy/resource.ts';
import { type Asked, hostOf } from '../asked.ts';
import { REQUEST_ID } from '../door.ts';

/** Above it no body is read. */
export const MAX_BODY_BYTES = 65_536;
export const MAX_BATCH_BYTES = 2_097_152;

export const MAX_BATCH = 1_000;

export const MAX_COST = 1_000_000;
export const MAX_PAIRS = 64;
/** Problems that an answer lists; whoever has more has them all for one reason. */
const MAX_PROBLEMS = 20;

/** Text that a request may carry: bounded, and well-formed, so that two different texts never have one UTF-8 form. */
function bounded(max: number, min = 1) {
  return z
    .string()
    .min(min)
    .max(max)
    .refine((value) => value.isWellFormed(), { error: 'must not contain half of a surrogate pair' });
}

// Counted first: to look at 100,000 pairs would keep everybody else waiting.
const pairs = z.preprocess(
  (value, context) => {
    if (typeof value !== 'object' || value === null || Object.keys(value).length <= MAX_PAIRS) return value;
    context.addIssue({ code: 'custom', message: `must have at most ${MAX_PAIRS} entries` });
    return z.NEVER;
  },
  z.record(bounded(64), bounded(8192, 0)),
);

export const METHOD = /^[A-Za-z][A-Za-z-]{0,15}$/;

const requestId = z.string().regex(REQUEST_ID);

/** The body of POST /v1/decision/check. */
export const decisionRequestSchema = z.strictObject({
  domain: bounded(253).describe('The protected API or service.'),
  api_key: bounded(MAX_API_KEY_LENGTH).optional().describe('The key that the client showed.'),
  consumer: bounded(256).optional().describe('Who asks, when you know it. Believed from trusted callers only.'),
  tenant: bounded(256).optional().describe('The tenant of the consumer. Believed from trusted callers only.'),
  tier: bounded(63).optional().describe('A tier of the domain. Believed from trusted callers only.'),
  ip: bounded(64)
    .refine((value) => parseIP(value) !== undefined, { error: 'must be an IPv4 or IPv6 address' })
    .optional()
    .describe('Address of the client. Believed from trusted callers only.'),
  method: z.string().regex(METHOD).optional().describe('HTTP method of the request.'),
  path: bounded(8192)
    .refine((value) => normalisePath(value) !== undefined, {
      error: 'must be a path that begins with "/" and has no broken escapes',
    })
    .optional()
    .describe('Path of the request; a query is ignored.'),
  host: bounded(255).optional().describe('Host that the request was sent to.'),
  headers: pairs.optional().describe('Headers that rules may look at.'),
  attributes: pairs.optional().describe('What else rules may look at, as attribute:NAME.'),
  descriptors: pairs.optional().describe('What else rules may look at, as descriptor:NAME.'),
  cost: z
    .int()
    .min(1)
    .max(MAX_COST)
    .optional()
    .describe('What the request takes. Default: what the rule says, else 1.'),
  mode: z.enum(['consume', 'peek']).optional().describe('peek: the same answer, and nothing is counted.'),
  refundable: z.boolean().optional().describe('Keep the charge for a minute, so that it can be given back.'),
  request_id: requestId
    .optional()
    .describe('Comes back in the answer. Default: the header X-Request-ID, else a new one.'),
});

/** The body of POST /v1/decision/batch. */
export const batchRequestSchema = z.strictObject({
  checks: z.array(decisionRequestSchema).min(1).max(MAX_BATCH).describe('Each as in POST /v1/decision/check.'),
});

/** The body of POST /v1/decision/refund. */
export const refundRequestSchema = z.strictObject({
  request_id: requestId.describe('Of a check whose answer said that it is refundable.'),
});

/** The body of POST /check. */
export const plainRequestSchema = z.strictObject({
  identifier: bounded(256).describe('Who asks.'),
  tier: bounded(63).optional().describe('A tier of the domain.'),
});

export type DecisionRequest = z.output<typeof decisionRequestSchema>;

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

/** Whoever sent a request, as far as the connection tells. */
export type Caller = { readonly peerIP: string | undefined; readonly isTrusted: boolean };

/** What a decision request asks. `requestId` is the one that it is answered with. */
export function toAsked(input: DecisionRequest, requestIdGiven: string, caller: Caller): Asked {
  const headers = toMap(input.headers, (name) => name.toLowerCase());
  return {
    domain: input.domain,
    cost: input.cost,
    isPeek: input.mode === 'peek',
    isTrusted: caller.isTrusted,
    peerIP: caller.peerIP,
    apiKey: input.api_key,
    consumer: input.consumer,
    tenant: input.tenant,
    tier: input.tier,
    refundId: input.refundable === true ? requestIdGiven : undefined,
    context: {
      clientIP: input.ip,
      method: input.method?.toUpperCase(),
      path: input.path === undefined ? undefined : normalisePath(input.path),
      host: input.host === undefined ? undefined : hostOf(input.host),
      headers,
      attributes: toMap(input.attributes),
      descriptors: toMap(input.descriptors),
    },
  };
}

/** What POST /check asks. */
export function toPlainAsked(input: z.output<typeof plainRequestSchema>, domain: string, caller: Caller): Asked {
  return {
    domain,
    cost: undefined,
    isPeek: false,
    isTrusted: caller.isTrusted,
    peerIP: caller.peerIP,
    apiKey: undefined,
    consumer: input.identifier,
    tenant: undefined,
    tier: input.tier,
    refundId: undefined,
    context: {},
  };
}

/** The body, as the schema has it. What `isFine` knows to be so is not looked at again. Throws BadRequest. */
export function parseWith<S extends z.ZodType>(
  schema: S,
  body: string,
  isFine?: (value: unknown) => value is z.output<S>,
): z.output<S> {
  let value: unknown;
  try {
    value = JSON.parse(body);
  } catch {
    throw new BadRequest('BODY_NOT_JSON', 'the body is not valid JSON');
  }
  if (isFine?.(value) === true) return value;
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  throw new BadRequest(
    'BAD_FIELD',
    'the body has fields that are not allowed as they are',
    whatIsWrong(parsed.error, value),
  );
}

function whatIsWrong(error: z.ZodError, value: unknown): Problem[] {
  error.issues.length = Math.min(error.issues.length, MAX_PROBLEMS);
  try {
    return problemsOf(error, value, '')
      .slice(0, MAX_PROBLEMS)
      .map((problem) => (problem.path === '' ? { ...problem, path: 'body' } : problem));
  } catch (cause) {
    // A value so deep that it cannot be printed.
    if (!(cause instanceof RangeError)) throw cause;
    return [{ path: 'body', reason: 'TooDeep', message: 'is nested too deeply' }];
  }
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
