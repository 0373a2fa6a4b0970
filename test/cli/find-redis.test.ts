import { chmod, lstat, mkdir, mkdtemp, readFile, readlink, rm, writeFile } from 'node:fs/promises';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { RedisServerMissingError, findRedisServer, startRedis } from '../../cli/dev/find-redis.ts';
import type { FindOptions } from '../../cli/dev/find-redis.ts';

// A machine is a folder of small shell scripts that is its whole PATH; each notes its arguments in `calls`.
let machine: string;
beforeEach(async () => {
  machine = await mkdtemp(join(tmpdir(), 'sluice-find-redis-'));
  await mkdir(join(machine, 'bin'));
  await writeFile(join(machine, 'calls'), '');
});
afterEach(() => rm(machine, { recursive: true }));

const program = async (name: string, body: string): Promise<string> => {
  const file = join(machine, 'bin', name);
  await writeFile(file, `#!/bin/sh\necho "${name} $*" >> "${machine}/calls"\n${body}\n`);
  await chmod(file, 0o755);
  return file;
};
const printing = (version: string): string => `echo "${version} sha=00000000:0 malloc=libc bits=64"`;
const redis = (version: string): string => printing(`Redis server v=${version}`);
/** A script line that puts such a server into the machine, as a package manager would. */
const installs = (name: string, version: string): string =>
  `printf '#!/bin/sh\\n%s\\n' '${redis(version)}' > "${machine}/bin/${name}"; /bin/chmod 755 "${machine}/bin/${name}"`;
const calls = async (): Promise<string[]> => (await readFile(join(machine, 'calls'), 'utf8')).trim().split('\n');
const told: string[] = [];
const find = (options: FindOptions): ReturnType<typeof findRedisServer> => {
  told.length = 0;
  return findRedisServer({
    path: join(machine, 'bin'),
    linkFolder: join(machine, 'links'),
    platform: 'linux',
    uid: 1000,
    tell: (line) => told.push(line),
    ...options,
  });
};
const asRoot = { mayInstall: true, uid: 0 } as const;
const sudo = 'shift; case "$1" in true) exit 0;; esac; exec "$@"';

describe('finding a server that is there', () => {
  it('takes the redis-server on the PATH and installs nothing', async () => {
    const path = await program('redis-server', redis('7.0.15'));
    await program('apt-get', 'exit 0');
    await program('docker', 'exit 0');
    expect(await find(asRoot)).toEqual({ kind: 'binary', path });
    expect(await calls()).toEqual(['redis-server --version']);
    expect(told).toEqual([]);
  });

  it('takes a valkey-server where there is no redis-server', async () => {
    const path = await program('valkey-server', printing('Valkey server v=8.1.4'));
    expect(await find({})).toEqual({ kind: 'binary', path });
  });

  it('passes over an old redis-server to a valkey-server', async () => {
    await program('redis-server', redis('6.0.16'));
    const path = await program('valkey-server', printing('Valkey server v=7.2.5'));
    expect(await find({})).toEqual({ kind: 'binary', path });
  });

  it('passes over a program of that name that is no Redis', async () => {
    await program('redis-server', printing('Something server v=9.0.0'));
    await expect(find({})).rejects.toThrow(RedisServerMissingError);
  });
});

describe('a server that is too old', () => {
  it('is named with its version, and is not upgraded', async () => {
    const path = await program('redis-server', redis('6.0.16'));
    await program('apt-get', 'exit 0');
    await expect(find(asRoot)).rejects.toThrow(`${path} is version 6.0.16: too old`);
    expect(await calls()).toEqual(['redis-server --version']);
  });

  it('gives way to Docker', async () => {
    await program('redis-server', redis('6.2.0'));
    await program('docker', 'exit 0');
    expect(await find(asRoot)).toMatchObject({ kind: 'docker' });
  });
});

