import { request as httpRequest } from 'node:http';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { metric, PEPPER, startTestLimiter, targetOn, type TestLimiter, untilRevision } from '../../harness/limiter.ts';
import { aPolicy, publishEntries, publishKeys } from '../../harness/publish.ts';
import { type PrivateRedis, privateRedis } from '../../harness/redis.ts';

const bucket = { algorithm: 'TokenBucket' } as const;
const limits = (requests: number) => [{ windowSeconds: 3_600, requests }];

let server: PrivateRedis;
let limiter: TestLimiter;
let suspicious: TestLimiter;

beforeAll(async () => {
  server = await privateRedis();
  const { revision } = await publishEntries(targetOn(server), [
    aPolicy({
      domain: 'payments',
      rules: [
        { ...bucket, name: 'per-consumer', countBy: ['consumer'], limits: limits(2) },
        {
          ...bucket,
          name: 'writes',
          match: { methods: ['POST'], paths: [{ type: 'Prefix', value: '/v1' }] },
          countBy: ['global'],
          limits: limits(1),
        },
      ],
    }),
    aPolicy(
      {
        domain: 'payments.routes',
        rules: [
          {
            ...bucket,
            name: 'per-route',
            match: {
              paths: [
                { type: 'Template', value: '/{first}' },
                { type: 'Template', value: '/{first}/{second}' },
              ],
            },
            countBy: ['route', 'method', 'clientIP'],
            limits: limits(1_000),
          },
        ],
      },
      'routes',
    ),
  ]);
  await publishKeys(targetOn(server), [{ key: 'good-key', consumer: 'acme' }], PEPPER);
  limiter = await startTestLimiter({ redisUrl: server.url });
  suspicious = await startTestLimiter({
    redisUrl: server.url,
    pod: 'pod-b',
    doors: { trustedProxyCIDRs: ['192.0.2.0/24'] },
  });
  await Promise.all([limiter, suspicious].map((one) => untilRevision(one, revision)));
});
afterAll(async () => {
  await Promise.all([limiter, suspicious].map((one) => one.stop()));
  await server.stop();
});

type Reply = { readonly status: number; readonly headers: NodeJS.Dict<string | string[]>; readonly text: string };

/** Sends the path as it is: fetch would tidy it up. */
function ask(
  path: string,
  headers: Record<string, string> = {},
  { method = 'GET', to = limiter } = {},
): Promise<Reply> {
  const { hostname, port } = new URL(to.url);
  return new Promise((resolve, reject) => {
    const request = httpRequest({ hostname, port, path, method, headers }, (response) => {
      let text = '';
      response.on('data', (chunk: Buffer) => (text += chunk.toString()));
      response.on('end', () => resolve({ status: response.statusCode ?? 0, headers: response.headers, text }));
    });
    request.on('error', reject);
    request.end();
  });
}

const from = (address: string, more: Record<string, string> = {}): Record<string, string> => ({
  'x-forwarded-for': address,
  ...more,
});

/** How many requests the limit has left, which tells whether two requests were one client's. */
const left = ({ headers }: Reply): string => String(headers['x-ratelimit-remaining']);

describe('/authz', () => {
  it('is exactly 200 on allow, and 429 with headers and a problem on deny', async () => {
    const client = from('198.51.100.1', { 'x-request-id': 'r-1' });
    const allowed = await ask('/authz/payments/v2', client);
    expect(allowed).toMatchObject({ status: 200, text: '' });
    expect(allowed.headers).toMatchObject({
      'x-ratelimit-limit': '2',
      'x-ratelimit-remaining': '1',
      'x-ratelimit-strategy': 'token_bucket',
      'ratelimit-policy': '"per-consumer";q=2;w=3600',
      'x-request-id': 'r-1',
    });
    await ask('/authz/payments/v2', client);
    const denied = await ask('/authz/payments/v2', client);
    expect(denied.status).toBe(429);
    expect(denied.headers['content-type']).toBe('application/problem+json');
    expect(denied.headers['retry-after']).toMatch(/^\d+$/);
    expect(JSON.parse(denied.text)).toEqual({
      type: 'https://iana.org/assignments/http-problem-types#quota-exceeded',
      title: 'Request cannot be satisfied as assigned quota has been exceeded',
      status: 429,
      code: 'RATE_LIMIT_EXCEEDED',
      detail: 'too many requests',
      'violated-policies': ['per-consumer'],
      request_id: 'r-1',
    });
  });

  it('is 403 on deny where the gateway asks for that, with the same headers', async () => {
    const client = from('198.51.100.2');
    for (let i = 0; i < 2; i += 1) expect((await ask('/authz403/payments/', client)).status).toBe(200);
    const denied = await ask('/authz403/payments/', client);
    expect(denied.status).toBe(403);
    expect(denied.headers['retry-after']).toMatch(/^\d+$/);
  });

  it('is 401 for a key that is not valid, in either form', async () => {
    for (const door of ['authz', 'authz403']) {
      const reply = await ask(`/${door}/payments/`, { 'x-api-key': 'bad-key' });
      expect(reply.status).toBe(401);
      expect(JSON.parse(reply.text)).toMatchObject({ code: 'INVALID_API_KEY' });
    }
    expect((await ask('/authz/payments/', { 'x-api-key': 'good-key' })).status).toBe(200);
  });

  it('allows a domain that no policy speaks of', async () => {
    expect((await ask('/authz/nobody.knows/')).status).toBe(200);
  });

  it.each(['/authz', '/authz/', '/authz//x', '/authz/UPPER/x', '/authz/a b/x'])(
    'without a domain is a 404: %s',
    async (path) => {
      const reply = await ask(encodeURI(path));
      expect(reply.status).toBe(404);
    },
  );

  it.each(['GET', 'POST', 'PUT', 'DELETE', 'PATCH', 'OPTIONS', 'HEAD'])('answers any method: %s', async (method) => {
    expect((await ask('/authz/nobody.knows/a', {}, { method })).status).toBe(200);
  });
});

