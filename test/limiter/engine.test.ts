import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { RateLimitPolicySpec, Rule } from '../../policy/schema/rate-limit-policy.ts';
import { listPods } from '../../store/acknowledgements.ts';
import { eventually } from '../harness/eventually.ts';
import { type Json, PEPPER, startTestLimiter, targetOn, type TestLimiter, untilRevision } from '../harness/limiter.ts';
import { aPolicy, publishEntries, publishKeys } from '../harness/publish.ts';
import { type PrivateRedis, privateRedis } from '../harness/redis.ts';

const HOUR = 3_600;

let server: PrivateRedis;
const started: TestLimiter[] = [];

beforeEach(async () => {
  server = await privateRedis();
});
afterEach(async () => {
  await Promise.all(started.splice(0).map((limiter) => limiter.stop()));
  await server.stop();
});

function aRule(name: string, requests: number, extra: Partial<Rule> = {}): Rule {
  return {
    name,
    countBy: ['consumer'],
    algorithm: 'SlidingWindow',
    limits: [{ windowSeconds: HOUR, requests }],
    ...extra,
  };
}

/** Limiters of this policy, each a pod of its own. */
async function limitersOf(spec: RateLimitPolicySpec, count = 1): Promise<TestLimiter[]> {
  await publishEntries(targetOn(server), [aPolicy(spec)]);
  const limiters: TestLimiter[] = [];
  for (let i = 0; i < count; i += 1) {
    const limiter = await startTestLimiter({ redisUrl: server.url, pod: `pod-${i}` });
    started.push(limiter);
    limiters.push(limiter);
    await untilRevision(limiter, 1);
  }
  return limiters;
}

async function limiterOf(spec: RateLimitPolicySpec): Promise<TestLimiter> {
  const [limiter] = await limitersOf(spec);
  if (limiter === undefined) throw new Error('no limiter was started');
  return limiter;
}

const ask = async (limiter: TestLimiter, body: Json = {}): Promise<Json> =>
  (await limiter.check({ domain: 'payments', consumer: 'alice', ...body })).body;

async function reasons(limiter: TestLimiter, times: number, body: Json = {}): Promise<unknown[]> {
  const answers: unknown[] = [];
  for (let i = 0; i < times; i += 1) answers.push((await ask(limiter, body))['reason']);
  return answers;
}

/** Redis is gone, and the limiter has noticed. */
async function withoutRedis(limiters: readonly TestLimiter[]): Promise<void> {
  await server.stopServer();
  for (const limiter of limiters) {
    await eventually(async () =>
      expect((await ask(limiter, { consumer: 'probe' }))['triggered_by']).toBe('FailurePolicy'),
    );
  }
}

describe('a rule in shadow', () => {
  it('changes no answer, and is named when it would have', async () => {
    const limiter = await limiterOf({ rules: [aRule('enforced', 3), aRule('trial', 1, { mode: 'Shadow' })] });
    expect(await reasons(limiter, 4)).toEqual([
      'WITHIN_LIMIT',
      'SHADOW_DENIED',
      'SHADOW_DENIED',
      'RATE_LIMIT_EXCEEDED',
    ]);
    expect(await ask(limiter, { consumer: 'bob' })).toMatchObject({ shadow: [], limit: 3 });
    expect(await ask(limiter, { consumer: 'bob' })).toMatchObject({ allowed: true, shadow: ['payments/policy/trial'] });
  });

  it('limits nobody when the whole policy is', async () => {
    const limiter = await limiterOf({ mode: 'Shadow', rules: [aRule('one', 1)] });
    expect(await reasons(limiter, 3)).toEqual(['WITHIN_LIMIT', 'SHADOW_DENIED', 'SHADOW_DENIED']);
  });
});