describe('installing', () => {
  it('does not happen unless allowed', async () => {
    await program('apt-get', installs('redis-check-rdb', '7.0.15'));
    await expect(find({ uid: 0 })).rejects.toThrow(RedisServerMissingError);
    expect(await calls()).toEqual(['']);
  });

  it('takes only the redis-tools package from apt-get, whose program serves under a link, and says so', async () => {
    await program('apt-get', installs('redis-check-rdb', '7.0.15'));
    const link = join(machine, 'links', 'redis-server');
    expect(await find(asRoot)).toEqual({ kind: 'binary', path: link });
    expect(await readlink(link)).toBe(join(machine, 'bin', 'redis-check-rdb'));
    const [first, ...others] = await calls();
    expect(first).toMatch(/^apt-get .*install --yes .* redis-tools$/);
    expect(others).toEqual([]);
    expect(told[0]).toContain('apt-get');
  });

  it('finds the link of an earlier installation', async () => {
    await program('apt-get', installs('redis-check-rdb', '7.0.15'));
    const first = await find(asRoot);
    expect(await find({})).toEqual(first);
    expect(await calls()).toHaveLength(1);
  });

  it('replaces a link whose program is gone', async () => {
    await program('apt-get', installs('redis-check-rdb', '7.0.15'));
    await find(asRoot);
    await rm(join(machine, 'bin', 'redis-check-rdb'));
    expect(await find(asRoot)).toMatchObject({ kind: 'binary' });
  });

  it('updates the package lists only when the package is unknown', async () => {
    const known = `"${machine}/known"`;
    await program(
      'apt-get',
      `case "$*" in *update*) : > ${known};; *) test -e ${known} || exit 100; ${installs('redis-check-rdb', '7.2.4')};; esac`,
    );
    expect(await find(asRoot)).toMatchObject({ kind: 'binary' });
    const verbs = (await calls()).map((call) => /install|update/.exec(call)?.[0]);
    expect(verbs).toEqual(['install', 'update', 'install']);
  });

  it('uses sudo where that asks for no password', async () => {
    await program('apt-get', installs('redis-check-rdb', '7.0.15'));
    await program('sudo', sudo);
    expect(await find({ mayInstall: true })).toMatchObject({ kind: 'binary' });
    expect((await calls())[0]).toBe('sudo -n true');
  });

  it('leaves apt-get alone where sudo would ask for a password', async () => {
    await program('apt-get', installs('redis-check-rdb', '7.0.15'));
    await program('sudo', 'exit 1');
    await expect(find({ mayInstall: true })).rejects.toThrow(RedisServerMissingError);
    expect(await calls()).toEqual(['sudo -n true']);
  });

  it('uses brew on macOS', async () => {
    await program('brew', installs('redis-server', '8.2.1'));
    await program('docker', 'exit 0');
    const path = join(machine, 'bin', 'redis-server');
    expect(await find({ mayInstall: true, platform: 'darwin', uid: 501 })).toEqual({ kind: 'binary', path });
    expect(await calls()).toEqual(['brew install redis']);
    expect(told[0]).toContain('brew install redis');
  });

  it('that fails, or brings an old server, gives way to Docker', async () => {
    const docker = await program('docker', 'exit 0');
    await program('apt-get', 'exit 100');
    expect(await find(asRoot)).toMatchObject({ kind: 'docker', command: docker });
    await program('apt-get', installs('redis-check-rdb', '6.0.16'));
    expect(await find(asRoot)).toMatchObject({ kind: 'docker', command: docker });
    expect((await lstat(join(machine, 'links', 'redis-server'))).isSymbolicLink()).toBe(true);
  });
});

describe('when nothing helps', () => {
  it('names the command to type on each platform', async () => {
    const message = await find(asRoot).then(
      () => 'found one',
      (error: unknown) => (error instanceof RedisServerMissingError ? error.message : String(error)),
    );
    expect(message).toContain('sudo apt-get update && sudo apt-get install redis-server');
    expect(message).toContain('brew install redis');
    expect(message).toContain('Docker');
  });

  it('does not count a Docker client whose engine is down', async () => {
    await program('docker', 'echo; exit 1');
    await expect(find({})).rejects.toMatchObject({ code: 'REDIS_SERVER_MISSING', transient: false });
  });
});

