import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { limiterOptions, limiterSettings } from '../../cli/settings/limiter.ts';
import { operatorOptions, operatorSettings } from '../../cli/settings/operator.ts';
import { SettingsError } from '../../cli/settings/setting.ts';
import { DOOR_DEFAULTS } from '../../limiter/door-settings.ts';
import { eventually } from '../harness/eventually.ts';
import { startSluice } from '../harness/processes.ts';

const PEPPER = 'sixteen characters';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'sluice-settings-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

const presets = Object.fromEntries(limiterOptions().map((option) => [option.attributeName(), option.defaultValue]));

const operatorPresets = Object.fromEntries(
  operatorOptions().map((option) => [option.attributeName(), option.defaultValue]),
);

function errorsOf(read: () => unknown): string[] {
  try {
    read();
  } catch (error) {
    if (error instanceof SettingsError) return error.message.split('\n');
    throw error;
  }
  return [];
}

describe('settings', () => {
  it('have defaults for everything but the pepper', () => {
    expect(limiterSettings({ ...presets, pepper: PEPPER })).toEqual({
      redisUrl: 'redis://127.0.0.1:6379',
      installation: 'default',
      owner: 'default',
      pepper: PEPPER,
      logLevel: 'info',
      host: '0.0.0.0',
      port: 8080,
      opsPort: 9090,
      pod: hostname(),
      previousPepper: undefined,
      unknownDomain: 'Allow',
      checkDomain: 'default',
      redisDeadlineMillis: 100,
      snapshotUrl: undefined,
      maxRememberedDenials: 14_000,
      maxSubjectsPerRule: 1_000_000,
      metricsDetail: 'Policy',
      logAllowedPerSecond: 0,
      logDeniedPerSecond: 10,
      doors: { ...DOOR_DEFAULTS, grpcPort: 8081, drainMillis: 2_000 },
    });
    expect(errorsOf(() => limiterSettings(presets))).toEqual([expect.stringMatching(/^--pepper-file .* is required$/)]);
  });

  it('of the operator have defaults, and name what is in another namespace with it', () => {
    const settings = { ...operatorPresets, pepper: PEPPER, installation: 'blue', podNamespace: 'sluice-system' };
    expect(operatorSettings(settings)).toMatchObject({
      opsPort: 9090,
      pod: hostname(),
      lease: { namespace: 'sluice-system', name: 'sluice-operator-blue', seconds: 15 },
      limiterService: undefined,
      apiRequestsPerSecond: 50,
    });
    expect(operatorSettings({ ...settings, limiterService: 'limiter' }).limiterService).toEqual({
      namespace: 'sluice-system',
      name: 'limiter',
    });
    expect(operatorSettings({ ...settings, limiterService: 'edge/limiter' }).limiterService).toEqual({
      namespace: 'edge',
      name: 'limiter',
    });
    expect(errorsOf(() => operatorSettings({ ...settings, limiterService: 'a/b/c', leaseSeconds: '1' }))).toEqual([
      expect.stringContaining('--lease-seconds (SLUICE_LEASE_SECONDS) "1": '),
      expect.stringContaining('--limiter-service (SLUICE_LIMITER_SERVICE) "a/b/c": must be [namespace/]name'),
    ]);
  });

  it.each<[string, string, string]>([
    ['opsAllowed', 'localhost', 'must be networks such as 10.0.0.0/8, separated by commas'],
    ['trustedCallers', '10.0.0.0/33', 'must be networks such as 10.0.0.0/8, separated by commas'],
    ['trustedProxyCidrs', '10.0.0.0/8,localhost', 'must be networks such as 10.0.0.0/8, separated by commas'],
    ['rateLimitHeaders', 'x-rate', 'must be none, or some of x-ratelimit, '],
    ['rateLimitHeaders', 'x-ratelimit,x-ratelimit-delta', 'must not name two families of X-RateLimit headers'],
    ['rlsHeaders', 'ietf;x-ratelimit', 'must be none, or some of x-ratelimit, '],
    ['snapshotUrl', 'operator:9090/snapshot', 'Invalid URL'],
    ['drainMs', '-1', 'expected number to be >=0'],
    ['maxRememberedDenials', '-1', 'expected number to be >=0'],
    ['maxSubjectsPerRule', '0', 'expected number to be >=1'],
    ['logDecisionsPerSecond', '0.5', 'expected int'],
    ['metricsDetail', 'Consumer', 'expected one of "Domain"|"Policy"|"Rule"'],
    ['grpcMaxConnectionAgeSeconds', '0', 'expected number to be >=1'],
  ])('of a limiter are refused by name: %s %s', (name, value, why) => {
    const errors = errorsOf(() => limiterSettings({ ...presets, pepper: PEPPER, [name]: value }));
    expect(errors).toEqual([expect.stringContaining(`${JSON.stringify(value)}: `)]);
    expect(errors[0]).toContain(why);
  });

  it('of the doors are lists where several values are allowed', () => {
    const raw = {
      trustedCallers: '10.0.0.0/8, fd00::/8',
      rateLimitHeaders: 'x-ratelimit-draft-03,ietf',
      rlsHeaders: 'none',
    };
    expect(limiterSettings({ ...presets, pepper: PEPPER, ...raw }).doors).toMatchObject({
      trustedCallers: ['10.0.0.0/8', 'fd00::/8'],
      headerFamilies: ['x-ratelimit-draft-03', 'ietf'],
      rlsHeaderFamilies: [],
    });
  });

  it('are all named when several are wrong, with flag, variable and value', () => {
    const raw = {
      ...presets,
      redisUrl: 'http://x',
      installation: 'A_B',
      port: '70000',
      opsPort: '1.5',
      logLevel: 'loud',
    };
    const errors = errorsOf(() => limiterSettings(raw));
    expect(errors).toEqual([
      expect.stringContaining('--redis-url (SLUICE_REDIS_URL): '),
      expect.stringContaining('--installation (SLUICE_INSTALLATION) "A_B": must be a DNS label'),
      expect.stringContaining('--log-level (SLUICE_LOG_LEVEL) "loud": '),
      expect.stringContaining('--port (SLUICE_PORT) "70000": '),
      expect.stringContaining('--ops-port (SLUICE_OPS_PORT) "1.5": '),
      expect.stringContaining('is required'),
    ]);
  });

  it('never repeat a password that is part of a URL', () => {
    const errors = errorsOf(() =>
      limiterSettings({ ...presets, pepper: PEPPER, redisUrl: 'redis://user:pa#ssword@redis:6379' }),
    );
    expect(errors).toEqual([expect.stringContaining('must be percent-encoded')]);
    expect(errors.join()).not.toContain('pa#');
  });

  it('never repeat a pepper that is refused', () => {
    const errors = errorsOf(() => operatorSettings({ ...presets, pepper: 'too short' }));
    expect(errors).toHaveLength(1);
    expect(errors.join()).not.toContain('too short');
  });

  it('take the pepper from a file, without the line end', () => {
    const file = join(folder, 'pepper');
    writeFileSync(file, `${PEPPER}\n`);
    expect(operatorSettings({ ...presets, pepperFile: file }).pepper).toBe(PEPPER);
  });

  it('say what is wrong with the file of the pepper', () => {
    const short = join(folder, 'short');
    writeFileSync(short, 'short\n');
    expect(errorsOf(() => operatorSettings({ ...presets, pepperFile: short }))).toEqual([
      expect.stringContaining('must hold at least 16 characters'),
    ]);
    expect(errorsOf(() => operatorSettings({ ...presets, pepperFile: join(folder, 'none') }))).toEqual([
      expect.stringContaining('no such file'),
    ]);
    const previous = { ...presets, pepper: PEPPER, previousPepperFile: short };
    expect(errorsOf(() => limiterSettings(previous))).toEqual([
      `--previous-pepper-file (SLUICE_PREVIOUS_PEPPER_FILE) "${short}": must hold at least 16 characters`,
    ]);
  });
});

