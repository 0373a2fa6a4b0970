import { z } from 'zod';
import { setList, text, withRules } from './cross-field.ts';
import { domainName, inForceStatus, label, timestamp } from './fields.ts';
import { labelSelector } from './label-selector.ts';

export const systemHealthSpec = withRules(
  z.strictObject({
    mode: z.enum(['NORMAL', 'DEGRADED']).describe('NORMAL, or DEGRADED: limits fall to their degraded value.'),
    reason: text(256, 1).optional().describe('Why, for those who look. Required unless NORMAL.'),
    expiresAt: timestamp
      .optional()
      .describe(
        'From then on this object counts as NORMAL. Every limiter pod honours it on its own, by the clock of Redis.',
      ),
    scope: z
      .strictObject({
        domains: setList(domainName, { min: 1, max: 64 }).optional().describe('Only these domains. Default: all.'),
        policySelector: labelSelector
          .optional()
          .describe('Only policies whose labels are selected by this. Default: all.'),
        tiers: setList(label, { min: 1, max: 16 }).optional().describe('Only requests of these tiers. Default: all.'),
      })
      .optional()
      .describe('What is degraded. Default: everything.'),
  }),
  [
    {
      cel: "self.mode == 'NORMAL' || has(self.reason)",
      holds: (spec) => spec.mode === 'NORMAL' || spec.reason !== undefined,
      reason: 'ReasonMissing',
      message: 'reason is required unless mode is NORMAL',
      path: ['reason'],
    },
  ],
).describe(
  'The declared health of the system. While any object that covers a policy says DEGRADED, the policy is degraded.',
);

export const systemHealthStatus = z
  .strictObject({
    ...inForceStatus,
    effectiveMode: z
      .enum(['NORMAL', 'DEGRADED'])
      .optional()
      .describe('The mode in force: NORMAL once expiresAt has passed.'),
    since: z.string().max(35).meta({ format: 'date-time' }).optional().describe('When effectiveMode last changed.'),
    affectedPolicies: z
      .int()
      .min(0)
      .max(Number.MAX_SAFE_INTEGER)
      .optional()
      .describe('Policies that are degraded by this object now.'),
    history: z
      .array(
        z.strictObject({
          mode: z.enum(['NORMAL', 'DEGRADED']).describe('The mode that came into force.'),
          at: z.string().max(35).meta({ format: 'date-time' }).describe('When.'),
          reason: text(256).optional().describe('The reason that was declared with it.'),
        }),
      )
      .max(10)
      .meta({ 'x-kubernetes-list-type': 'atomic' })
      .optional()
      .describe('The last 10 changes of effectiveMode, the newest first.'),
  })
  .describe('What is in force, as acknowledged by the limiter pods.');

export type SystemHealthSpec = z.output<typeof systemHealthSpec>;
export type HealthMode = SystemHealthSpec['mode'];
