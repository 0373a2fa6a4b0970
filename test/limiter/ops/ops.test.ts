import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { DOOR_DEFAULTS } from '../../../limiter/door-settings.ts';
import { networksOf } from '../../../limiter/trust.ts';
import { eventually } from '../../harness/eventually.ts';
import {
  type Answer,
  get,
  type Json,
  PEPPER,
  post,
  startTestLimiter,
  targetOn,
  type TestLimiter,
  untilRevision,
} from '../../harness/limiter.ts';
import { aPolicy, publishEntries, publishKeys } from '../../harness/publish.ts';
import { type PrivateRedis, privateRedis } from '../../harness/redis.ts';
import {
  batchAnswerSchema,
  decisionAnswerSchema,
  deniedSchema,
  healthSchema,
  pardonAnswerSchema,
  penaltiesSchema,
  plainAllowedSchema,
  plainBadSchema,
  plainDeniedSchema,
  problemSchema,
  refundAnswerSchema,
  rlsAnswerSchema,
} from '../../../limiter/http/answers-schema.ts';

const DAY = 86_400;

let server: PrivateRedis;
let limiter: TestLimiter;
beforeAll(async () => {
  server = await privateRedis();
  const rule = { name: 'per-consumer', countBy: ['consumer' as const], algorithm: 'TokenBucket' as const };
  const { revision } = await publishEntries(targetOn(server), [
    aPolicy({
      domain: 'payments',
      rules: [{ ...rule, limits: [{ windowSeconds: DAY, requests: 2 }] }],
      penalty: {
        countBy: ['consumer'],
        tolerancePercent: 0,
        violationWindowSeconds: 600,
        minSecondsPerStep: 0,
        block: { tempBlocks: 1, withinSeconds: DAY, forSeconds: 0 },
        tempBlock: { violations: 1, forSeconds: DAY },
      },
    }),
    aPolicy({ domain: 'payments.quiet', rules: [{ ...rule, limits: [{ windowSeconds: DAY, requests: 1 }] }] }, 'quiet'),
  ]);
  await publishKeys(targetOn(server), [{ key: 'good-key', consumer: 'acme' }], PEPPER);
  limiter = await startTestLimiter({ redisUrl: server.url });
  await untilRevision(limiter, revision);
});
afterAll(async () => {
  await limiter.stop();
  await server.stop();
});

const ops = (path: string, body: Json): Promise<Answer> => post(`${limiter.opsUrl}${path}`, JSON.stringify(body));

describe('a penalty', () => {
  it('is listed, and lifted by a pardon, which is logged with who and why', async () => {
    const mallory = { domain: 'payments', consumer: 'mallory' };
    for (let i = 0; i < 3; i += 1) await limiter.check(mallory);
    expect((await limiter.check(mallory)).body).toMatchObject({ action: 'BLOCK', reason: 'PENALTY_BLOCK' });
    const listed = await get(`${limiter.opsUrl}/penalties?domain=payments`);
    expect(listed.body).toEqual({
      penalties: [{ subject: expect.stringContaining('consumer=caller:mallory'), state: 'BLOCK', ends_at: null }],
    });
    expect(penaltiesSchema.safeParse(listed.body).success).toBe(true);
    const subject = { consumer: 'caller:mallory' };
    const pardon = await ops('/penalty/pardon', {
      domain: 'payments',
      policy: 'payments/policy',
      subject,
      reason: 'a mistake of ours',
    });
    expect(pardon).toMatchObject({ status: 200, body: { before: 'BLOCK' } });
    expect(pardonAnswerSchema.safeParse(pardon.body).success).toBe(true);
    expect(limiter.logged().filter(({ event }) => event === 'penalty_pardoned')).toEqual([
      expect.objectContaining({ subject, before: 'BLOCK', reason: 'a mistake of ours', by: '127.0.0.1' }),
    ]);
    expect((await limiter.check({ ...mallory, mode: 'peek' })).body['penalty']).toBe('NORMAL');
  });

  it.each<[string, Json, string]>([
    ['domain', { domain: 'nowhere', policy: 'a/b', subject: {} }, '"nowhere" has no policy'],
    ['policy', { domain: 'payments', policy: 'a/b', subject: {} }, '"a/b" is not allowed: must be payments/policy'],
    ['policy', { domain: 'payments.quiet', policy: 'payments/quiet', subject: {} }, 'the domain has no penalties'],
    [
      'subject',
      { domain: 'payments', policy: 'payments/policy', subject: { tenant: 'a' } },
      'must say exactly consumer, not tenant',
    ],
    ['colour', { domain: 'payments', policy: 'a/b', subject: {}, colour: 'red' }, 'there is no such field'],
  ])('of a %s that there is not is a 400', async (field, body, message) => {
    const answer = await ops('/penalty/pardon', body);
    expect(answer).toMatchObject({ status: 400, body: { errors: [{ field }] } });
    expect(answer.body['detail']).toContain(message);
  });

  it('list takes a query that it understands only', async () => {
    for (const query of ['', '?domain=', '?domain=payments&limit=0', '?domain=payments&limit=1001', '?domain=a&b=c']) {
      expect((await get(`${limiter.opsUrl}/penalties${query}`)).status).toBe(400);
    }
  });
});