const freePort = (): Promise<number> =>
  new Promise((resolve) => {
    const server = createServer().listen(0, '127.0.0.1', () => {
      const address = server.address();
      server.close(() => resolve(typeof address === 'object' && address !== null ? address.port : 0));
    });
  });

/** The answer to one command; empty when nobody listens. */
const send = (port: number, command: string): Promise<string> =>
  new Promise((resolve) => {
    const socket = connect({ host: '127.0.0.1', port }, () => socket.write(`${command}\r\n`));
    socket.on('error', () => resolve(''));
    socket.on('data', (chunk) => {
      resolve(chunk.toString());
      socket.destroy();
    });
  });

describe('starting a server', () => {
  it('answers PING, keeps nothing on disk, and is gone after stop', async () => {
    const port = await freePort();
    const server = await startRedis(await findRedisServer(), { port });
    expect(server.url).toBe(`redis://127.0.0.1:${port}`);
    expect(await send(port, 'PING')).toBe('+PONG\r\n');
    expect(await send(port, 'CONFIG GET save')).toBe('*2\r\n$4\r\nsave\r\n$0\r\n\r\n');
    await server.stop();
    expect(await send(port, 'PING')).toBe('');
    await server.stop();
  });

  it('is told to shut down, so that it tidies up after itself', async () => {
    const pidfile = join(machine, 'redis.pid');
    const server = await startRedis(await findRedisServer(), { port: await freePort(), args: ['--pidfile', pidfile] });
    expect(await readFile(pidfile, 'utf8')).toMatch(/^\d+/);
    await server.stop();
    await expect(readFile(pidfile)).rejects.toMatchObject({ code: 'ENOENT' });
  });

  it('passes further arguments on, a password included', async () => {
    const port = await freePort();
    const server = await startRedis(await findRedisServer(), { port, args: ['--requirepass', 'secret'] });
    try {
      expect(await send(port, 'PING')).toMatch(/^-NOAUTH/);
    } finally {
      await server.stop();
    }
  });

  it('does not take another server on the port for its own', async () => {
    const port = await freePort();
    const found = await findRedisServer();
    const first = await startRedis(found, { port });
    try {
      await expect(startRedis(found, { port })).rejects.toThrow(/taken by another Redis|Address already in use/);
      expect(await send(port, 'PING')).toBe('+PONG\r\n');
    } finally {
      await first.stop();
    }
  });

  it('shows the last words of a server that ends at once', async () => {
    const path = await program('redis-server', 'echo "out of order"; exit 3');
    const starting = startRedis({ kind: 'binary', path }, { port: await freePort() });
    await expect(starting).rejects.toThrow(/ended at once:\nout of order/);
  });

  it('publishes a container on the loopback only, and removes it by its id', async () => {
    const port = await freePort();
    // The container is played by a real server, on the port that the first argument of --publish names.
    const found = await findRedisServer();
    const real = await startRedis(found, { port });
    try {
      const command = await program('docker', 'case "$1" in run) echo 0123abcd;; esac');
      const server = await startRedis({ kind: 'docker', command, image: 'redis:test' }, { port });
      await server.stop();
      const [started, stopped] = await calls();
      expect(started).toContain(`run --detach --rm --publish 127.0.0.1:${port}:6379 redis:test --save`);
      expect(stopped).toBe('docker rm --force 0123abcd');
    } finally {
      await real.stop();
    }
  });

  it('says so when the container cannot be started', async () => {
    const command = await program('docker', 'exit 125');
    const starting = startRedis({ kind: 'docker', command, image: 'redis:test' }, { port: await freePort() });
    await expect(starting).rejects.toThrow('exit code 125');
  });
});
