import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { startControlPlane } from './control-plane/control-plane.ts';
import type { ControlPlane } from './control-plane/control-plane.ts';
import { eventually } from './harness/eventually.ts';

// Only bounds: more than a control plane is given to become ready.
const timeout = 180_000;

describe('a control plane', { timeout }, () => {
  let controlPlane: ControlPlane;
  beforeAll(async () => {
    controlPlane = await startControlPlane();
  });
  afterAll(() => controlPlane.stop());

  const apply = (resource: object): Promise<string> =>
    controlPlane.kubectl(['apply', '-f', '-'], { stdin: JSON.stringify(resource) });

  it('says its version, which charts ask for', async () => {
    const versions: unknown = JSON.parse(await controlPlane.kubectl(['version', '--output=json']));
    expect(versions).toMatchObject({ serverVersion: { major: '1', minor: expect.stringMatching(/^\d+$/) } });
  });

  it('keeps what kubectl applies while its API server is down', async () => {
    await apply({ apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'kept' } });
    const configMap = { name: 'settings', namespace: 'kept' };
    await apply({ apiVersion: 'v1', kind: 'ConfigMap', metadata: configMap, data: { colour: 'blue' } });
    const read = ['get', 'configmap', 'settings', '--namespace=kept', '--output=jsonpath={.data.colour}'];
    expect(await controlPlane.kubectl(read)).toBe('blue');

    await controlPlane.stopApiServer();
    expect(await controlPlane.kubectl(read, { expectFailure: true })).toContain('refused');

    await controlPlane.startApiServer();
    expect(await controlPlane.kubectl(read)).toBe('blue');
  });

  it('lets a service account do what its roles allow, and no more', async () => {
    await controlPlane.kubectl(['create', 'serviceaccount', 'reader', '--namespace=default']);
    await controlPlane.kubectl(['create', 'role', 'reader', '--verb=list', '--resource=configmaps']);
    await controlPlane.kubectl(['create', 'rolebinding', 'reader', '--role=reader', '--serviceaccount=default:reader']);
    const token = (await controlPlane.kubectl(['create', 'token', 'reader'])).trim();
    const list = (resource: string): string[] => ['get', resource, `--token=${token}`];

    expect(await controlPlane.kubectl(list('configmaps'))).toBe('');
    expect(await controlPlane.kubectl(list('secrets'), { expectFailure: true })).toContain(
      '"system:serviceaccount:default:reader" cannot list resource "secrets"',
    );
  });

  it('reports what kubectl says when a command fails, and when one does not that should', async () => {
    await expect(controlPlane.kubectl(['get', 'configmap', 'absent'])).rejects.toThrow(
      /kubectl get configmap absent failed \(exit code 1\):\n.*"absent" not found/,
    );
    await expect(controlPlane.kubectl(['get', 'namespaces'], { expectFailure: true })).rejects.toThrow(
      /should have failed, but printed:\nNAME/,
    );
  });
});

describe('the end of a control plane', { timeout }, () => {
  let temporary: string;
  let child: ChildProcess | undefined;
  beforeEach(async () => {
    temporary = await mkdtemp(join(tmpdir(), 'sluice-test-'));
  });
  afterEach(async () => {
    child?.kill('SIGKILL');
    await rm(temporary, { recursive: true, force: true, maxRetries: 10 });
  });

  /** Runs the statements in a process of its own, in which a control plane was started. */
  const inAnotherProcess = async (statements: string): Promise<{ url: string; ended: Promise<unknown> }> => {
    const module = JSON.stringify(import.meta.resolve('./control-plane/control-plane.ts'));
    const script = `
      const { startControlPlane } = await import(${module});
      const controlPlane = await startControlPlane();
      console.log(controlPlane.serverUrl);
      ${statements}`;
    const other = spawn(process.execPath, ['--input-type=module', '--eval', script], {
      env: { ...process.env, TMPDIR: temporary },
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    child = other;
    const ended = once(other, 'exit');
    const { value: url } = await createInterface(other.stdout)[Symbol.asyncIterator]().next();
    if (url === undefined) throw new Error('it ended early');
    return { url, ended };
  };

  it('leaves no process and no file when it is stopped', async () => {
    const other = await inAnotherProcess('await controlPlane.stop();');
    await other.ended;
    expect(await isListening(other.url)).toBe(false);
    expect(await readdir(temporary)).toEqual([]);
  });

  it('leaves no process and no file when the test process exits without stopping it', async () => {
    const other = await inAnotherProcess('process.exit(1);');
    await other.ended;
    await eventually(async () => expect(await isListening(other.url)).toBe(false));
    expect(await readdir(temporary)).toEqual([]);
  });

  it('leaves no process when the test process is killed', async () => {
    const other = await inAnotherProcess('await new Promise((resolve) => setTimeout(resolve, 3_600_000));');
    expect(await isListening(other.url)).toBe(true);
    child?.kill('SIGKILL');
    await other.ended;
    await eventually(async () => expect(await isListening(other.url)).toBe(false));
  });
});

describe('a control plane that cannot start', () => {
  let folder: string;
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'sluice-test-'));
    await mkdir(join(folder, 'temporary'));
    for (const name of ['etcd', 'kube-apiserver', 'kubectl']) {
      await writeFile(join(folder, name), `#!/bin/sh\necho ${name} says why\nexit 2\n`, { mode: 0o755 });
    }
    vi.stubEnv('KUBEBUILDER_ASSETS', folder);
    vi.stubEnv('TMPDIR', join(folder, 'temporary'));
  });
  afterEach(async () => {
    vi.unstubAllEnvs();
    await rm(folder, { recursive: true });
  });

  it('shows the log of the server that ended, and leaves no file', async () => {
    await expect(startControlPlane()).rejects.toThrow('etcd ended with code 2. The end of its log:\netcd says why');
    expect(await readdir(join(folder, 'temporary'))).toEqual([]);
  });
});

function isListening(url: string): Promise<boolean> {
  const { hostname, port } = new URL(url);
  return new Promise((resolve) => {
    const socket = connect(Number(port), hostname);
    socket.once('error', () => resolve(false));
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
  });
}
