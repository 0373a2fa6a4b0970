import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { validate } from '../policy/validate.ts';
import { runHelm } from './chart/helm.ts';
import { type ControlPlane, startControlPlane } from './control-plane/control-plane.ts';
import { eventually } from './harness/eventually.ts';
import { type SluiceProcess, startSluice } from './harness/processes.ts';
import { type PrivateRedis, privateRedis } from './harness/redis.ts';

const run = promisify(execFile);
const ROOT = join(import.meta.dirname, '..');
const README = readFileSync(join(ROOT, 'README.md'), 'utf8');
const PORT_BASE = 10_005 + (process.pid % 1_000) * 10;

const blocks = (language: string): string[] =>
  [...README.matchAll(new RegExp(`^\`\`\`${language}\\n(.*?)^\`\`\``, 'gms'))].map(([, text]) => text ?? '');

const commands = blocks('sh').flatMap((block) => block.trim().split('\n'));
const commandsOf = (program: string): string[] => commands.filter((command) => command.startsWith(`${program} `));

let redis: PrivateRedis;
let dev: SluiceProcess;
let controlPlane: ControlPlane;

beforeAll(async () => {
  [controlPlane, redis] = await Promise.all([startControlPlane(), privateRedis()]);
  const resources = join(ROOT, 'examples/dev');
  dev = startSluice(['dev', '--resources', resources], { PORT_BASE: String(PORT_BASE), REDIS_URL: redis.url });
  await eventually(() => expect(dev.output()).toMatch(/ready$/m));
});
afterAll(async () => {
  await dev.stop();
  await redis.stop();
  await controlPlane.stop();
});

/** The command as it stands, but for the ports, which another run may have taken. */
function moved(command: string): string {
  return command.replaceAll(/localhost:(\d+)/g, (_text, port: string) => `127.0.0.1:${PORT_BASE + Number(port)}`);
}

describe('every command of the README', () => {
  it('is of a kind that is tested here', () => {
    const tested = ['make', 'curl', 'kubectl', 'helm', 'node_modules/.bin/node'].flatMap(commandsOf);
    expect(tested.toSorted()).toEqual(commands.toSorted());
    expect(tested.length).toBeGreaterThanOrEqual(10);
  });

  it.each(commandsOf('make'))('%s is a target that make knows', async (command) => {
    const { stdout } = await run(
      'make',
      ['--dry-run', '--assume-old=package-lock.json', ...command.split(' ').slice(1)],
      { cwd: ROOT },
    );
    expect(stdout).not.toBe('');
  });

  it.each(commandsOf('curl'))('%s succeeds', async (command) => {
    const { stdout } = await run('bash', ['-c', moved(command).replace('curl', 'curl --silent --show-error --fail')]);
    expect(stdout).toMatch(command.startsWith('curl -i') ? /^HTTP\/1.1 200 / : /[}\]]$/);
  });

  it.each(commandsOf('node_modules/.bin/node'))('%s prints a key and its hash', async (command) => {
    const [, ...args] = command.split(' ');
    const { stdout } = await run(process.execPath, args, { cwd: ROOT });
    expect(stdout).toMatch(/^key: {2}slk_\w+\nhash: sha256:[0-9a-f]{64}\n$/);
  });

  it('shows exactly the lines to try that sluice dev prints', () => {
    const shown = commandsOf('curl').slice(0, 4);
    const printed = dev
      .output()
      .replaceAll(/localhost:(\d+)/g, (_text, port: string) => `localhost:${Number(port) - PORT_BASE}`);
    for (const command of shown) expect(printed).toContain(`  ${command}\n`);
  });

  it.each(commandsOf('helm'))('%s renders what it would install', async (command) => {
    const words = command.split(' ').filter((word) => word !== '--wait');
    const args = words.slice(2).map((word) => (word.startsWith('charts/') ? join(ROOT, word) : word));
    const { status, stdout, stderr } = await runHelm(['template', ...args]);
    expect(stderr).toBe('');
    expect(status).toBe(0);
    expect(stdout).toContain('image: "REGISTRY/sluice:dev"');
  });

  it('works with kubectl against a real API server, in the order in which it is written', async () => {
    // The chart brings them on a cluster; this API server runs no pods.
    await controlPlane.kubectl(['apply', '-f', join(ROOT, 'crds')]);
    await controlPlane.kubectl(['wait', '--for=condition=Established', 'crd', '--all', '--timeout=60s']);
    for (const command of commandsOf('kubectl')) {
      await controlPlane.kubectl(
        command
          .split(' ')
          .slice(1)
          .map((word) => (/^(crds|examples)\//.test(word) ? join(ROOT, word) : word)),
      );
    }
    expect(await controlPlane.kubectl(['get', 'ratelimitpolicies', '--all-namespaces'])).toMatch(/demo +demo-tiers/);
    expect(await controlPlane.kubectl(['explain', 'ratelimitpolicy.spec', '--recursive'])).toContain('windowSeconds');
  });
});

describe('what the README shows', () => {
  it('is a valid policy', () => {
    const [text] = blocks('yaml');
    const { kind, metadata, spec } = parse(text ?? '');
    const raw = { kind, metadata: { uid: 'u', generation: 1, creationTimestamp: '', ...metadata }, spec };
    expect(validate(raw)).toMatchObject({ ok: true });
  });

  it('is the answer of the decision API, field by field', async () => {
    const [text] = blocks('json');
    const response = await fetch(`http://127.0.0.1:${PORT_BASE + 8_080}/v1/decision/check`, {
      method: 'POST',
      body: JSON.stringify({ domain: 'demo', consumer: 'somebody new', method: 'GET', path: '/api/search' }),
    });
    const answer: unknown = await response.json();
    const changing = { revision: expect.any(Number), request_id: expect.any(String) };
    expect(answer).toEqual({ ...JSON.parse(text ?? ''), ...changing });
  });
});
