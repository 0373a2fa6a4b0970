// The ACL users of docs/operations.md, on a real Redis: enough for the roles, and for nothing else.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Redis } from 'ioredis';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { hashOfKey } from '../../policy/api-key.ts';
import { findUnsafeDocuments } from '../../store/configuration.ts';
import { createNames } from '../../store/names.ts';
import { eventually } from '../harness/eventually.ts';
import { startSluice, type SluiceProcess } from '../harness/processes.ts';
import { freePort, type PrivateRedis, privateRedis } from '../harness/redis.ts';

const OPERATIONS = readFileSync(join(import.meta.dirname, '../../docs/operations.md'), 'utf8');
const PASSWORD = 'a-password-of-the-tests';
const ROLES = ['operator', 'limiter'] as const;
type Role = (typeof ROLES)[number];

/** The rules of a user as the page shows them, with a password in the place of PASSWORD. */
function rulesOf(role: Role): string {
  const text = new RegExp(`^user sluice-${role} (?:.*\\\\\\n)*.*$`, 'm').exec(OPERATIONS)?.[0];
  if (text === undefined) throw new Error(`docs/operations.md has no user sluice-${role}`);
  return text.replaceAll(/\\\n\s*/g, '').replace('PASSWORD', PASSWORD);
}

const folder = mkdtempSync(join(tmpdir(), 'sluice-acl-'));
const aclFile = join(folder, 'users.acl');
const policy = {
  apiVersion: 'sluice.dev/v1alpha1',
  kind: 'RateLimitPolicy',
  metadata: { name: 'demo', namespace: 'demo' },
  spec: {
    rules: [
      {
        name: 'bucket',
        algorithm: 'TokenBucket',
        countBy: ['consumer'],
        limits: [{ windowSeconds: 3600, requests: 2 }],
      },
      {
        name: 'log',
        algorithm: 'SlidingWindowLog',
        countBy: ['global'],
        limits: [{ windowSeconds: 3600, requests: 9 }],
      },
    ],
    penalty: {
      countBy: ['consumer'],
      tolerancePercent: 0,
      violationWindowSeconds: 600,
      minSecondsPerStep: 1,
      warn: { violations: 1, forSeconds: 600 },
    },
  },
};
const consumer = {
  apiVersion: 'sluice.dev/v1alpha1',
  kind: 'Consumer',
  metadata: { name: 'bob', namespace: 'demo' },
  spec: { apiKeyHashes: [`sha256:${hashOfKey('key-of-bob')}`] },
};
const processes: SluiceProcess[] = [];
const ports = { http: 0, ops: 0 };
let server: PrivateRedis;
let users: Readonly<Record<Role, Redis>>;

const urlOf = (role: Role): string => `redis://sluice-${role}:${PASSWORD}@127.0.0.1:${server.port}`;

beforeAll(async () => {
  // JSON is YAML.
  for (const object of [policy, consumer]) writeFileSync(join(folder, `${object.kind}.yaml`), JSON.stringify(object));
  writeFileSync(aclFile, `user default on nopass ~* &* +@all\n${ROLES.map(rulesOf).join('\n')}\n`);
  server = await privateRedis(['--aclfile', aclFile]);
  users = { operator: new Redis(urlOf('operator')), limiter: new Redis(urlOf('limiter')) };
  const shared = { SLUICE_PEPPER: 'a pepper that is only for tests', SLUICE_HOST: '127.0.0.1' };
  const [http, grpc, ops] = [await freePort(), await freePort(), await freePort()];
  Object.assign(ports, { http, ops });
  processes.push(
    startSluice(['operator', '--resources', folder, '--ops-port', '0'], {
      ...shared,
      SLUICE_REDIS_URL: urlOf('operator'),
    }),
    startSluice(['limiter', '--port', `${http}`, '--grpc-port', `${grpc}`, '--ops-port', `${ops}`, '--drain-ms', '0'], {
      ...shared,
      SLUICE_REDIS_URL: urlOf('limiter'),
      // Long, so that a slow machine is not taken for a slow Redis.
      SLUICE_REDIS_DEADLINE_MS: '20000',
    }),
  );
});
afterAll(async () => {
  await Promise.all(processes.map((process) => process.stop()));
  for (const redis of Object.values(users)) redis.disconnect();
  await server.stop();
  rmSync(folder, { recursive: true });
});

async function post(port: number, path: string, body: unknown): Promise<Record<string, unknown>> {
  const response = await fetch(`http://127.0.0.1:${port}${path}`, { method: 'POST', body: JSON.stringify(body) });
  return (await response.json()) as Record<string, unknown>;
}

const printed = (): string => processes.map((process) => process.output()).join('\n');

