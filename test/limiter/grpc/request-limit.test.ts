import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { eventually } from '../../harness/eventually.ts';
import {
  metric,
  PEPPER,
  post,
  startTestLimiter,
  targetOn,
  type TestLimiter,
  untilRevision,
} from '../../harness/limiter.ts';
import { anOverride, aPolicy, publishEntries, publishKeys } from '../../harness/publish.ts';
import { type PrivateRedis, privateRedis } from '../../harness/redis.ts';
import { descriptor, plainFields, type Response, rlsClient, type RlsClient } from '../../harness/rls-client.ts';

const OK = 1;
const OVER = 2;
const [SECOND, MINUTE, DAY, MONTH, YEAR] = [1, 2, 4, 5, 6];

let server: PrivateRedis;
let limiter: TestLimiter;
let client: RlsClient;

beforeAll(async () => {
  server = await privateRedis();
  const rule = { algorithm: 'TokenBucket' as const, limits: [{ windowSeconds: 3_600, requests: 2 }] };
  const { revision } = await publishEntries(targetOn(server), [
    aPolicy({
      domain: 'payments',
      exemptions: [
        { name: 'probes', match: { paths: [{ type: 'Exact', value: '/healthz' }] } },
        { name: 'ours', match: { consumers: ['caller:vip'] } },
      ],
      rules: [
        { ...rule, name: 'per-user', countBy: ['descriptor:user'] },
        { ...rule, name: 'per-consumer', countBy: ['consumer'] },
      ],
    }),
    anOverride({
      policyRef: { name: 'policy' },
      subject: { consumer: 'caller:mallory' },
      action: 'Block',
      reason: 'abuse',
      expiresAt: '2999-01-01T00:00:00Z',
    }),
  ]);
  await publishKeys(targetOn(server), [{ key: 'one', consumer: 'acme' }], PEPPER);
  limiter = await startTestLimiter({ redisUrl: server.url });
  await untilRevision(limiter, revision);
  client = rlsClient(limiter.grpcAddress);
});
afterAll(async () => {
  client.close();
  await limiter.stop();
  await server.stop();
});

const limitOf = (requests: number, unit = MINUTE, more: object = {}): object => ({
  limit: { requests_per_unit: requests, unit },
  ...more,
});

const askAll = (descriptors: object[], asking = client): Promise<Response> =>
  asking.shouldRateLimit({ domain: 'payments', descriptors });

const ask = (entries: Record<string, string>, more: object = {}, asking = client): Promise<Response> =>
  askAll([descriptor(entries, more)], asking);

const left = async (answer: Promise<Response>): Promise<[number, number | undefined]> => {
  const { overall_code: code, statuses } = await answer;
  return [code, statuses[0]?.limit_remaining];
};

