import { z } from 'zod';
import { mapList, withRules } from './cross-field.ts';

/** Above it, capacity times window in microseconds would leave the range in which the scripts' numbers are exact. */
export const MAX_REQUEST_SECONDS = 9_007_199_254;

/** A SlidingWindowLog keeps every admission of a window. */
export const MAX_LOGGED = 1000;
export const LOG_MESSAGE = `limits of a SlidingWindowLog must allow at most ${MAX_LOGGED} requests`;

export function fitsLog(
  limits: readonly { readonly requests: number; readonly burst?: number | undefined }[],
): boolean {
  return limits.every((entry) => (entry.burst ?? entry.requests) <= MAX_LOGGED);
}

const requests = z.int().min(1).max(MAX_REQUEST_SECONDS);

const limit = withRules(
  z.strictObject({
    windowSeconds: z
      .int()
      .min(1)
      .max(86_400)
      .describe(
        'Seconds over which the limit counts. Names the limit inside its rule: changing it starts a new counter.',
      ),
    requests: requests.describe('Requests per window. A TokenBucket refills at this rate.'),
    burst: requests
      .optional()
      .describe(
        'What may be taken at once: the depth of a TokenBucket, or the most in any trailing window of a SlidingWindow. Default: requests.',
      ),
    degraded: z
      .int()
      .min(0)
      .max(MAX_REQUEST_SECONDS)
      .optional()
      .describe(
        'Requests per window, without burst, while a SystemHealth declares DEGRADED. 0 sheds the load entirely. Default: requests.',
      ),
  }),
  [
    {
      cel: '!has(self.burst) || self.burst >= self.requests',
      holds: (value) => value.burst === undefined || value.burst >= value.requests,
      reason: 'BurstBelowRequests',
      message: 'burst must be at least requests',
      path: ['burst'],
    },
    {
      cel: '!has(self.degraded) || self.degraded <= self.requests',
      holds: (value) => value.degraded === undefined || value.degraded <= value.requests,
      reason: 'DegradedAboveRequests',
      message: 'degraded must be at most requests',
      path: ['degraded'],
    },
    {
      cel: `(has(self.burst) ? self.burst : self.requests) * self.windowSeconds <= ${MAX_REQUEST_SECONDS}`,
      holds: (value) => (value.burst ?? value.requests) * value.windowSeconds <= MAX_REQUEST_SECONDS,
      reason: 'LimitTooLarge',
      message: `the larger of requests and burst, times windowSeconds, must be at most ${MAX_REQUEST_SECONDS}`,
    },
  ],
).describe('Requests per window.');

export const limits = mapList(limit, ['windowSeconds'], { min: 1, max: 8 });

export type Limit = z.output<typeof limit>;
