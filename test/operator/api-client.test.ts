import { once } from 'node:events';
import { createServer, type RequestListener, type Server } from 'node:http';
import { afterEach, describe, expect, it } from 'vitest';
import { ApiClient, type ApiClientOptions, type ClientObserver } from '../../operator/kubernetes/api-client.ts';
import { RateLimit } from '../../operator/kubernetes/rate-limit.ts';
import { kubeConfigFor, refuse } from '../harness/api-proxy.ts';

let server: Server;
let client: ApiClient;
afterEach(async () => {
  await client.close();
  server.closeAllConnections();
  server.close();
});

async function against(listener: RequestListener, options: ApiClientOptions = {}): Promise<ApiClient> {
  server = createServer(listener);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  client = new ApiClient(kubeConfigFor(typeof address === 'object' ? (address?.port ?? 0) : 0), options);
  return client;
}

describe('a call to the API server', () => {
  it('ends at its deadline, whether the answer never begins or never ends', async () => {
    await against(() => undefined, { deadlineMillis: 50 });
    await expect(client.call('/')).rejects.toMatchObject({ name: 'TimeoutError' });
    await against((_request, response) => void response.write('{'), { deadlineMillis: 50 });
    await expect(client.call('/')).rejects.toMatchObject({ name: 'TimeoutError' });
  });

  it('waits as long as a busy server says, and is sent again; not if it is urgent', async () => {
    const times: number[] = [];
    await against((_request, response) => {
      times.push(performance.now());
      if (times.length % 2 === 1) refuse(response, 429, { headers: { 'retry-after': '1' } });
      else response.end('{"ok":true}');
    });
    expect(await client.call('/')).toEqual({ ok: true });
    expect((times[1] ?? 0) - (times[0] ?? 0)).toBeGreaterThanOrEqual(950);
    await expect(client.call('/', { isUrgent: true })).rejects.toMatchObject({ status: 429, retryAfterMillis: 1000 });
  });

  it('that fails says what the server means for people, and nothing of the credentials', async () => {
    await against((_request, response) =>
      refuse(response, 403, { reason: 'Forbidden', headers: { 'x-secret': 's3cret' } }),
    );
    const failure: unknown = await client.call('/').catch((error: unknown) => error);
    expect(String(failure)).toBe('ApiError: the API server answered 403 Forbidden: a fault of the test');
    expect(JSON.stringify(failure)).not.toContain('s3cret');
  });

  it('is counted with its code, or as an error if there is none', async () => {
    const codes: string[] = [];
    const observer: ClientObserver = {
      onRequest: ({ method, code }) => codes.push(`${method} ${code}`),
      onRateLimited: () => undefined,
      onRetry: (_method, _host, code) => codes.push(`again ${code}`),
    };
    let requests = 0;
    await against(
      (_request, response) => {
        requests += 1;
        if (requests === 1) refuse(response, 503, { headers: { 'retry-after': '0.01' } });
        else if (requests === 2) response.end('{}');
        else response.destroy();
      },
      { observer },
    );
    await client.call('/', { method: 'POST', body: {} });
    await client.call('/').catch(() => undefined);
    expect(codes).toEqual(['POST 503', 'again 503', 'POST 200', 'GET <error>']);
  });
});

describe('our own rate', () => {
  it('lets a burst pass, then one after the other, in order', async () => {
    await against(() => undefined);
    let now = 0;
    const limit = new RateLimit(50, 2, () => now);
    const { signal } = new AbortController();
    const waits = await Promise.all([1, 2, 3, 4].map(() => limit.take(signal)));
    expect(waits).toEqual([0, 0, 0.02, 0.04]);
    now = 10_000;
    expect(await limit.take(signal)).toBe(0);
  });

  it('gives up waiting when the caller does', async () => {
    await against(() => undefined);
    const limit = new RateLimit(0.001, 1);
    const { signal } = new AbortController();
    expect(await limit.take(signal)).toBe(0);
    await expect(limit.take(AbortSignal.timeout(10))).rejects.toMatchObject({ name: 'AbortError' });
  });
});
