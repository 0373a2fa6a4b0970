import { z } from 'zod';
import { mapList, text, withRules } from './cross-field.ts';

/** Names of rules, tiers and the like. Gateways put rule names unescaped into headers, so they are DNS labels. */
export const label = z
  .string()
  .max(63)
  .regex(/^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/);

/** Dotted labels, as namespaces and domains have. */
export const domainName = z
  .string()
  .max(253)
  .regex(/^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/);

/** Names of objects of Kubernetes. */
export const objectName = domainName;

/** RFC 3339 with a zone. The pattern is narrower than the API server's own check, so that both accept the same. */
export const timestamp = withRules(
  z
    .string()
    .max(35)
    .regex(
      /^[0-9]{4}-[0-9]{2}-[0-9]{2}T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,9})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])$/,
    )
    .refine(isCalendarDate, { error: 'must be a date that exists' })
    .meta({ format: 'date-time' }),
  [
    {
      // The API server takes any list for a text that has a format; this rule makes it look at the value.
      cel: 'type(self) == google.protobuf.Timestamp',
      holds: () => true,
      reason: 'InvalidValue',
      message: 'must be a text',
    },
  ],
);

/** Date.parse rolls 30 February over to March: the day of the month is compared with what was written. */
function isCalendarDate(value: string): boolean {
  const midnight = new Date(`${value.slice(0, 10)}T00:00:00Z`);
  return !Number.isNaN(midnight.getTime()) && midnight.toISOString().slice(0, 10) === value.slice(0, 10);
}

/** Whether one time lies before another, to the nanosecond. Both are valid timestamps. */
export function isBefore(one: string, other: string): boolean {
  const seconds = Date.parse(one.replace(FRACTION, '')) - Date.parse(other.replace(FRACTION, ''));
  return seconds === 0 ? nanosOf(one) < nanosOf(other) : seconds < 0;
}

const FRACTION = /\.([0-9]{1,9})/;

function nanosOf(time: string): number {
  return Number((FRACTION.exec(time)?.[1] ?? '').padEnd(9, '0'));
}

/** Conditions as Kubernetes defines them; `lastTransitionTime` changes with `status` only. */
export const condition = z
  .strictObject({
    type: z.string().max(316).describe('Type of the condition.'),
    status: z.enum(['True', 'False', 'Unknown']).describe('True, False or Unknown.'),
    observedGeneration: z
      .int()
      .min(0)
      .max(Number.MAX_SAFE_INTEGER)
      .optional()
      .describe('Generation of the spec that this condition speaks of.'),
    lastTransitionTime: z.string().max(35).meta({ format: 'date-time' }).describe('When the status last changed.'),
    reason: z.string().max(1024).describe('Why, as one CamelCase word.'),
    message: text(32_768).describe('Why, as a sentence.'),
  })
  .describe('One aspect of the state of this object.');

export const conditions = mapList(condition, ['type'], { max: 16 }).describe(
  'Accepted, Enforced and Ready; Reconciling and Stalled while true.',
);

export const observedGeneration = z
  .int()
  .min(-1)
  .max(Number.MAX_SAFE_INTEGER)
  .describe('Generation of the spec that this status speaks of; -1 = none yet.');

const activeGeneration = z
  .int()
  .min(0)
  .max(Number.MAX_SAFE_INTEGER)
  .describe('Generation of the spec that is in force, the last good one; 0 = none.');

const revision = z
  .int()
  .min(0)
  .max(Number.MAX_SAFE_INTEGER)
  .describe('First published revision that contains activeGeneration.');

const podCounts = z
  .strictObject({
    ready: z.int().min(0).max(1_000_000).describe('Limiter pods that are ready.'),
    acknowledged: z.int().min(0).max(1_000_000).describe('Ready limiter pods that acknowledged the active generation.'),
  })
  .describe('Limiter pods as of the last change of Enforced; not touched by mere scaling.');

export const problems = z
  .array(
    z.strictObject({
      path: text(1024).describe('The field, as a path from the root of the object.'),
      reason: z.string().max(128).describe('What kind of problem, as one CamelCase word.'),
      message: text(2048).describe('What is wrong and what is allowed.'),
    }),
  )
  .max(32)
  .meta({ 'x-kubernetes-list-type': 'atomic' })
  .describe('What is wrong with the spec; at most the first 32.');

/** What the status of everything that pods load says. */
export const inForceStatus = {
  observedGeneration: observedGeneration.optional(),
  activeGeneration: activeGeneration.optional(),
  revision: revision.optional(),
  pods: podCounts.optional(),
  problems: problems.optional(),
  conditions: conditions.optional(),
};

export type Condition = z.output<typeof condition>;
export type PodCounts = z.output<typeof podCounts>;
export type Problem = z.output<typeof problems>[number];
