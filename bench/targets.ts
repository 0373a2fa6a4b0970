import type { RateLimitPolicySpec } from '../policy/schema/rate-limit-policy.ts';
import type { Caller } from './callers.ts';
import { NAMESPACE, type NamedSpecs } from './publish-policies.ts';

export type TargetName = 'bare' | 'evalsha' | 'one-rule' | 'three-rules' | 'denied';

/** One thing that is measured: what is asked, and what a right answer is. */
export type Target = {
  readonly name: TargetName;
  /** The process that answers. */
  readonly server: 'bare' | 'evalsha' | 'limiter';
  readonly about: string;
  readonly path: string;
  readonly bodyOf: (caller: Caller) => Readonly<Record<string, string>>;
  /** Fields that every answer must have, with these values. */
  readonly expected: Readonly<Record<string, unknown>>;
  /** Keys in Redis that the first request of a new caller makes: each rule counts in one of its own. */
  readonly keysOfFirstRequest: number;
  /** The series of the limiter's metrics that counts these answers, and the only one that may grow. */
  readonly countedAs?: string;
};

type Rule = RateLimitPolicySpec['rules'][number];

/** Far above what any machine asks for: 100,000 a second for each subject. */
const PLENTY = [{ windowSeconds: 60, requests: 6_000_000 }];
/** One in a day: used up before anything is measured. */
const NOTHING_LEFT = [{ windowSeconds: 86_400, requests: 1 }];

const perConsumer: Omit<Rule, 'limits'> = { name: 'per-consumer', countBy: ['consumer'], algorithm: 'TokenBucket' };

export const POLICIES = {
  'one-rule': { rules: [{ ...perConsumer, limits: PLENTY }] },
  'three-rules': {
    rules: [
      { ...perConsumer, limits: PLENTY },
      { name: 'per-tenant', countBy: ['tenant'], algorithm: 'SlidingWindow', limits: PLENTY },
      {
        name: 'per-address-and-route',
        match: { methods: ['GET'], paths: [{ type: 'Prefix', value: '/v1' }] },
        countBy: ['clientIP', 'route'],
        algorithm: 'SlidingWindow',
        limits: PLENTY,
      },
    ],
  },
  denied: { rules: [{ ...perConsumer, limits: NOTHING_LEFT }] },
} as const satisfies NamedSpecs;

const consumerOnly = ({ consumer }: Caller): Record<string, string> => ({ consumer });

const ADMITTED = { action: 'ALLOW', allowed: true, reason: 'WITHIN_LIMIT' };
const DENIED = { action: 'THROTTLE', allowed: false, reason: 'RATE_LIMIT_EXCEEDED' };

export const TARGETS: readonly Target[] = [
  {
    name: 'bare',
    server: 'bare',
    about: 'node:http reads a JSON body and answers; no Redis',
    path: '/',
    bodyOf: consumerOnly,
    expected: { allowed: true },
    keysOfFirstRequest: 0,
  },
  {
    name: 'evalsha',
    server: 'evalsha',
    about: 'the same, with one unbatched EVALSHA of a token bucket per request',
    path: '/',
    bodyOf: consumerOnly,
    expected: { allowed: true },
    keysOfFirstRequest: 1,
  },
  ofLimiter('one-rule', ADMITTED, {
    about: 'the limiter, one token bucket by consumer',
    bodyOf: consumerOnly,
    keysOfFirstRequest: 1,
  }),
  ofLimiter('three-rules', ADMITTED, {
    about: 'the limiter, a token bucket and two sliding windows by consumer, tenant, address and route',
    bodyOf: (caller) => ({ ...caller, method: 'GET' }),
    keysOfFirstRequest: 3,
  }),
  ofLimiter('denied', DENIED, {
    about: 'the limiter, one token bucket that is empty',
    bodyOf: consumerOnly,
    keysOfFirstRequest: 1,
  }),
];

function ofLimiter(
  name: keyof typeof POLICIES,
  verdict: { readonly action: string; readonly reason: string },
  rest: Pick<Target, 'about' | 'bodyOf' | 'keysOfFirstRequest'>,
): Target {
  const domain = `${NAMESPACE}.${name}`;
  const policy = `${NAMESPACE}/${name}`;
  const labels = { domain, policy, action: verdict.action, reason: verdict.reason };
  const series = Object.entries(labels).map(([label, value]) => `${label}="${value}"`);
  return {
    ...rest,
    name,
    server: 'limiter',
    path: '/v1/decision/check',
    bodyOf: (caller) => ({ domain, ...rest.bodyOf(caller) }),
    expected: { ...verdict, policy },
    countedAs: `sluice_decisions_total{${series.join(',')}}`,
  };
}

/** What is wrong with an answer, undefined if nothing. */
export function problemWith(target: Target, answer: string): string | undefined {
  let fields: unknown;
  try {
    fields = JSON.parse(answer);
  } catch {
    return `not JSON: ${answer}`;
  }
  if (typeof fields !== 'object' || fields === null) return `not an object: ${answer}`;
  for (const [name, value] of Object.entries(target.expected)) {
    if (Reflect.get(fields, name) !== value) return `${name} should be ${JSON.stringify(value)}: ${answer}`;
  }
  return undefined;
}
