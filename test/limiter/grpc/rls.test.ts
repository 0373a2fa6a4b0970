import { status as grpc } from '@grpc/grpc-js';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { metric, post, startTestLimiter, targetOn, type TestLimiter, untilRevision } from '../../harness/limiter.ts';
import { aPolicy, publishEntries, publishKeys } from '../../harness/publish.ts';
import { type PrivateRedis, privateRedis } from '../../harness/redis.ts';
import { descriptor, plainFields, type Response, rlsClient, type RlsClient } from '../../harness/rls-client.ts';
import { PEPPER } from '../../harness/limiter.ts';

const OK = 1;
const OVER = 2;
const HOUR = 3;
const DOMAIN = 'payments';

const bucket = { algorithm: 'TokenBucket' } as const;

let server: PrivateRedis;
let limiter: TestLimiter;
let client: RlsClient;

beforeAll(async () => {
  server = await privateRedis();
  const limits = (requests: number, windowSeconds = 3_600) => [{ windowSeconds, requests }];
  const { revision } = await publishEntries(targetOn(server), [
    aPolicy({
      domain: DOMAIN,
      rules: [
        { ...bucket, name: 'per-user', countBy: ['descriptor:user'], limits: limits(2) },
        { ...bucket, name: 'per-plan', countBy: ['descriptor:plan'], limits: limits(5, 90) },
        { ...bucket, name: 'per-consumer', countBy: ['consumer'], limits: limits(3) },
        {
          ...bucket,
          name: 'per-route',
          match: { methods: ['POST'], paths: [{ type: 'Prefix', value: '/v1' }] },
          countBy: ['route'],
          limits: limits(2),
        },
      ],
    }),
  ]);
  await publishKeys(targetOn(server), [{ key: 'good-key', consumer: 'acme' }], PEPPER);
  limiter = await startTestLimiter({ redisUrl: server.url });
  await untilRevision(limiter, revision);
  client = rlsClient(limiter.grpcAddress);
});
afterAll(async () => {
  client.close();
  await limiter.stop();
  await server.stop();
});

const ask = (descriptors: object[], more: object = {}): Promise<Response> =>
  client.shouldRateLimit({ domain: DOMAIN, descriptors, ...more });

