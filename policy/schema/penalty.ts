import { z } from 'zod';
import { axis, mode } from './axis.ts';
import { setList, withRules } from './cross-field.ts';

const violations = z.int().min(1).max(1_000_000);
const durationSeconds = z.int().min(1).max(31_536_000);

export const penalty = withRules(
  z.strictObject({
    mode: mode
      .optional()
      .describe('Shadow: the machine runs and is reported, and changes no answer. Default: Enforce.'),
    countBy: setList(axis, { min: 1, max: 4 }).describe('Who is punished: one state for each combination of these.'),
    tolerancePercent: z
      .int()
      .min(0)
      .max(1000)
      .optional()
      .describe(
        'How much denied traffic is no violation, in percent of the full limit: with 100, who offers less than about twice the limit is limited and never punished. 0: every denied second is a violation. Default: 100.',
      ),
    violationWindowSeconds: durationSeconds
      .optional()
      .describe('Seconds within which violations count together. Default: 600.'),
    minSecondsPerStep: z.int().min(0).max(86_400).optional().describe('Seconds between two steps up. Default: 10.'),
    warn: z
      .strictObject({
        violations: violations.describe('Violations that lead to WARN.'),
        forSeconds: durationSeconds.describe('Seconds without a violation after which it ends.'),
      })
      .optional()
      .describe('WARN: allowed answers say so. Absent: the state is skipped.'),
    throttle: z
      .strictObject({
        violations: violations.describe('Violations that lead to THROTTLE.'),
        forSeconds: durationSeconds.describe('Seconds without a violation after which it ends.'),
        limitPercent: z
          .int()
          .min(1)
          .max(100)
          .describe("What is left of every limit that counts by the penalty's axes, in percent."),
      })
      .optional()
      .describe('THROTTLE: limits are cut. Absent: the state is skipped.'),
    tempBlock: z
      .strictObject({
        violations: violations.describe('Violations that lead to TEMP_BLOCK.'),
        forSeconds: durationSeconds.describe('Seconds that it lasts; nothing extends it.'),
      })
      .optional()
      .describe('TEMP_BLOCK: every request is denied. Absent: the state is skipped, and so is BLOCK.'),
    block: z
      .strictObject({
        tempBlocks: z
          .int()
          .min(1)
          .max(1000)
          .describe('The temporary block of this number, within the time below, becomes BLOCK.'),
        withinSeconds: durationSeconds.describe('Seconds within which temporary blocks count together.'),
        forSeconds: z.int().min(0).max(31_536_000).describe('Seconds that it lasts. 0: until pardoned.'),
      })
      .optional()
      .describe('BLOCK: every request is denied for long. Absent: there is no such state.'),
  }),
  [
    {
      cel: 'has(self.warn) || has(self.throttle) || has(self.tempBlock)',
      holds: (value) => value.warn !== undefined || value.throttle !== undefined || value.tempBlock !== undefined,
      reason: 'NoPenaltyState',
      message: 'at least one of warn, throttle and tempBlock must be given',
    },
    {
      cel: '!has(self.block) || has(self.tempBlock)',
      holds: (value) => value.block === undefined || value.tempBlock !== undefined,
      reason: 'BlockWithoutTempBlock',
      message: 'block needs tempBlock',
      path: ['block'],
    },
    {
      cel: '!(has(self.warn) && has(self.throttle)) || self.warn.violations < self.throttle.violations',
      holds: ({ warn, throttle }) =>
        warn === undefined || throttle === undefined || warn.violations < throttle.violations,
      reason: 'ThresholdsDoNotRise',
      message: 'throttle.violations must be above warn.violations',
      path: ['throttle', 'violations'],
    },
    {
      cel: '!(has(self.throttle) && has(self.tempBlock)) || self.throttle.violations < self.tempBlock.violations',
      holds: ({ throttle, tempBlock }) =>
        throttle === undefined || tempBlock === undefined || throttle.violations < tempBlock.violations,
      reason: 'ThresholdsDoNotRise',
      message: 'tempBlock.violations must be above throttle.violations',
      path: ['tempBlock', 'violations'],
    },
    {
      cel: '!(has(self.warn) && has(self.tempBlock)) || self.warn.violations < self.tempBlock.violations',
      holds: ({ warn, tempBlock }) =>
        warn === undefined || tempBlock === undefined || warn.violations < tempBlock.violations,
      reason: 'ThresholdsDoNotRise',
      message: 'tempBlock.violations must be above warn.violations',
      path: ['tempBlock', 'violations'],
    },
    {
      cel: "!self.countBy.exists(a, a == 'global')",
      holds: (value) => !value.countBy.includes('global'),
      reason: 'GlobalPenalty',
      message: 'a penalty is for somebody: global is not allowed',
      path: ['countBy'],
    },
  ],
).describe('What happens to those who keep ignoring their limits.');

export type Penalty = z.output<typeof penalty>;
