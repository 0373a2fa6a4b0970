import { z } from 'zod';
import { setList } from './cross-field.ts';
import { conditions, label, observedGeneration, problems } from './fields.ts';

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
    apiKeyHashes: setList(z.string().regex(/^sha256:[0-9a-f]{64}$/), { max: 16 })
      .optional()
      .describe(
        '"sha256:" and the SHA-256 of each API key of the consumer in lower-case hex. Keys themselves are stored nowhere.',
      ),
  })
  .describe('Who calls, by which API keys, in which tier. Valid for the domains of its namespace.');

export const consumerStatus = z
  .strictObject({
    observedGeneration: observedGeneration.optional(),
    problems: problems.optional(),
    conditions: conditions.optional(),
  })
  .describe('Whether the limiter pods know this consumer.');

export type ConsumerSpec = z.output<typeof consumerSpec>;