describe('the ACL users', () => {
  it('let an operator publish and a limiter acknowledge, decide, refund and look for keys, and nothing was refused', async () => {
    await eventually(async () => {
      const { status } = await fetch(`http://127.0.0.1:${ports.ops}/readyz`);
      if (status !== 200) throw new Error(printed());
    }, 60_000);
    const names = await eventually(async () => {
      const pods = await server.redis.hkeys('sluice:default:{config}:pods');
      if (pods.length === 0) throw new Error(`no acknowledgement\n${printed()}`);
      return pods;
    }, 30_000);
    expect(names).toHaveLength(1);
    const check = (more: object) => post(ports.http, '/v1/decision/check', { ...CHECK, ...more });
    expect(await check({ request_id: 'r-1', refundable: true })).toMatchObject({
      reason: 'WITHIN_LIMIT',
      refundable: true,
    });
    expect(await post(ports.http, '/v1/decision/refund', { request_id: 'r-1' })).toMatchObject({ refunded: true });
    const reasons = [];
    for (let request = 0; request < 4; request += 1) reasons.push((await check({}))['reason']);
    expect(reasons).toEqual(['WITHIN_LIMIT', 'WITHIN_LIMIT', 'RATE_LIMIT_EXCEEDED', 'RATE_LIMIT_EXCEEDED']);
    const withKey = { domain: 'demo', ip: CHECK.ip };
    expect(await post(ports.http, '/v1/decision/check', { ...withKey, api_key: 'key-of-bob' })).toMatchObject({
      reason: 'WITHIN_LIMIT',
    });
    await post(ports.http, '/v1/decision/check', { ...withKey, api_key: 'of nobody' });
    const config = createNames('default');
    const manifest = (await server.redis.hget(config.head, 'manifest')) ?? '';
    expect(await findUnsafeDocuments(users.operator, config, [manifest])).toEqual([]);
    const written = (await server.redis.keys('*')).map((key) => key.split(':')[2]);
    expect(new Set(written)).toEqual(new Set(['{config}', '{keys}', 'c1', 'p1', 'pi1', 'ip1']));
    expect(await server.redis.call('acl', 'log')).toEqual([]);
  });

  it.each(ROLES)('keep the %s from what is not its own, also inside scripts', async (role) => {
    const forbidden = [
      ['flushall'],
      ['flushdb'],
      ['config', 'get', '*'],
      ['keys', '*'],
      ['scan', '0'],
      ['acl', 'list'],
      ['script', 'flush'],
      ['function', 'list'],
      ['monitor'],
      ['get', 'other'],
      ['set', 'other', '1'],
      ['publish', 'other', '1'],
      ['get', 'sluice:other:{config}:head'],
      ['subscribe', 'other'],
    ];
    const outcomes = await Promise.all(forbidden.map((command) => outcomeOf(role, command)));
    expect(outcomes).toEqual(forbidden.map((command) => `${command.join(' ')}: NOPERM`));
    // Not even with a key of its own for the script: each command in it is looked at.
    const inScripts = forbidden.filter(([name]) => name !== 'monitor' && name !== 'subscribe');
    const own = `sluice:default:{config}:pods`;
    const inside = await Promise.all(
      inScripts.map((command) => outcomeOf(role, ['eval', 'return redis.call(unpack(ARGV))', '1', own, ...command])),
    );
    expect(inside.filter((outcome) => !/NOPERM|not allowed from script/.test(outcome))).toEqual([]);
  });

  it.each(['{config}:head', '{config}:doc:x', '{keys}:complete', '{keys}:key:x'])(
    'keep the limiter from writing %s, also inside scripts',
    async (name) => {
      const key = `sluice:default:${name}`;
      for (const command of [
        ['del', key],
        ['hset', key, 'a', '1'],
        ['set', key, '1'],
        ['pexpire', key, '1'],
      ]) {
        expect(await outcomeOf('limiter', command)).toContain('NOPERM');
        const [verb, , ...rest] = command;
        const script = 'return redis.call(ARGV[1], KEYS[1], unpack(ARGV, 2))';
        const inside = await outcomeOf('limiter', ['eval', script, '1', key, verb ?? '', ...rest]);
        expect(inside).toContain('NOPERM');
      }
    },
  );

  it('keep the operator from the counters', async () => {
    expect(await outcomeOf('operator', ['del', 'sluice:default:c1:{x}:y'])).toContain('NOPERM');
  });
});

/** By the ACL: of a command, and of a command inside a script. */
const REFUSED = /^NOPERM|The user executing the script can't/;

const CHECK = { domain: 'demo', consumer: 'alice', method: 'GET', path: '/api/data', ip: '203.0.113.9' };

/** What Redis says to a command of this user: NOPERM, another error, or that it did it. */
async function outcomeOf(role: Role, [name = '', ...args]: readonly string[]): Promise<string> {
  const said = await users[role].call(name, args).then(
    () => 'done',
    (error: unknown) => (error instanceof Error ? error.message : String(error)),
  );
  const outcome = REFUSED.test(said) ? 'NOPERM' : said;
  return `${[name, ...args].join(' ')}: ${outcome}`;
}
