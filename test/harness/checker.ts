import type { Redis } from 'ioredis';
import type { Document } from '../../policy/documents.ts';
import { buildSnapshot } from '../../policy/build-snapshot.ts';
import type { Snapshot } from '../../policy/snapshot.ts';
import { Checker, type CheckRequest } from '../../limiter/check.ts';
import { Identifier } from '../../limiter/identify.ts';
import { IPBlocks } from '../../limiter/ip-blocks.ts';
import { KeyCache } from '../../limiter/key-cache.ts';
import { LocalFallback } from '../../limiter/local-fallback.ts';
import { LimiterMetrics } from '../../limiter/metrics.ts';
import { SubjectBudget } from '../../limiter/subject-budget.ts';
import { RedisClock } from '../../store/clock.ts';
import { findConsumerKey } from '../../store/consumer-keys.ts';
import { Decider } from '../../store/decide.ts';
import { countInvalidKey } from '../../store/invalid-keys.ts';
import { createNames } from '../../store/names.ts';
import type { Script } from '../../store/script.ts';

export const INSTALLATION = 'checker';
export const OWNER = 'tests';
export const PEPPER = 'a pepper that is only for tests';

export type CheckerOptions = { readonly unknownDomain?: 'Allow' | 'Deny'; readonly script?: Script };

/** The way from request to decision without any door: on a real Redis, with no cache but that of keys. */
export function aChecker(redis: Redis, options: CheckerOptions = {}) {
  const names = createNames(INSTALLATION);
  const clock = new RedisClock();
  const monotonicMillis = (): number => performance.now();
  const blocked: string[] = [];
  const decider = new Decider(redis, names, clock, {
    deadlineMillis: 10_000,
    ...(options.script === undefined ? {} : { script: options.script }),
  });
  const checker = new Checker({
    decider,
    subjects: new SubjectBudget({ monotonicMillis, onOverflow: () => undefined }),
    identifier: new Identifier({
      keys: new KeyCache({ find: (name) => findConsumerKey(redis, names, OWNER, name), monotonicMillis }),
      peppers: [PEPPER],
    }),
    ipBlocks: new IPBlocks({
      count: (client, settings) => countInvalidKey(redis, names, client, settings),
      monotonicMillis,
      onBlock: (domain, clientIP) => void blocked.push(`${domain} ${clientIP}`),
    }),
    clock,
    metrics: new LimiterMetrics({
      revision: () => 1,
      isReady: () => true,
      isRedisReachable: () => true,
      inFlight: () => decider.inFlight,
      breaker: () => decider.breakerState,
      snapshotAgeSeconds: () => 0,
    }),
    fallback: new LocalFallback({ pods: () => 1, monotonicMillis }),
    unknownDomain: options.unknownDomain ?? 'Allow',
  });
  return { checker, clock, decider, blocked };
}

export function aSnapshot(documents: readonly Document[]): Snapshot {
  return buildSnapshot({ incarnation: 'first', epoch: 1, revision: 7, manifest: 'm' }, documents);
}

/** Of a trusted caller, about the consumer `caller:acme`. */
export function aCheck(request: Partial<CheckRequest> = {}): CheckRequest {
  return {
    domain: 'payments',
    cost: undefined,
    isPeek: false,
    isTrusted: true,
    peerIP: undefined,
    apiKey: undefined,
    consumer: 'acme',
    tenant: undefined,
    tier: undefined,
    context: {},
    ...request,
  };
}