describe('the command line', () => {
  it('lists every setting with its variable and default under --help', async () => {
    const help = startSluice(['limiter', '--help']);
    expect(await help.exited()).toBe(0);
    for (const option of limiterOptions()) {
      expect(help.output()).toContain(`${option.long} <value>`);
      expect(help.output()).toContain(`SLUICE_${option.long?.slice(2).replaceAll('-', '_').toUpperCase()}`);
    }
  });

  it('says its version', async () => {
    const asked = startSluice(['--version']);
    expect(await asked.exited()).toBe(0);
    const { version } = JSON.parse(readFileSync(join(import.meta.dirname, '../../package.json'), 'utf8'));
    expect(asked.output()).toBe(`${version}\n`);
  });

  it('ends with 2 when a setting is wrong, and says which', async () => {
    const limiter = startSluice(['limiter', '--port', 'abc'], { SLUICE_PEPPER: PEPPER });
    expect(await limiter.exited()).toBe(2);
    expect(limiter.output()).toContain('--port (SLUICE_PORT) "abc"');
    const unknown = startSluice(['limiter', '--colour', 'red']);
    expect(await unknown.exited()).toBe(2);
  });

  it.each([
    ['operator on files', ['operator', '--resources', 'examples/dev', '--redis-url', 'redis://127.0.0.1:1']],
    ['operator on a cluster', ['operator', '--kubeconfig', 'KUBECONFIG', '--redis-url', 'redis://127.0.0.1:1']],
    ['limiter', ['limiter', '--port', '0', '--grpc-port', '0', '--redis-url', 'redis://127.0.0.1:1']],
  ])('ends with 1 when the ops port is taken, and lingers nowhere: %s', { timeout: 120_000 }, async (_name, args) => {
    const kubeconfig = join(folder, 'kubeconfig.json');
    const cluster = { name: 'a', cluster: { server: 'http://127.0.0.1:1' } };
    const context = { name: 'a', context: { cluster: 'a', user: 'a' } };
    const users = [{ name: 'a', user: {} }];
    writeFileSync(
      kubeconfig,
      JSON.stringify({ clusters: [cluster], contexts: [context], users, 'current-context': 'a' }),
    );
    const taken = createServer().listen(0, '127.0.0.1');
    await once(taken, 'listening');
    const { port } = taken.address() as AddressInfo;
    const words = args.map((word) => (word === 'KUBECONFIG' ? kubeconfig : word));
    const role = startSluice([...words, '--host', '127.0.0.1', '--ops-port', String(port)], { SLUICE_PEPPER: PEPPER });
    try {
      await eventually(() => expect(role.output()).toContain('EADDRINUSE'), 60_000);
      const late = new Promise((resolve) => setTimeout(() => resolve('lingers'), 15_000).unref());
      expect(await Promise.race([role.exited(), late])).toBe(1);
    } finally {
      await role.kill();
      taken.close();
    }
  });
});
