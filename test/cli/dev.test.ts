import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { eventually } from '../harness/eventually.ts';
import { type SluiceProcess, startSluice } from '../harness/processes.ts';
import { rlsClient } from '../harness/rls-client.ts';
import { freePort, privateRedis, type PrivateRedis } from '../harness/redis.ts';

const EXAMPLES = join(import.meta.dirname, '../../examples/dev');
/** Away from what else may run, and below the local ends of connections: the ports are 3000, 8080, ... above it. */
const PORT_BASE = 10_000 + (process.pid % 1_000) * 10;
const DEMO = `http://127.0.0.1:${PORT_BASE + 3_000}`;
const LIMITERS = [`http://127.0.0.1:${PORT_BASE + 8_080}`, `http://127.0.0.1:${PORT_BASE + 8_180}`] as const;

let folder: string;
let redis: PrivateRedis;
let dev: SluiceProcess;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'sluice-dev-'));
  cpSync(EXAMPLES, folder, { recursive: true });
  redis = await privateRedis();
  dev = startSluice(['dev', '--resources', folder], { PORT_BASE: String(PORT_BASE), REDIS_URL: redis.url });
  await eventually(() => expect(dev.output()).toMatch(/ready$/m), 120_000);
});
afterAll(async () => {
  await dev.stop();
  await redis.stop();
  rmSync(folder, { recursive: true });
});

function edit(file: string, from: string, to: string): void {
  const path = join(folder, file);
  const text = readFileSync(path, 'utf8');
  expect(text).toContain(from);
  writeFileSync(path, text.replace(from, to));
}

/** How many of `count` requests are answered with each status. */
async function tally(
  path: string,
  count: number,
  headers: Record<string, string> = {},
): Promise<Record<number, number>> {
  const statuses: Record<number, number> = {};
  for (let i = 0; i < count; i += 1) {
    const { status } = await fetch(`${DEMO}${path}`, { headers });
    statuses[status] = (statuses[status] ?? 0) + 1;
  }
  return statuses;
}

async function plainCheck(
  limiter: string,
  identifier: string,
  tier: string,
): Promise<{ status: number; body: unknown }> {
  const response = await fetch(`${limiter}/check`, { method: 'POST', body: JSON.stringify({ identifier, tier }) });
  return { status: response.status, body: await response.json() };
}

