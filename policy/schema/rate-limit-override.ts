import { z } from 'zod';
import { setList, text, withRules } from './cross-field.ts';
import { inForceStatus, isBefore, label, objectName, timestamp } from './fields.ts';
import { limits } from './limit.ts';
import { consumerId, tenantId } from './match.ts';

const subject = withRules(
  z.strictObject({
    consumer: consumerId
      .optional()
      .describe('A consumer, with the source of its identity: key:acme, caller:user:123, ip:203.0.113.9.'),
    tenant: tenantId.optional().describe('A tenant.'),
    clientIP: z
      .string()
      .max(49)
      .regex(/^[0-9A-Fa-f:.]{2,45}(\/[0-9]{1,3})?$/)
      .optional()
      .describe('The address of a client; an IPv6 address stands for the network that its domain counts by.'),
  }),
  [
    {
      cel: '(has(self.consumer) ? 1 : 0) + (has(self.tenant) ? 1 : 0) + (has(self.clientIP) ? 1 : 0) == 1',
      holds: ({ consumer, tenant, clientIP }) =>
        [consumer, tenant, clientIP].filter((value) => value !== undefined).length === 1,
      reason: 'NotOneSubject',
      message: 'exactly one of consumer, tenant and clientIP must be given',
    },
  ],
).describe('Whose requests: exactly one of consumer, tenant and clientIP.');

export const rateLimitOverrideSpec = withRules(
  z.strictObject({
    policyRef: z
      .strictObject({ name: objectName.describe('Name of a RateLimitPolicy in the namespace of this object.') })
      .describe('The policy whose limits are overridden.'),
    subject,
    rules: setList(label, { min: 1, max: 64 })
      .optional()
      .describe('Only these rules of the policy. Default: all of them and, for Exempt, the penalty too.'),
    action: z
      .enum(['Replace', 'Scale', 'Exempt', 'Block'])
      .describe(
        'Replace: other limits. Scale: a percentage of the limits. Exempt: the rules do not apply. Block: requests to which a rule applies are denied. Of several on one request the order is Block, Exempt, Replace, Scale, then the name.',
      ),
    limits: limits.optional().describe('The limits for Replace.'),
    percent: z
      .int()
      .min(1)
      .max(10_000)
      .optional()
      .describe(
        'What Scale leaves of every limit, in percent; at least 1 request, and never more than the algorithm can hold.',
      ),
    reason: text(256, 1).optional().describe('Why, for those who look.'),
    ticket: text(128, 1).optional().describe('Where this was decided.'),
    startsAt: timestamp.optional().describe('From then on it holds, by the clock of Redis. Default: at once.'),
    expiresAt: timestamp.describe('From then on it does not hold any more, whether or not the operator runs.'),
  }),
  [
    {
      cel: "has(self.limits) == (self.action == 'Replace')",
      holds: (spec) => (spec.limits !== undefined) === (spec.action === 'Replace'),
      reason: 'LimitsMismatch',
      message: 'limits are required for Replace and not allowed otherwise',
      path: ['limits'],
    },
    {
      cel: "has(self.percent) == (self.action == 'Scale')",
      holds: (spec) => (spec.percent !== undefined) === (spec.action === 'Scale'),
      reason: 'PercentMismatch',
      message: 'percent is required for Scale and not allowed otherwise',
      path: ['percent'],
    },
    {
      cel: '!has(self.startsAt) || self.startsAt < self.expiresAt',
      holds: (spec) => spec.startsAt === undefined || isBefore(spec.startsAt, spec.expiresAt),
      reason: 'ExpiresBeforeStart',
      message: 'expiresAt must be after startsAt',
      path: ['expiresAt'],
    },
  ],
).describe('Other limits for one subject, for a time.');

export const rateLimitOverrideStatus = z
  .strictObject(inForceStatus)
  .describe('Whether it holds, as acknowledged by the limiter pods.');

export type RateLimitOverrideSpec = z.output<typeof rateLimitOverrideSpec>;
export type OverrideAction = RateLimitOverrideSpec['action'];
