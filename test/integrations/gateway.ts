import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { eventually } from '../harness/eventually.ts';
import { freePort } from '../harness/redis.ts';

const DOCS = join(import.meta.dirname, '../../docs/integrations');

const STOP_MILLIS = 10_000;

export type Backend = {
  readonly port: number;
  /** Method and URL of every request that reached it. */
  readonly seen: string[];
  stop(): Promise<void>;
};

/** The application behind the gateway. */
export async function startBackend(): Promise<Backend> {
  const seen: string[] = [];
  const server = createServer((request, response) => {
    seen.push(`${request.method} ${request.url}`);
    response.end('hello from the application');
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  const port = typeof address === 'object' && address !== null ? address.port : 0;
  return {
    port,
    seen,
    stop: async () => {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
}

export type Gateway = { readonly url: string; output(): string; stop(): Promise<void> };

export type GatewaySpec = {
  readonly program: string;
  /** Files of docs/integrations; the first is the configuration. */
  readonly files: readonly string[];
  /** Texts in them, and what stands there in the test. */
  readonly replacements: readonly (readonly [string | RegExp, string])[];
  /** `port` is the one to listen on, which takes the place of 8000 in the files. */
  readonly args: (configuration: string, folder: string, port: number) => readonly string[];
};

/** A gateway with a documented configuration, in which only addresses and ports are replaced. */
export async function startGateway(spec: GatewaySpec): Promise<Gateway> {
  const folder = await mkdtemp(join(tmpdir(), 'sluice-gateway-'));
  const port = await freePort();
  for (const file of spec.files) {
    let text = await readFile(join(DOCS, file), 'utf8');
    for (const [from, to] of [...spec.replacements, ['8000', String(port)] as const, ['FOLDER', folder] as const]) {
      text = text.replaceAll(from instanceof RegExp ? new RegExp(from.source, 'g') : from, to);
    }
    await writeFile(join(folder, file), text);
  }
  const child = spawn(spec.program, spec.args(join(folder, spec.files[0] ?? ''), folder, port), {
    cwd: folder,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  child.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()));
  child.stderr.on('data', (chunk: Buffer) => (output += chunk.toString()));
  // Not SIGKILL: nginx would leave its workers behind.
  const killWithUs = (): boolean => child.kill('SIGTERM');
  process.once('exit', killWithUs);
  const url = `http://127.0.0.1:${port}`;
  await eventually(async () => {
    if (child.exitCode !== null) throw new Error(`it ended: ${output}`);
    const { status } = await fetch(`${url}/v9/is-it-there`);
    // Traefik answers before it has read where requests go.
    if (status === 404) throw new Error('it knows no route yet');
  }, 60_000).catch((error: unknown) => {
    child.kill('SIGTERM');
    throw new Error(`${spec.program} does not serve: ${output}`, { cause: error });
  });
  return {
    url,
    output: () => output,
    stop: async () => {
      process.off('exit', killWithUs);
      if (child.exitCode === null) {
        const exited = once(child, 'exit');
        child.kill('SIGTERM');
        const impatience = setTimeout(() => child.kill('SIGKILL'), STOP_MILLIS);
        await exited;
        clearTimeout(impatience);
      }
      await rm(folder, { recursive: true, force: true });
    },
  };
}
