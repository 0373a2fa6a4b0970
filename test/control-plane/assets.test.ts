import { execFile } from 'node:child_process';
import { chmod, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { eventually } from '../harness/eventually.ts';
import { ASSET_NAMES, findAsset } from './assets.ts';
import type { AssetName } from './assets.ts';
import { SOURCES, wrapperModule } from './recipe.ts';

// A machine is a folder with the whole PATH in `bin` and the home in `home`. Its Go is a shell script.
let machine: string;
let told: string[];
beforeEach(async () => {
  machine = await mkdtemp(join(tmpdir(), 'sluice-assets-'));
  told = [];
  await mkdir(join(machine, 'home'));
});
afterEach(() => rm(machine, { recursive: true }));

const program = async (file: string, body: string): Promise<string> => {
  const path = join(machine, file);
  await mkdir(dirname(path), { recursive: true });
  await writeFile(path, `#!/bin/sh\n${body}\n`);
  await chmod(path, 0o755);
  return path;
};

/** A Go that notes what it builds in `builds`; the program built prints the go.mod that it was built with. */
const installGo = async (version: string, beforeBuilding = ''): Promise<void> => {
  await writeFile(join(machine, 'module.mod'), 'module example.invalid/program\n\ngo 1.24.0\n');
  await program(
    'bin/go',
    `case "$1" in
      env) echo ${version};;
      mod) echo "go: downloading $4" >&2; echo '{"GoMod": "${machine}/module.mod"}';;
      build) echo "$7" >> ${machine}/builds
        ${beforeBuilding}
        { echo '#!/bin/sh'; echo "echo '$(/bin/cat go.mod)'"; } > "$4"; /bin/chmod 755 "$4";;
    esac`,
  );
};

const find = (name: AssetName, assets?: string): Promise<string> => {
  const environment = {
    PATH: join(machine, 'bin'),
    HOME: join(machine, 'home'),
    XDG_CACHE_HOME: join(machine, 'home', 'cache'),
    ...(assets === undefined ? {} : { KUBEBUILDER_ASSETS: assets }),
  };
  return findAsset(name, { environment, tell: (line) => told.push(line) });
};

describe('a program that is there', () => {
  it('is taken from KUBEBUILDER_ASSETS', async () => {
    const etcd = await program('assets/etcd', '');
    expect(await find('etcd', join(machine, 'assets'))).toBe(etcd);
  });

  it('is taken from the cache if KUBEBUILDER_ASSETS lacks it', async () => {
    await installGo('go1.26.1');
    const helm = await find('helm');
    await rm(join(machine, 'bin'), { recursive: true });
    await program('assets/etcd', '');
    await mkdir(join(machine, 'assets', 'helm'));
    expect(await find('helm', join(machine, 'assets'))).toBe(helm);
  });
});

describe('a program that is missing', () => {
  it('is built from its module', async () => {
    await installGo('go1.21.0');
    const { stdout } = await promisify(execFile)(await find('etcd'));
    expect(stdout.split('\n')).toContain(`require ${SOURCES.etcd.module} ${SOURCES.etcd.version}`);
    expect(told).toEqual([
      expect.stringMatching(/^building etcd v3\.\d+\.\d+ from its source/),
      expect.stringMatching(/^built etcd in \d+ min \d+ s$/),
    ]);
  });

  it('is built once by those who want it at the same time', async () => {
    const maySucceed = join(machine, 'may-succeed');
    await installGo('go1.26.1', `while [ ! -e ${maySucceed} ]; do /bin/sleep 0.05; done`);
    const finding = Promise.all([find('kubectl'), find('kubectl'), find('kubectl')]);
    const waiting = (): string[] => told.filter((line) => line.startsWith('waiting for another process'));
    await eventually(() => expect(waiting()).toHaveLength(2));
    await writeFile(maySucceed, '');
    const found = await finding;
    expect(new Set(found).size).toBe(1);
    expect(await readFile(join(machine, 'builds'), 'utf8')).toBe(`${SOURCES.kubectl.package}\n`);
    expect((await readdir(dirname(found[0]))).toSorted()).toEqual(['kubectl', 'lock']);
  });

  it('is reported with what Go said if it cannot be built, and not taken for built', async () => {
    await installGo('go1.26.1', 'echo half > "$4"; /bin/chmod 755 "$4"; echo "no space left" >&2; exit 1');
    await expect(find('etcd')).rejects.toThrow(
      /^etcd is missing and cannot be built: go build .*: ended with code 1\nno space left\n.* set KUBEBUILDER_ASSETS /s,
    );
    await installGo('go1.26.1');
    expect((await promisify(execFile)(await find('etcd'))).stdout).toContain('go.etcd.io/etcd');
  });

  it.each(ASSET_NAMES)('is named with what to do when there is no Go: %s', async (name) => {
    const failure = find(name);
    await expect(failure).rejects.toThrow(`${name} is missing and cannot be built: there is no "go" on the PATH\n`);
    await expect(failure).rejects.toThrow('install Go 1.21 or later');
    await expect(failure).rejects.toThrow('set KUBEBUILDER_ASSETS to a folder that has kube-apiserver, etcd, kubectl');
    expect(await readdir(join(machine, 'home'))).toEqual([]);
  });

  it.each(['go1.20.14', 'devel +a1b2c3d'])('is named with what to do when Go is too old: %s', async (version) => {
    await installGo(version);
    await expect(find('helm')).rejects.toThrow(`the "go" on the PATH is ${version}, which is too old`);
  });
});

describe('the module that a program is built in', () => {
  it('replaces the staging modules of Kubernetes with the published ones, and nothing else', () => {
    const goMod = `module k8s.io/kubernetes

go 1.26.0

require k8s.io/api v0.0.0

replace (
	k8s.io/api => ./staging/src/k8s.io/api
	k8s.io/streaming => ./staging/src/k8s.io/streaming
	example.invalid/fork => example.invalid/other v1.0.0
)

replace k8s.io/kms => ./staging/src/k8s.io/kms
`;
    expect(wrapperModule({ ...SOURCES.kubectl, version: 'v1.36.3' }, goMod).split('\n')).toEqual([
      'module sluice.invalid/test',
      'go 1.26.0',
      'require k8s.io/kubernetes v1.36.3',
      'replace k8s.io/api => k8s.io/api v0.36.3',
      'replace k8s.io/streaming => k8s.io/streaming v0.36.3',
      'replace k8s.io/kms => k8s.io/kms v0.36.3',
      '',
    ]);
  });
});