describe('the path', () => {
  const route = (path: string, headers: Record<string, string> = {}, options = {}): Promise<Reply> =>
    ask(path, from('198.51.100.3', headers), options);

  it('is what the gateway appends to the domain (Envoy), with its method', async () => {
    const client = from('198.51.100.4');
    expect((await ask('/authz/payments/v1/pay', client, { method: 'POST' })).status).toBe(200);
    expect((await ask('/authz/payments/v1/pay', from('198.51.100.5'), { method: 'POST' })).status).toBe(429);
    expect((await ask('/authz/payments/v1/pay', from('198.51.100.5'), { method: 'GET' })).status).toBe(200);
  });

  it.each([
    ['Traefik', { 'x-forwarded-method': 'POST', 'x-forwarded-uri': '/traefik/{name}?q=1' }],
    ['nginx', { 'x-original-method': 'POST', 'x-original-uri': '/nginx/x?q=1' }],
    ['HAProxy with a whole URL', { 'x-original-method': 'POST', 'x-original-uri': 'https://example.com/haproxy/x' }],
  ])('comes from the headers of %s where none is appended', async (_name, headers) => {
    for (const suffix of ['', '/']) {
      const { status } = await route(`/authz/payments.routes${suffix}`, headers);
      expect(status).toBe(200);
    }
    const asPost = await route('/authz/payments.routes', headers);
    const asGet = await route('/authz/payments.routes', {
      ...headers,
      'x-forwarded-method': 'GET',
      'x-original-method': 'GET',
    });
    expect([left(asPost), left(asGet)]).toEqual([left(asPost), expect.not.stringMatching(`^${left(asPost)}$`)]);
  });

  it('is not the client’s to choose by headers where the gateway appends it', async () => {
    const first = await route('/authz/payments.routes/appended');
    const second = await route('/authz/payments.routes/appended', {
      'x-forwarded-uri': '/elsewhere',
      'x-original-uri': '/b',
    });
    expect(Number(left(second))).toBe(Number(left(first)) - 1);
  });

  it('that two headers say differently is refused: one of them is the client’s', async () => {
    const reply = await route('/authz/payments.routes', { 'x-forwarded-uri': '/a', 'x-original-uri': '/b' });
    expect(reply.status).toBe(400);
    expect(reply.text).toContain('contradict each other');
    expect((await route('/authz403/payments.routes', { 'x-forwarded-uri': '/a', 'x-original-uri': '/b' })).status).toBe(
      403,
    );
  });

  it.each(['/authz/payments/%zz', '/authz/payments/a%00b'])('that is broken is a denial: %s', async (path) => {
    expect((await ask(path)).status).toBe(400);
    expect((await ask(path.replace('authz', 'authz403'))).status).toBe(403);
  });

  it('has no query: what the client writes there decides nothing', async () => {
    const plain = await route('/authz/payments.routes/query');
    const asked = await route('/authz/payments.routes/query?domain=other&deny_status=403&x-api-key=good-key');
    expect(Number(left(asked))).toBe(Number(left(plain)) - 1);
  });
});

describe('the client’s address', () => {
  it('is the first from the right that is no trusted proxy', async () => {
    const direct = await ask('/authz/payments/a', from('203.0.113.1'));
    const spoofed = await ask('/authz/payments/a', from('8.8.8.8, 203.0.113.1, 10.0.0.7'));
    expect([left(direct), left(spoofed)]).toEqual(['1', '0']);
  });

  it('is the connection’s when the peer is not trusted, whatever it says', async () => {
    const one = await ask('/authz/payments/a', from('203.0.113.2'), { to: suspicious });
    const other = await ask('/authz/payments/a', from('203.0.113.3'), { to: suspicious });
    expect([left(one), left(other)]).toEqual(['1', '0']);
    // Nor is it believed about the path.
    const forwarded = 'sluice_untrusted_words_total{kind="forwarded"}';
    const before = await metric(suspicious, forwarded);
    const reply = await ask('/authz/payments.routes', { 'x-forwarded-uri': '/x/y' }, { to: suspicious });
    expect(await metric(suspicious, forwarded)).toBe(before + 1);
    expect(reply.headers['x-ratelimit-remaining']).toBeUndefined();
  });
});

describe('a request that is subject to several limits', () => {
  it('is told of all of them, the tightest first', async () => {
    const { headers } = await ask('/authz/payments/v1', { 'x-forwarded-for': '203.0.113.77' }, { method: 'POST' });
    expect(headers['ratelimit-policy']).toBe('"writes";q=1;w=3600, "per-consumer";q=2;w=3600');
    expect(headers['ratelimit']).toMatch(/^"writes";r=0;t=\d+, "per-consumer";r=[12];t=\d+$/);
    expect(headers['x-ratelimit-limit']).toBe('1');
  });
});
