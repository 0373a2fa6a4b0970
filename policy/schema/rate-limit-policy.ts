import { z } from 'zod';
import { axis, mode } from './axis.ts';
import { mapList, setList, withRules } from './cross-field.ts';
import { domainName, inForceStatus, label } from './fields.ts';
import { fitsLog, limits, LOG_MESSAGE, MAX_LOGGED } from './limit.ts';
import { match } from './match.ts';
import { penalty } from './penalty.ts';

export const MAX_LIMITS_PER_REQUEST = 16;

/** What one request may take from a limit at most. */
export const MAX_COST = 1_000_000;

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

const hits = z.int().min(1).max(MAX_COST);

const cost = withRules(
  z.strictObject({
    default: hits.optional().describe('What a request takes that says nothing else. Default: 1.'),
    header: z
      .string()
      .max(64)
      .regex(/^[a-z0-9-]+$/)
      .optional()
      .describe(
        'Header that says what the request takes, believed from trusted callers only. A value below the default is raised to it, and one that is no whole number counts as the default.',
      ),
    max: hits
      .optional()
      .describe('What a request takes at most, whatever its header or its caller says. Default: 1000000.'),
  }),
  [
    {
      cel: '!has(self.max) || (has(self.default) ? self.default : 1) <= self.max',
      holds: (value) => value.max === undefined || (value.default ?? 1) <= value.max,
      reason: 'CostMaxBelowDefault',
      message: 'max must be at least default',
      path: ['max'],
    },
  ],
).describe('How much one request takes from each limit of the rule.');

const exemption = z
  .strictObject({
    name: label.describe('Name of the exemption, as explanations say it.'),
    match: match.describe('Which requests are exempt: every kind of matcher that is given must match.'),
  })
  .describe('Requests that this policy leaves alone.');

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
    enforcePercent: z
      .int()
      .min(0)
      .max(100)
      .optional()
      .describe(
        'Enforce the rule for this part of its subjects, chosen by a stable hash; for the others it is in shadow. Default: 100.',
      ),
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
    cost: cost.optional(),
    headers: z
      .enum(['Show', 'Hide'])
      .optional()
      .describe('Whether response headers and answers may speak of the limits of this rule. Default: Show.'),
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
      cel: "!has(self.enforcePercent) || !has(self.mode) || self.mode != 'Shadow'",
      holds: (value) => value.enforcePercent === undefined || value.mode !== 'Shadow',
      reason: 'EnforcePercentInShadow',
      message: 'a rule in Shadow enforces nothing: leave out enforcePercent or the mode',
      path: ['enforcePercent'],
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
        'The protected API or service: the namespace of this object, the namespace, a dot and anything, or a domain that a RateLimitDomain grants to this namespace. Default: the namespace.',
      ),
    tiers: mapList(tier, ['name'], { min: 1, max: 16 })
      .optional()
      .describe('Limits by tier, for rules with limitsFrom: Tier.'),
    exemptions: mapList(exemption, ['name'], { min: 1, max: 16 })
      .optional()
      .describe(
        'Requests that none of the rules apply to, and that the penalty lets pass. Those that ask nothing about who calls are looked at before identity, so that a probe needs none.',
      ),
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
  .strictObject(inForceStatus)
  .describe('What is enforced, as acknowledged by the limiter pods.');

export type RateLimitPolicySpec = z.output<typeof rateLimitPolicySpec>;
export type Exemption = z.output<typeof exemption>;
export type Rule = z.output<typeof rule>;
export type Algorithm = Rule['algorithm'];
export type FailurePolicy = NonNullable<Rule['failurePolicy']>;
export type Outcome = z.output<typeof condition>['outcome'];