describe('ShouldRateLimit', () => {
  it('counts by descriptors, and tells what is left', async () => {
    const first = await ask([descriptor({ user: 'alice' })]);
    expect(first).toMatchObject({
      overall_code: OK,
      statuses: [
        {
          code: OK,
          current_limit: { name: 'per-user', requests_per_unit: 2, unit: HOUR },
          limit_remaining: 1,
          duration_until_reset: { seconds: expect.any(Number), nanos: 0 },
        },
      ],
    });
    expect(first.statuses[0]?.duration_until_reset?.seconds).toBeGreaterThan(0);
    expect(plainFields(first.dynamic_metadata)).toEqual({
      action: 'ALLOW',
      reason: 'WITHIN_LIMIT',
      triggered_by: 'RateLimit',
      policy: 'payments/policy',
      rule: 'per-user',
      revision: 1,
    });
    await ask([descriptor({ user: 'alice' })]);
    const denied = await ask([descriptor({ user: 'alice' })]);
    expect(denied).toMatchObject({ overall_code: OVER, statuses: [{ code: OVER, limit_remaining: 0 }] });
    expect(plainFields(denied.dynamic_metadata)).toMatchObject({
      action: 'THROTTLE',
      reason: 'RATE_LIMIT_EXCEEDED',
      rule: 'per-user',
    });
    const headers = new Map(denied.response_headers_to_add.map(({ key, value }) => [key, value]));
    const seconds = String(denied.statuses[0]?.duration_until_reset?.seconds);
    expect(headers.get('retry-after')).toBe(seconds);
    expect(headers.get('ratelimit')).toBe(`"per-user";r=0;t=${seconds}`);
    expect(headers.get('ratelimit-policy')).toBe('"per-user";q=2;w=3600');
    expect(await ask([descriptor({ user: 'bob' })])).toMatchObject({ overall_code: OK });
  });

  it('answers each descriptor in its place, and none where nothing limits', async () => {
    const answer = await ask([
      descriptor({ colour: 'red' }),
      descriptor({ user: 'carol' }),
      descriptor({ size: 'xl' }),
    ]);
    expect(answer.statuses.map(({ code, current_limit: limit }) => [code, limit?.name])).toEqual([
      [OK, undefined],
      [OK, 'per-user'],
      [OK, undefined],
    ]);
  });

  it('is over when one of several descriptors is, and says which', async () => {
    await ask([descriptor({ user: 'dave' })]);
    await ask([descriptor({ user: 'dave' })]);
    const answer = await ask([descriptor({ plan: 'dave' }), descriptor({ user: 'dave' })]);
    expect(answer.overall_code).toBe(OVER);
    expect(answer.statuses.map(({ code }) => code)).toEqual([OK, OVER]);
    expect(answer.statuses.map(({ current_limit: limit }) => limit?.name)).toEqual(['per-plan', 'per-user']);
    // All or nothing: the other one was not charged.
    const [plan] = (await ask([descriptor({ plan: 'dave' })])).statuses;
    expect(plan?.limit_remaining).toBe(4);
  });

  it('says of each descriptor the limit that it is subject to', async () => {
    const answer = await ask([descriptor({ plan: 'silver' }), descriptor({ user: 'ivan' })]);
    expect(answer.statuses.map(({ code, current_limit: limit }) => [code, limit?.name])).toEqual([
      [OK, 'per-plan'],
      [OK, 'per-user'],
    ]);
    expect(answer.statuses.map(({ limit_remaining: left }) => left)).toEqual([4, 1]);
  });

  it('judges descriptors that contradict each other one by one', async () => {
    const answer = await ask([descriptor({ user: 'erin' }), descriptor({ user: 'frank' })]);
    expect(answer.statuses.map(({ limit_remaining: left }) => left)).toEqual([1, 1]);
    await ask([descriptor({ user: 'erin' })]);
    const next = await ask([descriptor({ user: 'erin' }), descriptor({ user: 'frank' })]);
    expect(next).toMatchObject({ overall_code: OVER, statuses: [{ code: OVER }, { code: OK }] });
    // What the one took is given back when the other is denied: all or nothing.
    expect(await ask([descriptor({ user: 'frank' })])).toMatchObject({
      overall_code: OK,
      statuses: [{ limit_remaining: 0 }],
    });
  });

  it('gives negative hits back, and never more than was taken', async () => {
    const greta = { user: 'greta' };
    for (const code of [OK, OK, OVER]) expect((await ask([descriptor(greta)])).overall_code).toBe(code);
    const back = await ask([descriptor(greta, { is_negative_hits: true, hits_addend: { value: 1 } })]);
    expect(back).toMatchObject({ overall_code: OK, statuses: [{ code: OK, current_limit: null }] });
    expect((await ask([descriptor(greta)])).overall_code).toBe(OK);
    await ask([descriptor(greta, { is_negative_hits: true })], { hits_addend: 50 });
    expect(await ask([descriptor(greta)])).toMatchObject({ overall_code: OK, statuses: [{ limit_remaining: 1 }] });
  });

  it('does not invent a unit for a window that Envoy has none for', async () => {
    const { statuses } = await ask([descriptor({ plan: 'gold' })]);
    expect(statuses[0]?.current_limit).toEqual({ name: 'per-plan', requests_per_unit: 5, unit: 0 });
  });

  it('takes the hits of the request, and those of a descriptor before them', async () => {
    const take = (more: object, hits: object): Promise<Response> => ask([descriptor({ plan: 'hits' }, more)], hits);
    expect((await take({}, { hits_addend: 2 })).statuses[0]?.limit_remaining).toBe(3);
    expect((await take({ hits_addend: { value: 1 } }, { hits_addend: 2 })).statuses[0]?.limit_remaining).toBe(2);
    expect((await take({}, { hits_addend: 0 })).statuses[0]?.limit_remaining).toBe(1);
    // 0 hits of a descriptor only look.
    const look = { hits_addend: { value: 0 } };
    expect(await take(look, {})).toMatchObject({ overall_code: OK, statuses: [{ limit_remaining: 1 }] });
    expect(await take({}, {})).toMatchObject({ overall_code: OK, statuses: [{ limit_remaining: 0 }] });
    expect(await take(look, {})).toMatchObject({ overall_code: OVER, statuses: [{ limit_remaining: 0 }] });
  });

  it('gives negative hits back, never above full, and nothing for 0 hits', async () => {
    const left = async (hits: object): Promise<number | undefined> =>
      (await ask([descriptor({ plan: 'negative' }, hits)])).statuses[0]?.limit_remaining;
    const look = { hits_addend: { value: 0 } };
    expect(await left({ hits_addend: { value: 4 } })).toBe(1);
    await left({ hits_addend: { value: 2 }, is_negative_hits: true });
    expect(await left(look)).toBe(3);
    await left({ ...look, is_negative_hits: true });
    expect(await left(look)).toBe(3);
    await left({ hits_addend: { value: 9 }, is_negative_hits: true });
    expect(await left(look)).toBe(5);
  });

  it('takes fields of the request from the keys that name them', async () => {
    const request = descriptor({ method: 'post', path: '/v1/%63harges/../pay?x=1' });
    expect((await ask([request])).statuses[0]).toMatchObject({
      current_limit: { name: 'per-route' },
      limit_remaining: 1,
    });
    expect((await ask([descriptor({ method: 'GET', path: '/v1/pay' })])).statuses[0]?.current_limit).toBeNull();
    const byAddress = await ask([descriptor({ remote_address: '203.0.113.9' })]);
    expect(byAddress.statuses[0]).toMatchObject({ current_limit: { name: 'per-consumer' }, limit_remaining: 2 });
    const byKey = await ask([descriptor({ api_key: 'good-key' })]);
    expect(byKey.statuses[0]).toMatchObject({ current_limit: { name: 'per-consumer' }, limit_remaining: 2 });
  });

  it('denies an invalid key as an answer, not as an error', async () => {
    const answer = await ask([descriptor({ api_key: 'bad-key' })]);
    expect(answer).toMatchObject({ overall_code: OVER, statuses: [{ code: OVER, current_limit: null }] });
    expect(plainFields(answer.dynamic_metadata)).toMatchObject({ reason: 'INVALID_API_KEY' });
  });

  it('allows a domain that no policy speaks of', async () => {
    const answer = await client.shouldRateLimit({ domain: 'nobody.knows', descriptors: [descriptor({ a: 'b' })] });
    expect(answer).toMatchObject({ overall_code: OK, statuses: [{ code: OK, current_limit: null }] });
  });

  it.each<[string, Record<string, string>, string]>([
    ['a broken path', { path: '/v1/%zz' }, 'BAD_PATH'],
    ['a path that is too long', { path: `/${'a'.repeat(8_192)}` }, 'BAD_VALUE'],
    ['an address that is none', { remote_address: 'unknown' }, 'BAD_ADDRESS'],
    ['a consumer that is too long', { consumer: 'x'.repeat(257) }, 'BAD_VALUE'],
    ['a value that is too long', { user: 'x'.repeat(8_193) }, 'BAD_VALUE'],
    ['a tier that nobody knows', { tier: 'gold', user: 'a' }, 'UNKNOWN_TIER'],
  ])('denies what a client can bring about, as an error would let it pass: %s', async (_title, entries, code) => {
    const series = `sluice_requests_refused_total{code="${code}"}`;
    const before = await metric(limiter, series);
    const answer = await ask([descriptor(entries)]);
    expect(answer).toMatchObject({ overall_code: OVER, statuses: [{ code: OVER }] });
    expect(plainFields(answer.dynamic_metadata)).toMatchObject({ action: 'BLOCK', reason: code });
    expect(await metric(limiter, series)).toBe(before + 1);
  });

  it.each<[string, object, string]>([
    ['no domain', { descriptors: [descriptor({ a: 'b' })] }, 'domain: must have 1 to 253 characters'],
    ['no descriptors', { domain: DOMAIN }, 'descriptors: must be 1 to 64, not 0'],
    ['an empty descriptor', { domain: DOMAIN, descriptors: [{}] }, 'descriptors[0].entries: must be 1 to 64, not 0'],
    [
      'an empty key',
      { domain: DOMAIN, descriptors: [descriptor({ '': 'b' })] },
      'descriptors[0].entries[0].key: must have 1 to 256 characters',
    ],
  ])('refuses what only a configuration can bring about: %s', async (_title, request, details) => {
    await expect(client.shouldRateLimit(request)).rejects.toMatchObject({ code: grpc.INVALID_ARGUMENT, details });
  });
});

