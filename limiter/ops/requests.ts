import { z } from 'zod';

const text = (max: number) => z.string().min(1).max(max);

/** The body of POST /penalty/pardon. */
export const pardonRequestSchema = z.strictObject({
  domain: text(253),
  policy: text(320).describe('namespace/name of the policy whose penalty is lifted.'),
  subject: z
    .record(text(320), z.string().max(8192))
    .describe('The values of what the penalty counts by, such as {"consumer": "key:acme"}.'),
  reason: text(1024).optional().describe('For the log.'),
});

/** The query of GET /penalties. */
export const penaltiesQuerySchema = z.strictObject({
  domain: text(253),
  value: z.string().max(8192).optional().describe('Which partition, of a domain that has several.'),
  limit: z
    .string()
    .regex(/^[1-9][0-9]{0,3}$/)
    .transform(Number)
    .pipe(z.int().max(1_000))
    .optional(),
});

/** The query of GET /denied. */
export const deniedQuerySchema = z.strictObject({ domain: text(253) });