describe('a limit that a descriptor brings along', () => {
  it('takes the place of the rules, and is told in their place', async () => {
    const answers = [];
    for (let i = 0; i < 4; i += 1) answers.push(await ask({ user: 'zoe' }, limitOf(3)));
    expect(answers.map(({ overall_code: code }) => code)).toEqual([OK, OK, OK, OVER]);
    expect(answers.map(({ statuses }) => statuses[0]?.limit_remaining)).toEqual([2, 1, 0, 0]);
    const over = answers.at(-1);
    expect(over?.statuses[0]?.current_limit).toEqual({ name: 'limit-per-minute', requests_per_unit: 3, unit: MINUTE });
    const seconds = over?.statuses[0]?.duration_until_reset?.seconds ?? 0;
    expect(seconds).toBeGreaterThan(0);
    expect(seconds).toBeLessThanOrEqual(66);
    const headers = new Map(over?.response_headers_to_add.map(({ key, value }) => [key, value]));
    expect(headers.get('retry-after')).toBe(String(seconds));
    expect(headers.get('ratelimit-policy')).toBe('"limit-per-minute";q=3;w=60');
    expect(plainFields(over?.dynamic_metadata ?? null)).toMatchObject({
      reason: 'RATE_LIMIT_EXCEEDED',
      policy: '(request)',
      rule: 'limit-per-minute',
    });
    // The rules' own counters were not touched.
    expect(await left(ask({ user: 'zoe' }))).toEqual([OK, 1]);
  });

  it('admits not one more than it says, over two pods at once', async () => {
    const other = await startTestLimiter({ redisUrl: server.url, pod: 'pod-b' });
    const second = rlsClient(other.grpcAddress);
    try {
      await untilRevision(other, 1);
      const asked = Array.from({ length: 60 }, (_, i) =>
        ask({ user: 'crowd' }, limitOf(17), i % 2 === 0 ? client : second),
      );
      const codes = (await Promise.all(asked)).map(({ overall_code: code }) => code);
      expect(codes.filter((code) => code === OK)).toHaveLength(17);
    } finally {
      second.close();
      await other.stop();
    }
  });

  it('goes on with the same counter when its number changes, and has another for another unit', async () => {
    const yves = { user: 'yves' };
    expect(await left(ask(yves, limitOf(2)))).toEqual([OK, 1]);
    expect(await left(ask(yves, limitOf(2)))).toEqual([OK, 0]);
    expect(await left(ask(yves, limitOf(2)))).toEqual([OVER, 0]);
    expect(await left(ask(yves, limitOf(4)))).toEqual([OK, 1]);
    expect(await left(ask(yves, limitOf(1)))).toEqual([OVER, 0]);
    expect(await left(ask(yves, limitOf(2, DAY)))).toEqual([OK, 1]);
  });

  it('counts by all entries of its descriptor, in whatever order and form they come', async () => {
    const entries = { path: '/v1/%61/../b', method: 'get', remote_address: '2001:db8::1' };
    expect(await left(ask(entries, limitOf(3)))).toEqual([OK, 2]);
    const same = { method: 'GET', remote_address: '2001:db8::2', path: '/v1//b' };
    expect(await left(ask(same, limitOf(3)))).toEqual([OK, 1]);
    expect(await left(ask({ ...same, remote_address: '2001:db8:1::2' }, limitOf(3)))).toEqual([OK, 2]);
    expect(await left(ask({ ...same, path: '/v1/c' }, limitOf(3)))).toEqual([OK, 2]);
  });

  it('counts by each value of a key that its descriptor has several times', async () => {
    const twice = (first: string, second: string): Promise<Response> => {
      const entries = [first, second].map((value) => ({ key: 'generic_key', value }));
      return askAll([{ entries, ...limitOf(2) }]);
    };
    expect(await left(twice('a', 'b'))).toEqual([OK, 1]);
    expect(await left(twice('c', 'b'))).toEqual([OK, 1]);
    expect(await left(twice('a', 'b'))).toEqual([OK, 0]);
  });

  it('is judged beside the other descriptors of a request: all of them or none', async () => {
    const both = [descriptor({ user: 'xena' }), descriptor({ plan: 'gold' }, limitOf(1))];
    const first = await askAll(both);
    expect(first.statuses.map(({ code, current_limit: limit }) => [code, limit?.name])).toEqual([
      [OK, 'per-user'],
      [OK, 'limit-per-minute'],
    ]);
    const over = await askAll(both);
    expect([over.overall_code, over.statuses.map(({ code }) => code)]).toEqual([OVER, [OK, OVER]]);
    // What the first took was given back.
    expect(await left(ask({ user: 'xena' }))).toEqual([OK, 0]);
  });

  it('can be looked at, and given back', async () => {
    const walt = { user: 'walt' };
    const look = { hits_addend: { value: 0 } };
    await ask(walt, limitOf(5, MINUTE, { hits_addend: { value: 4 } }));
    expect(await left(ask(walt, limitOf(5, MINUTE, look)))).toEqual([OK, 1]);
    await ask(walt, limitOf(5, MINUTE, { hits_addend: { value: 3 }, is_negative_hits: true }));
    expect(await left(ask(walt, limitOf(5, MINUTE, look)))).toEqual([OK, 4]);
  });

  it('lets nothing pass at 0', async () => {
    expect(await left(ask({ user: 'vera' }, limitOf(0)))).toEqual([OVER, 0]);
  });

  it('does not lift a block, nor an exemption, nor makes an invalid key valid', async () => {
    const reasonOf = async (entries: Record<string, string>): Promise<unknown> =>
      plainFields((await ask(entries, limitOf(9))).dynamic_metadata)['reason'];
    expect(await reasonOf({ consumer: 'mallory' })).toBe('OVERRIDE_BLOCK');
    expect(await reasonOf({ api_key: 'none' })).toBe('INVALID_API_KEY');
    expect(await reasonOf({ path: '/healthz' })).toBe('EXEMPT');
    expect(await reasonOf({ consumer: 'vip' })).toBe('EXEMPT');
    expect(await reasonOf({ api_key: 'one' })).toBe('WITHIN_LIMIT');
  });

  it.each<[string, object]>([
    ['no unit', limitOf(1, 0)],
    ['a month', limitOf(1, MONTH)],
    ['a year', limitOf(1, YEAR)],
    ['a unit that does not exist', limitOf(1, 77)],
    ['more than counters can hold', limitOf(104_250, DAY)],
  ])('is counted and left out if it cannot be kept: %s', async (title, limit) => {
    const series = 'sluice_requests_refused_total{code="BAD_LIMIT"}';
    const before = await metric(limiter, series);
    const answer = await ask({ user: title }, limit);
    expect(answer).toMatchObject({ overall_code: OK, statuses: [{ current_limit: { name: 'per-user' } }] });
    expect(await metric(limiter, series)).toBe(before + 1);
  });

  it.each<[number, number]>([
    [104_249, DAY],
    [4_294_967_295, SECOND],
  ])('may be as large as counters can hold: %d in unit %d', async (requests, unit) => {
    const answer = await ask({ user: `large ${unit}` }, limitOf(requests, unit));
    expect(answer.statuses[0]).toMatchObject({ code: OK, limit_remaining: requests - 1 });
  });

  it('says nothing about a domain that no policy speaks of', async () => {
    const asked = { domain: 'nobody.knows', descriptors: [descriptor({ a: 'b' }, limitOf(0))] };
    expect(await client.shouldRateLimit(asked)).toMatchObject({
      overall_code: OK,
      statuses: [{ current_limit: null }],
    });
  });

  it('is not believed of a caller that is not trusted', async () => {
    const doors = { trustedCallers: ['192.0.2.0/24'] };
    const suspicious = await startTestLimiter({ redisUrl: server.url, pod: 'pod-suspicious', doors });
    const stranger = rlsClient(suspicious.grpcAddress);
    try {
      await untilRevision(suspicious, 1);
      const answer = await ask({ user: 'stranger' }, limitOf(1_000), stranger);
      expect(answer).toMatchObject({ overall_code: OK, statuses: [{ current_limit: { name: 'per-user' } }] });
      expect(await metric(suspicious, 'sluice_untrusted_words_total{kind="limit"}')).toBe(1);
    } finally {
      stranger.close();
      await suspicious.stop();
    }
  });

  it('is the same in JSON', async () => {
    const entries = [{ key: 'user', value: 'json' }];
    const limit = { requestsPerUnit: 1, unit: 'MINUTE' };
    const json = (): ReturnType<typeof post> =>
      post(`${limiter.url}/json`, JSON.stringify({ domain: 'payments', descriptors: [{ entries, limit }] }));
    expect(await json()).toMatchObject({ status: 200 });
    expect(await json()).toMatchObject({
      status: 429,
      body: { statuses: [{ currentLimit: { name: 'limit-per-minute', requestsPerUnit: 1, unit: 'MINUTE' } }] },
    });
  });

  it('has a share of its own in each domain while Redis is away', async () => {
    const own = await privateRedis();
    const limits = [{ windowSeconds: 60, requests: 9 }];
    const rules = [{ name: 'all', countBy: ['global' as const], algorithm: 'TokenBucket' as const, limits }];
    const policies = [aPolicy({ rules }), aPolicy({ domain: 'payments.eu', rules }, 'european')];
    await publishEntries(targetOn(own), policies);
    const alone = await startTestLimiter({ redisUrl: own.url });
    const asking = rlsClient(alone.grpcAddress);
    const reasonIn = async (domain: string): Promise<unknown> => {
      const answer = await asking.shouldRateLimit({ domain, descriptors: [descriptor({ plan: 'gold' }, limitOf(1))] });
      return plainFields(answer.dynamic_metadata)['reason'];
    };
    try {
      await untilRevision(alone, 1);
      await own.stopServer();
      await eventually(async () => expect(await metric(alone, 'sluice_redis_reachable')).toBe(0));
      expect([await reasonIn('payments'), await reasonIn('payments')]).toEqual([
        'LOCAL_FALLBACK',
        'LOCAL_FALLBACK_EXCEEDED',
      ]);
      expect(await reasonIn('payments.eu')).toBe('LOCAL_FALLBACK');
    } finally {
      asking.close();
      await alone.stop();
      await own.stop();
    }
  });
});