describe('a rule that waits for the denial of another', () => {
  it('forgives it for as long as it admits itself', async () => {
    const pool = aRule('pool', 2, { countBy: ['global'], after: [{ rule: 'own', outcome: 'Denied' }] });
    const limiter = await limiterOf({ rules: [pool, aRule('own', 2)] });
    const answers = [];
    for (let i = 0; i < 5; i += 1) answers.push((await ask(limiter))['allowed']);
    expect(answers).toEqual([true, true, true, true, false]);
    expect(await ask(limiter, { consumer: 'bob' })).toMatchObject({ allowed: true, rule: 'own' });
    expect(await ask(limiter, { consumer: 'bob', cost: 2 })).toMatchObject({ allowed: false });
  });
});

describe('a rule that runs as another does not apply', () => {
  it('forgives the denial of a third that it waits for, with Redis and without', async () => {
    const never = aRule('never', 1, { match: { methods: ['DELETE'] } });
    const after: Rule['after'] = [
      { rule: 'never', outcome: 'NotMatched' },
      { rule: 'own', outcome: 'Denied' },
    ];
    const limiter = await limiterOf({
      rules: [never, aRule('own', 1), aRule('pool', 3, { countBy: ['global'], after })],
    });
    const request = { method: 'GET' };
    const answers = async (): Promise<unknown[]> => {
      const allowed = [];
      for (let i = 0; i < 4; i += 1) allowed.push((await ask(limiter, request))['allowed']);
      return allowed;
    };
    expect(await answers()).toEqual([true, true, true, false]);
    await withoutRedis([limiter]);
    expect(await ask(limiter, request)).toMatchObject({ allowed: true, reason: 'LOCAL_FALLBACK' });
    expect(await ask(limiter, request)).toMatchObject({ allowed: true, reason: 'LOCAL_FALLBACK' });
  });
});

describe('a penalty', () => {
  it('leads from a limit to a block, which says when it ends', async () => {
    const penalty = {
      countBy: ['consumer'],
      tolerancePercent: 0,
      minSecondsPerStep: 0,
      tempBlock: { violations: 1, forSeconds: 600 },
    };
    const limiter = await limiterOf({ rules: [aRule('own', 1)], penalty });
    expect(await reasons(limiter, 3)).toEqual(['WITHIN_LIMIT', 'RATE_LIMIT_EXCEEDED', 'PENALTY_TEMP_BLOCK']);
    const blocked = await ask(limiter);
    expect(blocked).toMatchObject({
      action: 'BLOCK',
      allowed: false,
      triggered_by: 'PenaltyFSM',
      penalty: 'TEMP_BLOCK',
    });
    expect(blocked['retry_after']).toBeGreaterThan(590);
    expect(await ask(limiter, { consumer: 'bob' })).toMatchObject({ allowed: true, penalty: 'NORMAL' });
  });
});

describe('a throttled client', () => {
  it('is told the limit that is left to it', async () => {
    const penalty = {
      countBy: ['consumer'],
      tolerancePercent: 0,
      minSecondsPerStep: 0,
      throttle: { violations: 1, forSeconds: 600, limitPercent: 50 },
    };
    const limiter = await limiterOf({ rules: [aRule('own', 4)], penalty });
    expect(await reasons(limiter, 6)).toEqual([
      'WITHIN_LIMIT',
      'WITHIN_LIMIT',
      'WITHIN_LIMIT',
      'WITHIN_LIMIT',
      'RATE_LIMIT_EXCEEDED',
      'RATE_LIMIT_EXCEEDED',
    ]);
    expect(await ask(limiter)).toMatchObject({ penalty: 'THROTTLE', limit: 2, remaining: 0 });
  });
});

describe('a peek', () => {
  it('answers as a request would be answered, and takes nothing', async () => {
    const limiter = await limiterOf({ rules: [aRule('own', 2)] });
    for (let i = 0; i < 5; i += 1)
      expect(await ask(limiter, { mode: 'peek' })).toMatchObject({ allowed: true, remaining: 2 });
    expect(await reasons(limiter, 3)).toEqual(['WITHIN_LIMIT', 'WITHIN_LIMIT', 'RATE_LIMIT_EXCEEDED']);
    expect(await ask(limiter, { mode: 'peek' })).toMatchObject({ allowed: false });
  });
});

