import { z } from 'zod';
import { mapList, setList } from './cross-field.ts';
import { conditions, label, objectName, observedGeneration, problems } from './fields.ts';
import { limits } from './limit.ts';
import { tenantId } from './match.ts';

const secretRef = z
  .strictObject({
    name: objectName.describe('Name of a Secret in the namespace of this object, labelled sluice.dev/api-key.'),
    key: z
      .string()
      .min(1)
      .max(253)
      .regex(/^[-._a-zA-Z0-9]+$/)
      .describe('Key in the data of the Secret whose value is an API key.'),
  })
  .describe('An API key in a Secret.');

const negotiated = z
  .strictObject({
    policy: objectName.describe('Name of a RateLimitPolicy in the namespace of this object.'),
    rule: label.describe('Name of a rule of that policy.'),
    limits: limits.describe('Limits that hold for this consumer instead of those of the rule; not more of them.'),
  })
  .describe('Limits that were agreed with this consumer for one rule.');

export const consumerSpec = z
  .strictObject({
    id: z
      .string()
      .min(1)
      .max(128)
      .regex(/^[A-Za-z0-9][A-Za-z0-9._:@-]*$/)
      .optional()
      .describe('Who is limited; counters and answers name it "key:" and this id. Default: the name of this object.'),
    tier: label.optional().describe('Tier of the consumer. Default: the default tier of the policy.'),
    tenant: tenantId.optional().describe('Tenant of the consumer. Default: what a trusted caller says.'),
    apiKeyHashes: setList(z.string().regex(/^sha256:[0-9a-f]{64}$/), { max: 16 })
      .optional()
      .describe(
        '"sha256:" and the SHA-256 of each API key of the consumer in lower-case hex. Keys themselves are stored nowhere.',
      ),
    apiKeySecretRefs: mapList(secretRef, ['name', 'key'], { min: 1, max: 16 })
      .optional()
      .describe('API keys in Secrets, where the operator is allowed to read those of this namespace.'),
    limits: mapList(negotiated, ['policy', 'rule'], { min: 1, max: 32 })
      .optional()
      .describe('Limits that were agreed with this consumer, for good.'),
    state: z
      .enum(['Active', 'Disabled'])
      .optional()
      .describe('Disabled: the keys of this consumer are as unknown ones. Default: Active.'),
  })
  .describe(
    'Who calls, by which API keys, in which tier. Valid for the domains of its namespace and for those granted to it.',
  );

export const consumerStatus = z
  .strictObject({
    observedGeneration: observedGeneration.optional(),
    problems: problems.optional(),
    conditions: conditions.optional(),
  })
  .describe('Whether the limiter pods know this consumer.');

export type ConsumerSpec = z.output<typeof consumerSpec>;
