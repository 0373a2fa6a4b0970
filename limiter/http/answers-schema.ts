// What the endpoints answer, as schemas: for the API description, and for tests that hold real answers against them.
import { z } from 'zod';

const action = z.enum(['ALLOW', 'THROTTLE', 'BLOCK']);
const seconds = z.number().min(0).nullable();

export const decisionAnswerSchema = z
  .strictObject({
    action,
    allowed: z.boolean(),
    reason: z.string().describe('Why; the list of reasons is stable.'),
    triggered_by: z.string(),
    retry_after: seconds.describe('Seconds until the same request would pass; null if it passed, or never will.'),
    limit: z.int().nullable(),
    remaining: z.int().nullable(),
    reset_after: seconds.describe('Seconds until the limit is whole again.'),
    window_seconds: z.int().nullable(),
    strategy: z.enum(['token_bucket', 'sliding_window', 'sliding_window_log']).nullable(),
    tier: z.string().nullable(),
    mode: z.enum(['NORMAL', 'DEGRADED']).nullable(),
    policy: z.string().nullable().describe('namespace/name of the policy that the numbers are of.'),
    rule: z.string().nullable(),
    penalty: z.enum(['NORMAL', 'WARN', 'THROTTLE', 'TEMP_BLOCK', 'BLOCK']),
    shadow: z.array(z.string()).describe('Rules in shadow that would have denied, as policy/rule.'),
    revision: z.int().describe('Of the configuration that decided.'),
    request_id: z.string(),
    refundable: z.boolean().optional().describe('Whether the charge can be given back; only when that was asked for.'),
  })
  .meta({ title: 'Decision' });

export const batchAnswerSchema = z.strictObject({ decisions: z.array(decisionAnswerSchema) });

export const refundAnswerSchema = z.strictObject({ refunded: z.literal(true), request_id: z.string() });

export const plainAllowedSchema = z.strictObject({
  allowed: z.literal(true),
  tokens_remaining: z.int().nullable(),
  reset_at: z.int().nullable().describe('Seconds since 1970.'),
  limit: z.int().nullable(),
  retry_after: z.int().nullable(),
});

export const plainDeniedSchema = z.strictObject({
  detail: z.strictObject({
    allowed: z.literal(false),
    retry_after: z.int().nullable(),
    reset_at: z.int().nullable(),
    limit: z.int().nullable(),
  }),
});

export const plainBadSchema = z.strictObject({ detail: z.string() });

export const healthSchema = z.strictObject({
  status: z.enum(['ok', 'starting']),
  redis: z.enum(['ok', 'unreachable']),
  postgres: z.string(),
  revision: z.int(),
});

export const problemSchema = z
  .object({
    type: z.string(),
    title: z.string(),
    status: z.int(),
    code: z.string().describe('Stable, for programs.'),
    detail: z.string(),
    errors: z.array(z.strictObject({ field: z.string(), reason: z.string(), message: z.string() })).optional(),
    request_id: z.string(),
  })
  .meta({ title: 'Problem (RFC 9457)' });

const rlsStatus = z.strictObject({
  code: z.enum(['OK', 'OVER_LIMIT']),
  currentLimit: z
    .strictObject({ name: z.string(), requestsPerUnit: z.int().optional(), unit: z.string().optional() })
    .optional(),
  limitRemaining: z.int().optional(),
  durationUntilReset: z.string().optional(),
});

export const rlsAnswerSchema = z.strictObject({
  overallCode: z.enum(['OK', 'OVER_LIMIT']),
  statuses: z.array(rlsStatus),
  responseHeadersToAdd: z.array(z.strictObject({ key: z.string(), value: z.string() })).optional(),
  dynamicMetadata: z.record(z.string(), z.union([z.string(), z.number()])),
});

export const penaltiesSchema = z.strictObject({
  penalties: z.array(
    z.strictObject({
      subject: z.string().describe('Who it is: the policy, and the values that its penalty counts by.'),
      state: z.enum(['WARN', 'THROTTLE', 'TEMP_BLOCK', 'BLOCK']),
      ends_at: z.string().nullable().describe('null = until pardoned.'),
    }),
  ),
});

export const pardonAnswerSchema = z.strictObject({
  before: z.enum(['NORMAL', 'WARN', 'THROTTLE', 'TEMP_BLOCK', 'BLOCK']),
});

export const deniedSchema = z.strictObject({
  domain: z.string(),
  denied: z.array(
    z.strictObject({
      who: z.string(),
      denials: z.int(),
      uncertainty: z.int().describe('The true number is at least denials - uncertainty.'),
      last_reason: z.string(),
      last_at: z.string(),
    }),
  ),
});
