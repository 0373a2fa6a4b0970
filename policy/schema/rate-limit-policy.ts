import { z } from 'zod';
import { axis, mode } from './axis.ts';
import { mapList, setList, withRules } from './cross-field.ts';
import { conditions, domainName, label, observedGeneration, podCounts, problems } from './fields.ts';
import { penalty } from './penalty.ts';

/** Above it, capacity times window in microseconds would leave the range in which the scripts' numbers are exact. */
export const MAX_REQUEST_SECONDS = 9_007_199_254;

export const MAX_LIMITS_PER_REQUEST = 16;

/** A SlidingWindowLog keeps every admission of a window. */
const MAX_LOGGED = 1000;
const LOG_MESSAGE = `limits of a SlidingWindowLog must allow at most ${MAX_LOGGED} requests`;

function fitsLog(limits: readonly { readonly requests: number; readonly burst?: number | undefined }[]): boolean {
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

const limits = mapList(limit, ['windowSeconds'], { min: 1, max: 8 });

const tier = z
  .strictObject({
    name: label.describe('Name of the tier, as consumers and callers say it.'),
    default: z
      .boolean()
      .optional()
      .describe('Whether this tier serves those whose tier is not known. At most one tier says true.'),
    limits: limits.describe('Limits of this tier, at most one for each windowSeconds.'),
  })
  .describe('A named set of limits.');

const path = z
  .strictObject({
    type: z
      .enum(['Exact', 'Prefix', 'Template'])
      .describe(
        'Exact: the whole path. Prefix: the path and everything below it. Template: segments in braces, as in /users/{id}, match any one segment.',
      ),
    value: z
      .string()
      .max(256)
      .regex(/^\/([A-Za-z0-9_.~!$&'()*+,;=:@{}%-]+\/)*([A-Za-z0-9_.~!$&'()*+,;=:@{}%-]+)?$/)
      .describe('A path from the root, without a query.'),
  })
  .describe('A path that matches.');

const header = withRules(
  z.strictObject({
    name: z
      .string()
      .max(64)
      .regex(/^[a-z0-9-]+$/)
      .describe('Name of the header in lower case.'),
    type: z
      .enum(['Exact', 'Present', 'Absent'])
      .describe('Exact: the header has the value. Present: it has any. Absent: the request has no such header.'),
    value: z
      .string()
      .max(256)
      .regex(/^[ -~]*$/)
      .optional()
      .describe('The value for Exact, compared byte by byte.'),
  }),
  [
    {
      cel: "has(self.value) == (self.type == 'Exact')",
      holds: (matcher) => (matcher.value !== undefined) === (matcher.type === 'Exact'),
      reason: 'HeaderValueMismatch',
      message: 'value is required for Exact and not allowed otherwise',
      path: ['value'],
    },
  ],
).describe('A condition on a header.');

const match = z
  .strictObject({
    paths: mapList(path, ['type', 'value'], { min: 1, max: 16 }).optional().describe('Any of these paths.'),
    methods: setList(z.enum(['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS', 'CONNECT', 'TRACE']), {
      min: 1,
      max: 9,
    })
      .optional()
      .describe('Any of these methods. GET also matches HEAD.'),
    headers: mapList(header, ['name'], { min: 1, max: 8 }).optional().describe('All of these conditions on headers.'),
  })
  .describe(
    'Which requests the rule applies to: every kind of matcher that is given must match. Absent: every request of the domain.',
  );

const condition = z
  .strictObject({
    rule: label.describe('Name of a rule of this policy.'),
    outcome: z
      .enum(['Admitted', 'Denied', 'NotMatched'])
      .describe('NotMatched: it does not match, lacks an input, did not run, or is in shadow.'),
  })
  .describe('An outcome of another rule.');

const rule = withRules(
  z.strictObject({
    name: label.describe('Name of the rule inside its policy. Part of the identity of its counters.'),
    mode: mode.optional().describe('Shadow: the rule is judged and reported, and changes no answer. Default: Enforce.'),
    match: match.optional(),
    after: mapList(condition, ['rule', 'outcome'], { min: 1, max: 8 })
      .optional()
      .describe(
        'The rule runs if one of these outcomes holds. A denial that a rule waits for, and that it admits, is forgiven. Default: it runs.',
      ),
    countBy: setList(axis, { min: 1, max: 4 }).describe(
      'What shares one counter: consumer, tenant, clientIP, route, method, global, header:NAME, descriptor:KEY or attribute:KEY. A request that lacks one of these is not subject to the rule.',
    ),
    algorithm: z
      .enum(['TokenBucket', 'SlidingWindow', 'SlidingWindowLog'])
      .describe(
        'TokenBucket: a burst, then a steady rate. SlidingWindow: never more than the limit in any window, wherever it begins; capacity returns up to a tenth of the window late. SlidingWindowLog: the same without the delay, for limits of at most 1000.',
      ),
    failurePolicy: z
      .enum(['Open', 'Closed', 'LocalFallback'])
      .optional()
      .describe(
        'While Redis cannot decide. Open: the rule admits. Closed: it denies. LocalFallback: every limiter pod admits its share of the limits. The strictest of several rules wins. Default: LocalFallback.',
      ),
    limitsFrom: z
      .enum(['Tier'])
      .optional()
      .describe('Take the limits from the tier of the request. Exactly one of limits and limitsFrom.'),
    limits: limits.optional().describe('Limits of this rule for everyone. Exactly one of limits and limitsFrom.'),
  }),
  [
    {
      cel: 'has(self.limits) != has(self.limitsFrom)',
      holds: (value) => (value.limits === undefined) !== (value.limitsFrom === undefined),
      reason: 'LimitsAndLimitsFrom',
      message: 'exactly one of limits and limitsFrom must be given',
    },
    {
      cel: "!self.countBy.exists(a, a == 'global') || size(self.countBy) == 1",
      holds: (value) => !value.countBy.includes('global') || value.countBy.length === 1,
      reason: 'GlobalWithOtherAxes',
      message: 'global counts all requests together and stands alone',
      path: ['countBy'],
    },
    {
      cel: `self.algorithm != 'SlidingWindowLog' || !has(self.limits) || self.limits.all(l, (has(l.burst) ? l.burst : l.requests) <= ${MAX_LOGGED})`,
      holds: (value) => value.algorithm !== 'SlidingWindowLog' || fitsLog(value.limits ?? []),
      reason: 'LimitTooLargeForLog',
      message: LOG_MESSAGE,
      path: ['limits'],
    },
  ],
).describe('Which requests, counted by what, how many.');

export const rateLimitPolicySpec = withRules(
  z.strictObject({
    mode: mode
      .optional()
      .describe(
        'Shadow: all rules are judged together and reported, and change no answer; there is no penalty. Default: Enforce.',
      ),
    domain: domainName
      .optional()
      .describe(
        'The protected API or service: the namespace of this object, or the namespace, a dot and anything. Default: the namespace.',
      ),
    tiers: mapList(tier, ['name'], { min: 1, max: 16 })
      .optional()
      .describe('Limits by tier, for rules with limitsFrom: Tier.'),
    rules: mapList(rule, ['name'], { min: 1, max: 64 }).describe(
      'All rules that match a request apply together; a request that one of them denies is charged to none.',
    ),
    penalty: penalty.optional(),
  }),
  [
    {
      cel: '!has(self.tiers) || self.tiers.filter(t, has(t.default) && t.default).size() <= 1',
      holds: (spec) => (spec.tiers ?? []).filter((entry) => entry.default === true).length <= 1,
      reason: 'SeveralDefaultTiers',
      message: 'at most one tier may be the default',
      path: ['tiers'],
    },
    {
      cel: '!self.rules.exists(r, has(r.limitsFrom)) || (has(self.tiers) && self.tiers.exists(t, has(t.default) && t.default))',
      holds: (spec) =>
        spec.rules.every((entry) => entry.limitsFrom === undefined) ||
        (spec.tiers ?? []).some((entry) => entry.default === true),
      reason: 'NoDefaultTier',
      message: 'limitsFrom: Tier needs tiers, one of them the default',
      path: ['tiers'],
    },
    {
      cel: `!has(self.tiers) || !self.rules.exists(r, r.algorithm == 'SlidingWindowLog' && has(r.limitsFrom)) || self.tiers.all(t, t.limits.all(l, (has(l.burst) ? l.burst : l.requests) <= ${MAX_LOGGED}))`,
      holds: (spec) =>
        !spec.rules.some((entry) => entry.algorithm === 'SlidingWindowLog' && entry.limitsFrom !== undefined) ||
        (spec.tiers ?? []).every((entry) => fitsLog(entry.limits)),
      reason: 'LimitTooLargeForLog',
      message: LOG_MESSAGE,
      path: ['tiers'],
    },
  ],
).describe('What is limited, and how.');

export const rateLimitPolicyStatus = z
  .strictObject({
    observedGeneration: observedGeneration.optional(),
    activeGeneration: z
      .int()
      .min(0)
      .max(Number.MAX_SAFE_INTEGER)
      .optional()
      .describe('Generation of the spec that is enforced, the last good one; 0 = unprotected.'),
    revision: z
      .int()
      .min(0)
      .max(Number.MAX_SAFE_INTEGER)
      .optional()
      .describe('First published revision that contains activeGeneration.'),
    pods: podCounts.optional(),
    problems: problems.optional(),
    conditions: conditions.optional(),
  })
  .describe('What is enforced, as acknowledged by the limiter pods.');

export type RateLimitPolicySpec = z.output<typeof rateLimitPolicySpec>;
export type Limit = z.output<typeof limit>;
export type PathMatcher = z.output<typeof path>;
export type HeaderMatcher = z.output<typeof header>;
export type Match = z.output<typeof match>;
export type Rule = z.output<typeof rule>;
export type Algorithm = Rule['algorithm'];
export type FailurePolicy = NonNullable<Rule['failurePolicy']>;
export type Outcome = z.output<typeof condition>['outcome'];
