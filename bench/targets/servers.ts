// The comparison servers and the limiters under load.
import { callers, type Caller } from '../callers.ts';
import type { ServerName } from '../servers.ts';
import { MANY_POLICIES, NAMESPACE, nameOfPolicy } from '../worlds.ts';
import { type LoadSpec, loadTarget } from './load-target.ts';
import { type Ask, askExpress, askFloor, authz, batch, check, domainOf, grpc } from './requests.ts';
import type { Target } from './target.ts';

const ADMITTED = { action: 'ALLOW', reason: 'WITHIN_LIMIT' };
const DENIED = { action: 'THROTTLE', reason: 'RATE_LIMIT_EXCEEDED' };
/** Consumers, each of which may be a partition of its own. */
const PARTITIONS = 1_000;
/** One policy of many, neither first nor last. */
const ONE_OF_MANY = MANY_POLICIES / 2;
const ROUTE = `/v1/service-${ONE_OF_MANY}/items`;

const consumerOnly = ({ consumer }: Caller): object => ({ consumer });
const everything = ({ consumer, tenant, ip, path }: Caller): object => ({ consumer, tenant, ip, path, method: 'GET' });
const withKey = ({ apiKey, ip, path }: Caller): object => ({ api_key: apiKey, ip, path, method: 'GET' });
const onRoute = ({ consumer }: Caller): object => ({ consumer, path: ROUTE });

const floor = (name: string, about: string, server: ServerName, ask = askFloor): LoadSpec => ({
  name,
  about,
  servers: [server],
  ask,
  fragments: ['"allowed":true'],
  ...(server === 'bare' && { keysOfFirstRequest: 0 }),
});

/** A limiter that answers checks of the policy of this name. */
export function limiter(
  name: string,
  about: string,
  more: Partial<LoadSpec> & { readonly policy: string; readonly domain?: string; readonly verdict?: typeof ADMITTED },
): LoadSpec {
  const { policy, domain = domainOf(policy), verdict = ADMITTED, ...rest } = more;
  return {
    name,
    about,
    servers: ['limiter'],
    ask: check(policy, consumerOnly, domain),
    fragments: [`"action":"${verdict.action}"`, `"reason":"${verdict.reason}"`, `"policy":"${NAMESPACE}/${policy}"`],
    countedAs: { domain, policy: `${NAMESPACE}/${policy}`, ...verdict },
    ...rest,
  };
}

export const EVALSHA = floor('evalsha', 'the same, with one unbatched EVALSHA of a token bucket', 'evalsha');

export const ONE_RULE = limiter('one-rule', 'the limiter: one token bucket by consumer', { policy: 'one-rule' });

const one = { policy: 'one-rule' } as const;
/** 400 decisions under way: more would only wait. */
export const BATCH_CONNECTIONS = 4;

/** Field 1 of an answer, the code: 1 = OK. */
const OVER_GRPC = { protocol: 'grpc', fragments: ['0801'] } as const;

const rival = (name: 'envoy-ratelimit' | 'envoy-ratelimit-tuned', about: string): LoadSpec => ({
  name,
  about,
  servers: [name],
  ask: grpc('one-rule'),
  ...OVER_GRPC,
});

const batchOfOneRule: Ask = batch(domainOf('one-rule'), callers());