describe('GET /denied', () => {
  it('lists who is denied most, and no secret', async () => {
    const ask = async (times: number, body: Json): Promise<void> => {
      for (let i = 0; i < times; i += 1) await limiter.check({ domain: 'payments.quiet', ...body });
    };
    await ask(4, { consumer: 'greedy' });
    await ask(2, { ip: '203.0.113.7' });
    await ask(3, { api_key: 'good-key' });
    await ask(1, { api_key: 'a-secret-that-is-not-valid' });
    const { status, body } = await get(`${limiter.opsUrl}/denied?domain=payments.quiet`);
    expect(status).toBe(200);
    expect(deniedSchema.safeParse(body).error).toBeUndefined();
    const denied = body['denied'] as { who: string; denials: number; last_reason: string }[];
    expect(denied.map(({ who, denials, last_reason: reason }) => [who, denials, reason])).toEqual([
      ['caller:greedy', 3, 'RATE_LIMIT_EXCEEDED'],
      [expect.stringMatching(/^key:sha256:[0-9a-f]{16}$/), 2, 'RATE_LIMIT_EXCEEDED'],
      ['ip:203.0.113.7', 1, 'RATE_LIMIT_EXCEEDED'],
      [expect.stringMatching(/^key:sha256:[0-9a-f]{16}$/), 1, 'INVALID_API_KEY'],
    ]);
    expect(JSON.stringify([body, limiter.logged()])).not.toContain('a-secret-that-is-not-valid');
    expect((await get(`${limiter.opsUrl}/denied?domain=nobody.knows`)).body).toEqual({
      domain: 'nobody.knows',
      denied: [],
    });
  });
});

describe('a refund', () => {
  const refundOf = (id: string): Promise<Answer> =>
    post(`${limiter.url}/v1/decision/refund`, JSON.stringify({ request_id: id }));

  it('gives back what a refundable request was charged, once', async () => {
    const ask = { domain: 'payments.quiet', consumer: 'refunder' };
    const first = await limiter.check({ ...ask, refundable: true, request_id: 'refund-1' });
    expect(first.body).toMatchObject({ allowed: true, remaining: 0, refundable: true });
    const refunded = await refundOf('refund-1');
    expect(refunded).toMatchObject({ status: 200, body: { refunded: true, request_id: 'refund-1' } });
    expect(refundAnswerSchema.safeParse(refunded.body).success).toBe(true);
    expect(await refundOf('refund-1')).toMatchObject({ status: 404, body: { code: 'NOT_REFUNDABLE' } });
    expect((await limiter.check({ ...ask, mode: 'peek' })).body['remaining']).toBe(1);
  });

  it('is not offered for what was not charged, or under an id that is in use', async () => {
    const ask = { domain: 'payments.quiet', refundable: true };
    await limiter.check({ ...ask, consumer: 'other', request_id: 'refund-2' });
    expect((await limiter.check({ ...ask, consumer: 'other', request_id: 'refund-3' })).body).toMatchObject({
      allowed: false,
      refundable: false,
    });
    expect(
      (await limiter.check({ ...ask, consumer: 'third', mode: 'peek', request_id: 'refund-4' })).body,
    ).toMatchObject({
      refundable: false,
    });
    expect((await limiter.check({ ...ask, consumer: 'fourth', request_id: 'refund-2' })).body).toMatchObject({
      allowed: true,
      refundable: false,
    });
    expect(await refundOf('refund-3')).toMatchObject({ status: 404 });
  });
});