describe('the health service', () => {
  it('speaks for the server and for the service', async () => {
    expect(await client.health()).toEqual({ status: 1 });
    expect(await client.health('envoy.service.ratelimit.v3.RateLimitService')).toEqual({ status: 1 });
    await expect(client.health('nothing')).rejects.toMatchObject({ code: grpc.NOT_FOUND });
  });

  it('is not serving before a configuration is loaded, and decisions are UNAVAILABLE', async () => {
    const empty = await privateRedis();
    const waiting = await startTestLimiter({ redisUrl: empty.url });
    const early = rlsClient(waiting.grpcAddress);
    expect(await early.health()).toEqual({ status: 2 });
    await expect(
      early.shouldRateLimit({ domain: DOMAIN, descriptors: [descriptor({ a: 'b' })] }),
    ).rejects.toMatchObject({ code: grpc.UNAVAILABLE, details: 'no configuration is loaded yet' });
    early.close();
    await waiting.stop();
    await empty.stop();
  });
});

describe('a caller that is not trusted', () => {
  it('cannot give back what was charged', async () => {
    const doors = { trustedCallers: ['192.0.2.0/24'] };
    const suspicious = await startTestLimiter({ redisUrl: server.url, pod: 'pod-suspicious', doors });
    const stranger = rlsClient(suspicious.grpcAddress);
    try {
      await untilRevision(suspicious, 1);
      const asked = (more: object = {}): Promise<Response> =>
        stranger.shouldRateLimit({ domain: DOMAIN, descriptors: [descriptor({ user: 'stranger' }, more)] });
      await asked();
      await asked();
      expect(await asked({ is_negative_hits: true })).toMatchObject({ overall_code: OK });
      expect(await asked()).toMatchObject({ overall_code: OVER });
      expect(await metric(suspicious, 'sluice_requests_refused_total{code="NOT_TRUSTED"}')).toBe(1);
    } finally {
      stranger.close();
      await suspicious.stop();
    }
  });
});

