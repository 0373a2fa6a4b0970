// Finds a Redis server for development and tests, and starts a private one that leaves nothing behind.
//
//   node cli/dev/find-redis.ts     prints where it is; installs it where that needs no password
//
// The order is: PATH, then the package manager (only with `mayInstall`), then Docker.
import { execFile, spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { access, constants, mkdir, rm, symlink } from 'node:fs/promises';
import { connect } from 'node:net';
import { homedir } from 'node:os';
import { delimiter, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

/** Where a server comes from: an executable, or an image for the Docker engine that `command` talks to. */
export type RedisServer =
  | { readonly kind: 'binary'; readonly path: string }
  | { readonly kind: 'docker'; readonly command: string; readonly image: string };

export type FindOptions = {
  /** Install a server when none is there and no password is needed for it. Default: nothing is installed. */
  readonly mayInstall?: boolean;
  /** Told, a line at a time, what is about to be done to the machine. Default: stderr. */
  readonly tell?: (line: string) => void;
  /** The machine, for tests; each defaults to the real one. */
  readonly path?: string;
  readonly platform?: NodeJS.Platform;
  readonly uid?: number;
  readonly linkFolder?: string;
};

export type StartOptions = { readonly port: number; readonly args?: readonly string[] };
export type RedisProcess = { readonly url: string; stop(): Promise<void> };

/** No server is at hand and none could be had; the message says what to type. */
export class RedisServerMissingError extends Error {
  override readonly name = 'RedisServerMissingError';
  readonly code = 'REDIS_SERVER_MISSING';
  readonly transient = false;
}

type Machine = Required<FindOptions>;
type Survey = { readonly path: string | undefined; readonly tooOld: readonly string[] };

// Scripts that begin with `#!lua` need 7.0. The image is the last minor version under the BSD licence.
const OLDEST_MAJOR = 7;
const IMAGE = 'redis:7.2-alpine';
const READY_MILLIS = 20_000;
const STOP_MILLIS = 5_000;

/** A Redis of 7.0 or later, or a Valkey. Throws RedisServerMissingError. */
export async function findRedisServer(options: FindOptions = {}): Promise<RedisServer> {
  const machine = complete(options);
  let survey = await lookAround(machine);
  // One that is there but too old is the user's own: upgrading it is not ours to do.
  if (survey.path === undefined && survey.tooOld.length === 0 && machine.mayInstall) {
    await install(machine);
    survey = await lookAround(machine);
  }
  if (survey.path !== undefined) return { kind: 'binary', path: survey.path };
  const docker = await workingDocker(machine);
  if (docker !== undefined) return { kind: 'docker', command: docker, image: IMAGE };
  throw new RedisServerMissingError(whatToType(survey.tooOld));
}

/** Starts it on 127.0.0.1:`port`, keeping nothing on disk, and resolves once it answers PING. */
export function startRedis(server: RedisServer, options: StartOptions): Promise<RedisProcess> {
  switch (server.kind) {
    case 'binary':
      return startBinary(server.path, options);
    case 'docker':
      return startContainer(server, options);
    default:
      return server satisfies never;
  }
}

function complete(options: FindOptions): Machine {
  return {
    mayInstall: false,
    tell: (line) => void process.stderr.write(`${line}\n`),
    path: process.env.PATH ?? '',
    platform: process.platform,
    uid: process.getuid?.() ?? -1,
    linkFolder: join(process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'sluice', 'bin'),
    ...options,
  };
}

async function lookAround(machine: Machine): Promise<Survey> {
  const tooOld: string[] = [];
  for (const name of ['redis-server', 'valkey-server']) {
    for (const candidate of await executables(name, machine)) {
      const version = await versionOf(candidate);
      if (version === undefined) continue;
      if (version.major >= OLDEST_MAJOR) return { path: candidate, tooOld };
      tooOld.push(`${candidate} is version ${version.text}`);
    }
  }
  return { path: undefined, tooOld };
}

async function executables(name: string, machine: Machine): Promise<readonly string[]> {
  const folders = [...machine.path.split(delimiter), machine.linkFolder].filter((folder) => folder !== '');
  const found: string[] = [];
  for (const folder of folders) {
    const candidate = join(folder, name);
    if (await isExecutable(candidate)) found.push(candidate);
  }
  return found;
}

async function isExecutable(file: string): Promise<boolean> {
  try {
    await access(file, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

async function versionOf(server: string): Promise<{ major: number; text: string } | undefined> {
  const { output } = await run(server, ['--version']);
  const match = /(?:Redis|Valkey) server v=((\d+)[\d.]*)/.exec(output);
  return match?.[1] === undefined ? undefined : { major: Number(match[2]), text: match[1] };
}

// ---- installing

async function install(machine: Machine): Promise<void> {
  const [brew] = await executables('brew', machine);
  const [apt] = await executables('apt-get', machine);
  if (machine.platform === 'darwin' && brew !== undefined) {
    machine.tell('No redis-server on the PATH: running `brew install redis` (starts no service).');
    await visibly([brew, 'install', 'redis'], machine);
  } else if (machine.platform === 'linux' && apt !== undefined) {
    const asRoot = await rootPrefix(machine);
    if (asRoot !== undefined) await installWithApt([...asRoot, apt], machine);
  }
}

/** The words that make the command after them run as root without asking; undefined when a password would be needed. */
async function rootPrefix(machine: Machine): Promise<readonly string[] | undefined> {
  // sudo clears the environment, hence env; both variables keep apt-get from asking and from restarting services.
  const env = ['/usr/bin/env', 'DEBIAN_FRONTEND=noninteractive', 'NEEDRESTART_SUSPEND=1'];
  if (machine.uid === 0) return env;
  const [sudo] = await executables('sudo', machine);
  if (sudo === undefined || (await run(sudo, ['-n', 'true'])).code !== 0) return undefined;
  return [sudo, '-n', ...env];
}

/**
 * Installs Debian's redis-tools, not redis-server: the latter adds a user and enables and starts a service on port 6379,
 * which only a policy-rc.d or a masked unit would prevent (RUNLEVEL=1 does not reach systemd units). The server itself
 * is in redis-tools all the same: redis-check-rdb is the same program, and acts as the server under the server's name.
 */
async function installWithApt(aptGet: readonly string[], machine: Machine): Promise<void> {
  machine.tell('No redis-server on the PATH: installing the package redis-tools with apt-get (starts no service).');
  const packages = ['install', '--yes', '--quiet', '--no-install-recommends', 'redis-tools'];
  const patiently = ['-o', 'DPkg::Lock::Timeout=120'];
  if (!(await visibly([...aptGet, ...patiently, ...packages], machine))) {
    await visibly([...aptGet, ...patiently, 'update', '--quiet'], machine);
    await visibly([...aptGet, ...patiently, ...packages], machine);
  }
  const [program] = await executables('redis-check-rdb', machine);
  if (program === undefined) return;
  const link = join(machine.linkFolder, 'redis-server');
  await mkdir(machine.linkFolder, { recursive: true });
  await rm(link, { force: true });
  await symlink(program, link);
  machine.tell(`The server is ${link}.`);
}

/** Runs a command with its output on our stderr: stdout is for the answer. True when it succeeded. */
async function visibly(command: readonly string[], machine: Machine): Promise<boolean> {
  const [program = '', ...args] = command;
  const child = spawn(program, args, {
    stdio: ['ignore', process.stderr.fd, process.stderr.fd],
    env: { ...process.env, PATH: machine.path },
  });
  const [code] = await once(child, 'exit');
  return code === 0;
}

// ---- Docker, and when nothing helps

async function workingDocker(machine: Machine): Promise<string | undefined> {
  const [docker] = await executables('docker', machine);
  if (docker === undefined) return undefined;
  // The client prints its format also when no engine answers; only the exit code tells.
  const { code } = await run(docker, ['info', '--format', '{{.ServerVersion}}']);
  return code === 0 ? docker : undefined;
}

function whatToType(tooOld: readonly string[]): string {
  return [
    'No usable Redis server: Sluice needs Redis 7.0 or later, or Valkey.',
    ...tooOld.map((what) => `  ${what}: too old`),
    'Install one, then try again:',
    '  Debian, Ubuntu   sudo apt-get update && sudo apt-get install redis-server',
    '  macOS            brew install redis',
    `  anywhere         start a Docker engine: ${IMAGE} is then used`,
    ...(tooOld.length > 0
      ? ['Where the distribution has none newer, use Docker or put a newer one first on the PATH.']
      : []),
  ].join('\n');
}

function run(command: string, args: readonly string[]): Promise<{ code: number; output: string }> {
  return new Promise((resolve) => {
    execFile(command, args, { timeout: 15_000 }, (error, stdout) =>
      resolve({ code: error === null ? 0 : 1, output: stdout }),
    );
  });
}

// ---- starting

async function startBinary(path: string, { port, args = [] }: StartOptions): Promise<RedisProcess> {
  const flags = ['--bind', '127.0.0.1', '--port', String(port), '--save', '', '--appendonly', 'no', ...args];
  // Its own process group: Ctrl-C in a terminal must reach whoever started us, who then stops Redis last.
  const child = spawn(path, flags, { stdio: ['ignore', 'pipe', 'pipe'], detached: true });
  // Whatever ends us, it must not stay behind.
  const endWithUs = (): void => void child.kill('SIGKILL');
  process.once('exit', endWithUs);
  child.once('exit', () => process.off('exit', endWithUs));
  let log = '';
  const keepEnd = (chunk: Buffer): void => void (log = (log + chunk.toString()).slice(-2_000));
  child.stdout.on('data', keepEnd);
  child.stderr.on('data', keepEnd);
  child.on('error', (error) => keepEnd(Buffer.from(error.message)));
  try {
    await untilReady(port, (reply) => {
      if (hasEnded(child)) throw new Error(`${path} ended at once:\n${log.trim()}`);
      const pid = /process_id:(\d+)/.exec(reply)?.[1];
      // Another server on the same port would answer for ours while ours is still failing to bind.
      if (pid !== undefined && Number(pid) !== child.pid) throw new Error(`port ${port} is taken by another Redis`);
    });
  } catch (error) {
    await end(child);
    throw error;
  }
  return { url: `redis://127.0.0.1:${port}`, stop: () => end(child) };
}

function hasEnded(child: ChildProcess): boolean {
  return child.pid === undefined || child.exitCode !== null || child.signalCode !== null;
}

async function end(child: ChildProcess): Promise<void> {
  if (hasEnded(child)) return;
  const ended = once(child, 'exit');
  child.kill('SIGTERM');
  const impatience = setTimeout(() => child.kill('SIGKILL'), STOP_MILLIS);
  await ended;
  clearTimeout(impatience);
}

async function startContainer(
  { command, image }: Extract<RedisServer, { kind: 'docker' }>,
  { port, args = [] }: StartOptions,
): Promise<RedisProcess> {
  const flags = ['--save', '', '--appendonly', 'no', '--protected-mode', 'no', ...args];
  const docker = ['run', '--detach', '--rm', '--publish', `127.0.0.1:${port}:6379`, image, ...flags];
  // Its stderr is ours, so that the progress of a first pull is seen.
  const child = spawn(command, docker, { stdio: ['ignore', 'pipe', 'inherit'] });
  let id = '';
  child.stdout.on('data', (chunk: Buffer) => void (id += chunk.toString()));
  const [code] = await once(child, 'close');
  if (code !== 0) throw new Error(`\`docker run ${image}\` failed with exit code ${String(code)}`);
  const remove = async (): Promise<void> => void (await run(command, ['rm', '--force', id.trim()]));
  try {
    await untilReady(port, () => undefined);
  } catch (error) {
    await remove();
    throw error;
  }
  return { url: `redis://127.0.0.1:${port}`, stop: remove };
}

/** Resolves once the server answers; `check` sees each reply, the empty ones too, and throws when waiting is vain. */
async function untilReady(port: number, check: (reply: string) => void): Promise<void> {
  const deadline = performance.now() + READY_MILLIS;
  while (performance.now() < deadline) {
    const reply = await ask(port);
    check(reply);
    // With a password in `args` a server that is up says NOAUTH.
    if (/^(?:\+PONG|-NOAUTH)/.test(reply)) return;
    await sleep(20);
  }
  throw new Error(`Redis on port ${port} did not answer PING within ${READY_MILLIS} ms`);
}

/** What the server at that port says to PING and INFO; empty when nobody answers. */
function ask(port: number): Promise<string> {
  return new Promise((resolve) => {
    let reply = '';
    const socket = connect({ host: '127.0.0.1', port }, () => socket.write('PING\r\nINFO server\r\n'));
    socket.setTimeout(500, () => socket.destroy());
    socket.on('error', () => socket.destroy());
    socket.on('close', () => resolve(reply));
    socket.on('data', (chunk) => {
      reply += chunk.toString();
      if (/process_id:\d+\r|^-/.test(reply)) socket.destroy();
    });
  });
}

if (import.meta.main) {
  try {
    const server = await findRedisServer({ mayInstall: true });
    process.stdout.write(`${server.kind === 'binary' ? server.path : `docker:${server.image}`}\n`);
  } catch (error) {
    if (!(error instanceof RedisServerMissingError)) throw error;
    process.stderr.write(`${error.message}\n`);
    process.exitCode = 1;
  }
}