describe('sluice dev', () => {
  it('limits each endpoint of the demo application as its policy says', async () => {
    expect(await tally('/api/data', 12)).toEqual({ 200: 10, 429: 2 });
    expect(await tally('/api/upload', 7)).toEqual({ 201: 5, 429: 2 });
    const search = await tally('/api/search', 40);
    // Thirty at once, then one every two seconds for as long as this took.
    expect(search[200]).toBeGreaterThanOrEqual(30);
    expect(search[429]).toBeGreaterThanOrEqual(1);
  });

  it("has Envoy's rate limit service on both limiters", async () => {
    for (const port of [8_081, 8_181]) {
      const client = rlsClient(`127.0.0.1:${PORT_BASE + port}`);
      expect(await client.health()).toEqual({ status: 1 });
      client.close();
    }
  });

  it('answers denied requests with the numbers that a client needs', async () => {
    const response = await fetch(`${DEMO}/api/data`);
    expect(response.status).toBe(429);
    expect(response.headers.get('content-type')).toContain('application/problem+json');
    expect(response.headers.get('x-ratelimit-limit')).toBe('10');
    expect(response.headers.get('x-ratelimit-remaining')).toBe('0');
    expect(response.headers.get('x-ratelimit-strategy')).toBe('sliding_window');
    expect(Number(response.headers.get('retry-after'))).toBeGreaterThan(0);
    expect(await response.json()).toMatchObject({ status: 429, reason: 'RATE_LIMIT_EXCEEDED' });
  });

  it.each([
    ['demo_free_key_123', 20],
    ['demo_free_key_456', 20],
    ['demo_pro_key_789', 150],
    ['demo_enterprise_key_abc', 1000],
    ['test-client', 20],
    [undefined, 20],
  ])('gives API key %s %d requests on /test', async (key, limit) => {
    const response = await fetch(`${DEMO}/test`, { headers: key === undefined ? {} : { 'x-api-key': key } });
    expect(response.status).toBe(200);
    expect(response.headers.get('x-ratelimit-limit')).toBe(String(limit));
    expect(response.headers.get('x-ratelimit-remaining')).toBe(String(limit - 1));
  });

  it.each(['/api/data/', '/API/data'])('has no way around the limit at %s', async (path) => {
    expect(await tally(path, 1)).toEqual({ 404: 1 });
  });

  it('turns an unknown API key away', async () => {
    expect(await tally('/test', 1, { 'x-api-key': 'nobody has this key' })).toEqual({ 401: 1 });
  });

  it('answers POST /check on both limiters from one counter', async () => {
    const first = await plainCheck(LIMITERS[0], 'test-client', 'free');
    const second = await plainCheck(LIMITERS[1], 'test-client', 'free');
    expect(first).toMatchObject({
      status: 200,
      body: { allowed: true, tokens_remaining: 19, limit: 20, retry_after: null },
    });
    expect(second).toMatchObject({
      status: 200,
      body: { allowed: true, tokens_remaining: 18, limit: 20, retry_after: null },
    });
  });

  it('counts what it answered in the last hour', async () => {
    const before = (await (await fetch(`${DEMO}/metrics`)).json()) as {
      total: number;
      allowed: number;
      blocked: number;
    };
    expect(before.total).toBe(before.allowed + before.blocked);
    await tally('/test', 3, { 'x-api-key': 'demo_enterprise_key_abc' });
    await tally('/api/data', 2);
    expect(await (await fetch(`${DEMO}/metrics`)).json()).toMatchObject({
      allowed: before.allowed + 3,
      blocked: before.blocked + 2,
    });
    expect(await (await fetch(`${DEMO}/health`)).json()).toEqual({ status: 'ok' });
  });

  it('degrades and recovers on both limiters when system-health.yaml is saved', async () => {
    const limits = (): Promise<unknown[]> =>
      Promise.all(
        LIMITERS.map(async (limiter, i) => {
          const body = JSON.stringify({ domain: 'demo.tiers', consumer: `new-${i}`, tier: 'free' });
          const response = await fetch(`${limiter}/v1/decision/check`, { method: 'POST', body });
          const { limit, mode } = (await response.json()) as { limit: number; mode: string };
          return [limit, mode];
        }),
      );
    expect(await limits()).toEqual([
      [20, 'NORMAL'],
      [20, 'NORMAL'],
    ]);
    edit('system-health.yaml', 'mode: NORMAL', 'mode: DEGRADED');
    await eventually(async () =>
      expect(await limits()).toEqual([
        [2, 'DEGRADED'],
        [2, 'DEGRADED'],
      ]),
    );
    const status = await tally('/test', 4, { 'x-api-key': 'demo_pro_key_789' });
    expect(status).toEqual({ 200: 4 });
    edit('system-health.yaml', 'mode: DEGRADED', 'mode: NORMAL');
    await eventually(async () =>
      expect(await limits()).toEqual([
        [20, 'NORMAL'],
        [20, 'NORMAL'],
      ]),
    );
  });

  it('takes a saved edit into force at once, counters and all', async () => {
    edit('endpoints.yaml', 'requests: 10', 'requests: 12');
    await eventually(async () => expect((await fetch(`${DEMO}/api/data`)).headers.get('x-ratelimit-limit')).toBe('12'));
    const { headers } = await fetch(`${DEMO}/api/data`);
    expect(Number(headers.get('x-ratelimit-remaining'))).toBeLessThanOrEqual(1);
  });

  it('says file, line and field of an invalid value, and keeps what was in force', async () => {
    edit('endpoints.yaml', 'requests: 12', 'requests: 0');
    await eventually(() =>
      expect(dev.output()).toMatch(
        /endpoints\.yaml:11:37: spec\.rules\[0\]\.limits\[0\]\.requests: 0 is not allowed: must be at least 1/,
      ),
    );
    expect(dev.output()).toContain('stays in force');
    expect((await fetch(`${DEMO}/api/data`)).headers.get('x-ratelimit-limit')).toBe('12');
    edit('endpoints.yaml', 'requests: 0', 'requests: 12');
  });

  it('says where YAML breaks, or a field is unknown, and loses nothing', async () => {
    edit('tiers.yaml', 'countBy: [consumer]', 'countBy: [consumer');
    await eventually(() => expect(dev.output()).toMatch(/tiers\.yaml:\d+:\d+: .*before stays in force/));
    expect(await plainCheck(LIMITERS[0], 'someone', 'pro')).toMatchObject({ status: 200, body: { limit: 150 } });
    edit('tiers.yaml', 'countBy: [consumer', 'countBy: [consumer]');
    edit('tiers.yaml', 'limitsFrom: Tier', 'limitsFrom: Tier\n      colour: red');
    await eventually(() =>
      expect(dev.output()).toMatch(/tiers\.yaml:\d+:\d+: spec\.rules\[0\]\.colour: there is no such field/),
    );
    expect(await plainCheck(LIMITERS[1], 'someone', 'pro')).toMatchObject({ status: 200, body: { limit: 150 } });
    edit('tiers.yaml', '\n      colour: red', '');
  });

  it('lets go of everything on SIGTERM', async () => {
    expect(await dev.stop()).toBe(0);
    for (const port of [3_000, 8_080, 8_081, 8_180, 8_181, 9_090, 9_190])
      await expect(reach(PORT_BASE + port)).rejects.toThrow('ECONNREFUSED');
  });
});

describe('sluice dev on a machine without a Redis of its own', () => {
  it('starts a Redis, and stops it with everything else', { timeout: 180_000 }, async () => {
    const base = PORT_BASE + 1_000;
    const own = startSluice(['dev', '--resources', folder], { PORT_BASE: String(base), REDIS_URL: '' });
    await eventually(() => expect(own.output()).toMatch(/ready$/m), 120_000);
    const startedAt = /started a Redis at redis:\/\/127\.0\.0\.1:(\d+)/.exec(own.output())?.[1];
    expect(startedAt ?? own.output()).toMatch(/^\d+$|using the Redis at/);
    expect(await own.stop()).toBe(0);
    // Where there was one on the usual port, any port stands for the one that was not started.
    await expect(reach(startedAt === undefined ? await freePort() : Number(startedAt))).rejects.toThrow('ECONNREFUSED');
  });

  it('ends with the reason when the directory is not there', async () => {
    const lost = startSluice(['dev', '--resources', join(folder, 'nowhere')], {
      PORT_BASE: String(PORT_BASE + 2_000),
      REDIS_URL: redis.url,
    });
    expect(await lost.exited()).toBe(1);
    expect(lost.output()).toContain('nowhere');
  });

  it('refuses a PORT_BASE that leaves no room, and says what is allowed', async () => {
    const refused = startSluice(['dev', '--resources', folder], { PORT_BASE: '60000' });
    await eventually(() =>
      expect(refused.output()).toContain('PORT_BASE "60000" is not allowed: must be a whole number from 0 to 49156'),
    );
    expect(await refused.exited()).toBe(1);
  });
});

function reach(port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const socket = connect(port, '127.0.0.1', () => {
      socket.destroy();
      resolve();
    });
    socket.once('error', reject);
  });
}