describe('a peek without Redis', () => {
  it('takes nothing from the share of the pod either', async () => {
    const limiter = await limiterOf({ rules: [aRule('own', 2)] });
    await withoutRedis([limiter]);
    for (let i = 0; i < 5; i += 1)
      expect(await ask(limiter, { mode: 'peek' })).toMatchObject({ allowed: true, reason: 'LOCAL_FALLBACK' });
    expect(await reasons(limiter, 3)).toEqual(['LOCAL_FALLBACK', 'LOCAL_FALLBACK', 'LOCAL_FALLBACK_EXCEEDED']);
    expect(await ask(limiter, { mode: 'peek' })).toMatchObject({ reason: 'LOCAL_FALLBACK_EXCEEDED' });
  });
});

describe('a sliding window log', () => {
  it('says that it is one', async () => {
    const limiter = await limiterOf({ rules: [aRule('own', 2, { algorithm: 'SlidingWindowLog' })] });
    expect(await ask(limiter)).toMatchObject({ strategy: 'sliding_window_log', remaining: 1 });
  });
});

describe('without Redis', () => {
  it('every pod admits its share, unless the policy says otherwise', async () => {
    const spec = { rules: [aRule('own', 10)] };
    const limiters = await limitersOf(spec, 2);
    const [limiter] = limiters;
    if (limiter === undefined) throw new Error('no limiter was started');
    const target = targetOn(server);
    await eventually(async () => {
      const { pods } = await listPods(target.redis, target.names);
      expect(pods.map(({ acknowledgement }) => acknowledgement.identity?.revision)).toEqual([1, 1]);
    });
    // Both are in the list: whoever enforces the next revision has read it since, and counts two.
    await publishEntries(target, [aPolicy(spec)]);
    for (const one of limiters) await untilRevision(one, 2);
    await withoutRedis(limiters);
    const share = Array.from({ length: 5 }, () => 'LOCAL_FALLBACK');
    for (const one of limiters) expect(await reasons(one, 6)).toEqual([...share, 'LOCAL_FALLBACK_EXCEEDED']);
    expect(await ask(limiter)).toMatchObject({ action: 'THROTTLE', triggered_by: 'FailurePolicy' });
  });

  it('a closed rule denies, and says when to come back', async () => {
    const limiter = await limiterOf({ rules: [aRule('own', 10, { failurePolicy: 'Closed' })] });
    await withoutRedis([limiter]);
    expect(await ask(limiter)).toMatchObject({ action: 'THROTTLE', reason: 'FAIL_CLOSED', retry_after: 1 });
  });
});

describe('an API key that cannot be looked up', () => {
  it('is denied by a closed rule without a word about the key, and never with 401', async () => {
    const limiter = await limiterOf({ rules: [aRule('own', 10, { failurePolicy: 'Closed' })] });
    const answer = await limiter.check({ domain: 'payments', api_key: 'a key' });
    expect(answer).toMatchObject({ status: 200, body: { action: 'THROTTLE', reason: 'IDENTITY_UNAVAILABLE' } });
    await publishKeys(targetOn(server), [], PEPPER);
    expect(await limiter.check({ domain: 'payments', api_key: 'a key' })).toMatchObject({ status: 401 });
  });

  it('has its own share under the default policy', async () => {
    const limiter = await limiterOf({ rules: [aRule('own', 3)] });
    expect(await reasons(limiter, 4, { api_key: 'one key' })).toEqual([
      'LOCAL_FALLBACK',
      'LOCAL_FALLBACK',
      'LOCAL_FALLBACK',
      'LOCAL_FALLBACK_EXCEEDED',
    ]);
    expect(await reasons(limiter, 1, { api_key: 'another key' })).toEqual(['LOCAL_FALLBACK']);
  });
});