describe('POST /json', () => {
  const json = (body: object): ReturnType<typeof post> => post(`${limiter.url}/json`, JSON.stringify(body));

  it('is the same in JSON: 200, then 429', async () => {
    const request = { domain: DOMAIN, descriptors: [{ entries: [{ key: 'user', value: 'json' }] }] };
    const first = await json(request);
    expect(first).toMatchObject({
      status: 200,
      body: {
        overallCode: 'OK',
        statuses: [
          {
            code: 'OK',
            currentLimit: { name: 'per-user', requestsPerUnit: 2, unit: 'HOUR' },
            limitRemaining: 1,
            durationUntilReset: expect.stringMatching(/^\d+s$/),
          },
        ],
      },
    });
    await json(request);
    const over = await json(request);
    expect(over).toMatchObject({
      status: 429,
      body: { overallCode: 'OVER_LIMIT', statuses: [{ code: 'OVER_LIMIT' }] },
    });
    // As protobuf has it: what is zero is left out.
    expect(JSON.stringify(over.body)).not.toContain('limitRemaining');
    expect(over.headers.get('retry-after')).toMatch(/^\d+$/);
  });

  it('reads both spellings of names, and integers as text', async () => {
    const entries = [{ key: 'plan', value: 'spelling' }];
    const camel = await json({ domain: DOMAIN, descriptors: [{ entries, hitsAddend: '2' }] });
    expect(camel.body).toMatchObject({ statuses: [{ limitRemaining: 3 }] });
    const snake = await json({ domain: DOMAIN, descriptors: [{ entries, hits_addend: 1 }], hits_addend: 3 });
    expect(snake.body).toMatchObject({ statuses: [{ limitRemaining: 2 }] });
  });

  it.each<[string, string, string]>([
    ['no JSON', '{', 'BODY_NOT_JSON'],
    ['an unknown field', '{"domain": "payments", "colour": 1}', 'BAD_FIELD'],
    ['a name in both spellings', '{"domain": "payments", "hitsAddend": 1, "hits_addend": 2}', 'BAD_FIELD'],
    ['no domain', '{"descriptors": [{"entries": [{"key": "a"}]}]}', 'BAD_RLS_REQUEST'],
    ['null', 'null', 'BAD_FIELD'],
  ])('is a 400 for %s', async (_title, body, code) => {
    const answer = await post(`${limiter.url}/json`, body);
    expect(answer).toMatchObject({ status: 400, body: { code } });
  });
});