const SPECS: readonly LoadSpec[] = [
  floor('bare', 'node:http reads a JSON body and answers; no Redis', 'bare'),
  EVALSHA,
  { ...ONE_RULE, keysOfFirstRequest: 1 },
  limiter('three-rules', 'a token bucket, two sliding windows: consumer, tenant, address and route', {
    policy: 'three-rules',
    ask: check('three-rules', everything),
    keysOfFirstRequest: 3,
  }),
  limiter('full', 'an API key, those three rules, and a penalty', {
    policy: 'full',
    ask: check('full', withKey),
    keysOfFirstRequest: 3,
  }),
  limiter('sixteen-limits', 'four rules with four windows each', {
    policy: 'sixteen-limits',
    ask: check('sixteen-limits', everything),
    keysOfFirstRequest: 4,
  }),
  limiter('denied', 'one empty token bucket: most denials are remembered', {
    policy: 'denied',
    verdict: DENIED,
    keysOfFirstRequest: 1,
    isPrimed: true,
  }),
  limiter('batch', 'one rule, 100 checks in each request', {
    ...one,
    ask: batchOfOneRule,
    decisionsPerRequest: 100,
    connections: BATCH_CONNECTIONS,
  }),
  { ...limiter('grpc', 'one rule, over gRPC (Envoy RLS)', { ...one, ask: grpc('one-rule') }), ...OVER_GRPC },
  rival('envoy-ratelimit', 'envoyproxy/ratelimit as it comes: the same rule, asked the same'),
  rival('envoy-ratelimit-tuned', 'the same, with the REDIS_PIPELINE_WINDOW that its manual advises'),
  // The same sender as gRPC's: what it costs itself must not be part of the ratio.
  { ...ONE_RULE, name: 'one-rule-own', about: 'one rule over HTTP, sent by the sender of gRPC', sender: 'own' },
  limiter('authz', 'one rule by address, over /authz', { ...one, ask: authz('one-rule'), fragments: [] }),
  limiter('route', 'one policy in its domain, matched by path', {
    policy: 'route',
    ask: check('route', onRoute),
    keysOfFirstRequest: 1,
  }),
  limiter('domains-10k', '10,000 domains with a policy each', {
    policy: nameOfPolicy(ONE_OF_MANY),
    servers: ['limiter-domains'],
    keysOfFirstRequest: 1,
  }),
  limiter('policies-10k', '10,000 policies in one domain, matched by path', {
    policy: nameOfPolicy(ONE_OF_MANY),
    domain: `${NAMESPACE}.crowded`,
    servers: ['limiter-one-domain'],
    ask: check(nameOfPolicy(ONE_OF_MANY), onRoute, `${NAMESPACE}.crowded`),
    keysOfFirstRequest: 1,
  }),
  limiter('subjects-10', 'one rule, 10 consumers', { policy: 'lasting', subjects: 10, keysOfFirstRequest: 1 }),
  limiter('two-limiters', 'one rule, two limiters', { ...one, servers: ['limiter', 'limiter-2'] }),
  limiter('four-limiters', 'one rule, four limiters', {
    ...one,
    servers: ['limiter', 'limiter-2', 'limiter-3', 'limiter-4'],
  }),
  floor('express-bare', 'an Express application that limits nobody', 'express-bare', askExpress),
  floor('express-evalsha', 'the same, with a middleware that does one EVALSHA', 'express-evalsha', askExpress),
  limiter('middleware', 'the same, with our middleware in front of the limiter: one rule', {
    ...one,
    servers: ['express-sluice'],
    behind: ['limiter'],
    ask: askExpress,
    fragments: ['"allowed":true'],
  }),
  { ...floor('evalsha-cluster', 'the comparison server on a Redis Cluster', 'evalsha-cluster'), subjects: PARTITIONS },
  limiter('cluster-1', 'one rule on that Cluster, all consumers in one partition', {
    policy: 'one-partition',
    servers: ['limiter-cluster'],
    subjects: PARTITIONS,
    keysOfFirstRequest: 1,
  }),
  limiter('cluster-1000', 'the same, each consumer in a partition of its own', {
    policy: 'partitioned',
    servers: ['limiter-cluster'],
    subjects: PARTITIONS,
    keysOfFirstRequest: 1,
  }),
  floor('evalsha-1ms', 'the comparison server, Redis 1 ms away', 'evalsha-1ms'),
  limiter('one-rule-1ms', 'one rule, Redis 1 ms away', { ...one, servers: ['limiter-1ms'] }),
  floor('evalsha-5ms', 'the comparison server, Redis 5 ms away', 'evalsha-5ms'),
  limiter('one-rule-5ms', 'one rule, Redis 5 ms away', { ...one, servers: ['limiter-5ms'] }),
];

export const LOAD_TARGETS: readonly Target[] = SPECS.map(loadTarget);