describe('POST /explain', () => {
  const asked = { domain: 'payments.quiet', consumer: 'inquisitive' };

  it('tells how a decision comes about, and counts nothing', async () => {
    for (let i = 0; i < 3; i += 1) {
      const { status, body } = await ops('/explain', asked);
      expect(status).toBe(200);
      expect(body).toMatchObject({
        domain: 'payments.quiet',
        decision: { action: 'ALLOW', reason: 'WITHIN_LIMIT' },
        identity: { outcome: 'identified', consumer: 'caller:inquisitive', trusted: true },
      });
      expect(JSON.stringify(body)).toContain('per-consumer');
    }
    expect((await limiter.check(asked)).body).toMatchObject({ allowed: true, remaining: 0 });
    expect((await ops('/explain', asked)).body).toMatchObject({ decision: { action: 'THROTTLE' } });
  });

  it('takes what the decision API takes, and refuses the rest alike', async () => {
    expect(await ops('/explain', { ...asked, tier: 'gold' })).toMatchObject({
      status: 400,
      body: { errors: [{ field: 'tier', reason: 'UNKNOWN_TIER' }] },
    });
    expect(await ops('/explain', {})).toMatchObject({ status: 400, body: { errors: [{ field: 'domain' }] } });
  });
});

describe('answers', () => {
  it('are as the description of the API has them', async () => {
    const check = (body: Json): Promise<Answer> => limiter.check({ domain: 'payments.quiet', ...body });
    const json = (user: string): Promise<Answer> =>
      post(
        `${limiter.url}/json`,
        JSON.stringify({ domain: 'payments.quiet', descriptors: [{ entries: [{ key: 'consumer', value: user }] }] }),
      );
    const plain = await startTestLimiter({ redisUrl: server.url, pod: 'pod-b', checkDomain: 'payments.quiet' });
    await untilRevision(plain, 1);
    const plainCheck = (body: Json): Promise<Answer> => post(`${plain.url}/check`, JSON.stringify(body));
    const told = [
      [decisionAnswerSchema, await check({ consumer: 'a' })],
      [decisionAnswerSchema, await check({ consumer: 'a' })],
      [decisionAnswerSchema, await limiter.check({ domain: 'nobody.knows' })],
      [problemSchema, await check({ api_key: 'bad' })],
      [problemSchema, await check({ tier: 'gold' })],
      [batchAnswerSchema, await post(`${limiter.url}/v1/decision/batch`, '{"checks": [{"domain": "payments.quiet"}]}')],
      [rlsAnswerSchema, await json('b')],
      [rlsAnswerSchema, await json('b')],
      [plainAllowedSchema, await plainCheck({ identifier: 'c' })],
      [plainDeniedSchema, await plainCheck({ identifier: 'c' })],
      [plainBadSchema, await plainCheck({})],
      [healthSchema, await get(`${limiter.url}/health`)],
    ] as const;
    expect(told.map(([schema, { body }]) => schema.safeParse(body).error?.message)).toEqual(told.map(() => undefined));
    await plain.stop();
  });
});

