import { z } from 'zod';
import { setList, withRules } from './cross-field.ts';

const labelKey = z
  .string()
  .min(1)
  .max(317)
  .regex(/^([a-z0-9.-]{1,253}\/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$/);

const labelValue = z
  .string()
  .max(63)
  .regex(/^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$/);

const expression = withRules(
  z.strictObject({
    key: labelKey.describe('Key of the label.'),
    operator: z
      .enum(['In', 'NotIn', 'Exists', 'DoesNotExist'])
      .describe('In and NotIn compare the value; an object without the label is NotIn.'),
    values: setList(labelValue, { min: 1, max: 16 }).optional().describe('Values for In and NotIn.'),
  }),
  [
    {
      cel: "has(self.values) == (self.operator == 'In' || self.operator == 'NotIn')",
      holds: (value) => (value.values !== undefined) === (value.operator === 'In' || value.operator === 'NotIn'),
      reason: 'SelectorValuesMismatch',
      message: 'values are required for In and NotIn and not allowed otherwise',
      path: ['values'],
    },
  ],
).describe('A condition on one label.');

/** As selectors of Kubernetes: all of matchLabels and all of matchExpressions. */
export const labelSelector = z
  .strictObject({
    matchLabels: z
      .record(z.string(), labelValue)
      .refine((labels) => Object.keys(labels).length <= 16, { error: 'must have at most 16 labels' })
      .meta({ maxProperties: 16 })
      .optional()
      .describe('Labels with these values.'),
    matchExpressions: z
      .array(expression)
      .max(16)
      .meta({ 'x-kubernetes-list-type': 'atomic' })
      .optional()
      .describe('Conditions on labels.'),
  })
  .describe('A selector of labels; everything that is given must hold.');

export type LabelSelector = z.output<typeof labelSelector>;

/** Whether a selector selects an object with these labels. */
export function selects(selector: LabelSelector, labels: Readonly<Record<string, string>>): boolean {
  const valueOf = (key: string): string | undefined => (Object.hasOwn(labels, key) ? labels[key] : undefined);
  const hasLabels = Object.entries(selector.matchLabels ?? {}).every(([key, value]) => valueOf(key) === value);
  return hasLabels && (selector.matchExpressions ?? []).every((condition) => meets(condition, valueOf(condition.key)));
}

function meets({ operator, values }: z.output<typeof expression>, value: string | undefined): boolean {
  switch (operator) {
    case 'In':
      return value !== undefined && values?.includes(value) === true;
    case 'NotIn':
      return value === undefined || values?.includes(value) !== true;
    case 'Exists':
      return value !== undefined;
    case 'DoesNotExist':
      return value === undefined;
  }
}