describe('the port for operators', () => {
  it('serves the description of the API and a page that loads nothing from elsewhere', async () => {
    const { body } = await get(`${limiter.opsUrl}/openapi.json`);
    expect(body['openapi']).toBe('3.1.0');
    expect(Object.keys(Object(body['paths']))).toEqual(
      expect.arrayContaining(['/v1/decision/check', '/check', '/json', '/health', '/authz/{domain}/{rest}', '/denied']),
    );
    const text = async (path: string): Promise<string> => (await fetch(`${limiter.opsUrl}${path}`)).text();
    const page = await text('/docs');
    expect(page).toContain('swagger-ui');
    for (const [, source = ''] of page.matchAll(/(?:src|href)="([^"]+)"/g)) {
      expect(source).toMatch(/^(?!https?:|\/\/)/);
      expect((await fetch(new URL(source, `${limiter.opsUrl}/docs/`))).status).toBe(200);
    }
    const initializer = await text('/docs/swagger-initializer.js');
    expect(initializer).toContain('../openapi.json');
    expect(initializer).toContain('validatorUrl: null');
    expect(initializer).not.toContain('petstore');
  });

  it('answers mistakes with problems', async () => {
    expect(await get(`${limiter.opsUrl}/nowhere`)).toMatchObject({ status: 404, body: { code: 'NOT_FOUND' } });
    expect(await post(`${limiter.opsUrl}/penalty/pardon`, '{')).toMatchObject({
      status: 400,
      body: { code: 'BODY_NOT_JSON' },
    });
    const large = await post(`${limiter.opsUrl}/penalty/pardon`, 'x'.repeat(300_000));
    expect(large).toMatchObject({ status: 413, body: { code: 'BAD_REQUEST' } });
    expect(large.headers.get('content-type')).toMatch('application/problem+json');
    const echoed = await fetch(`${limiter.opsUrl}/livez`, { headers: { 'x-request-id': 'r-9' } });
    expect(echoed.headers.get('x-request-id')).toBe('r-9');
  });

  it('lets everybody probe and read metrics, and asks no more of who is not allowed to', async () => {
    const doors = { opsAllowed: ['192.0.2.0/24'] };
    const strict = await startTestLimiter({ redisUrl: server.url, pod: 'pod-strict', doors });
    await untilRevision(strict, 1);
    const statusOf = async (path: string, init?: RequestInit): Promise<number> =>
      (await fetch(`${strict.opsUrl}${path}`, init)).status;
    for (const path of ['/livez', '/readyz', '/metrics', '/metrics?name=a']) expect(await statusOf(path)).toBe(200);
    const closed = [
      '/explain',
      '/penalty/pardon',
      '/penalties',
      '/denied',
      '/docs',
      '/docs/index.css',
      '/openapi.json',
    ];
    for (const path of [...closed, '/livez/../denied', '/metrics/', '/METRICS', '/nowhere']) {
      expect([path, await statusOf(path)]).toEqual([path, 403]);
      expect(await statusOf(path, { method: 'POST', body: '{}', headers: { 'x-forwarded-for': '192.0.2.1' } })).toBe(
        403,
      );
    }
    const { headers, body } = await get(`${strict.opsUrl}/denied?domain=payments`);
    expect(headers.get('content-type')).toMatch('application/problem+json');
    expect(body).toMatchObject({ status: 403, code: 'NOT_AN_OPERATOR' });
    expect(body['detail']).toContain('127.0.0.1 may not ask this: use kubectl port-forward, or add its network to');
    await strict.stop();
  });

  it('allows who comes from inside the pod, if nothing else is said', () => {
    const allowed = networksOf(DOOR_DEFAULTS.opsAllowed);
    for (const inside of ['127.0.0.1', '127.9.9.9', '::1', '::ffff:127.0.0.1']) expect(allowed.has(inside)).toBe(true);
    for (const outside of ['10.0.0.1', '::ffff:10.0.0.1', 'fd00::1', undefined])
      expect(allowed.has(outside)).toBe(false);
  });

  it('says what cannot be said without a configuration or Redis', async () => {
    const empty = await privateRedis();
    const waiting = await startTestLimiter({ redisUrl: empty.url, redisDeadlineMillis: 300 });
    expect(await get(`${waiting.opsUrl}/penalties?domain=a`)).toMatchObject({
      status: 503,
      body: { code: 'NOT_READY' },
    });
    await empty.stopServer();
    await eventually(async () => {
      const answer = await post(`${waiting.url}/v1/decision/refund`, '{"request_id": "a"}');
      expect(answer).toMatchObject({ status: 503, body: { code: 'STORE_UNAVAILABLE' } });
    });
    await waiting.stop();
    await empty.stop();
  });
});
