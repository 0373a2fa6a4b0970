import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as pause } from 'node:timers/promises';

export type ServerSpec = {
  readonly name: string;
  /** Default: the Node that runs this. */
  readonly program?: string;
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  /** Answers 200 as soon as the server can be measured. */
  readonly readyUrl: string;
};

export type ServerProcess = {
  /** The end of what it printed. */
  output(): string;
  stop(): Promise<void>;
};

const READY_MILLIS = 20_000;
const STOP_MILLIS = 5_000;

/** A server as a process of its own; resolves when it is ready. */
export async function startServer(spec: ServerSpec, signal: AbortSignal): Promise<ServerProcess> {
  // Its own process group: Ctrl-C must reach only us, who then stop everything in order.
  const child = spawn(spec.program ?? process.execPath, spec.args, {
    env: { ...withoutSluice(process.env), NODE_ENV: 'production', ...spec.env },
    stdio: ['ignore', 'pipe', 'pipe'],
    detached: true,
  });
  let output = '';
  const keepEnd = (chunk: Buffer): void => void (output = (output + chunk.toString()).slice(-2_000));
  child.stdout.on('data', keepEnd);
  child.stderr.on('data', keepEnd);
  const killWithUs = (): boolean => child.kill('SIGKILL');
  process.once('exit', killWithUs);
  child.once('exit', () => process.off('exit', killWithUs));
  try {
    await untilReady(child, spec, signal);
  } catch (error) {
    await end(child);
    if (signal.aborted) throw error;
    throw new Error(`${spec.name} did not start: ${String(error)}\n${output}`, { cause: error });
  }
  return { output: () => output.trim(), stop: () => end(child) };
}

/** Settings of the user's own installation must not reach the limiter that is measured. */
function withoutSluice(env: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  return Object.fromEntries(Object.entries(env).filter(([name]) => !name.startsWith('SLUICE_')));
}

async function untilReady(child: ChildProcess, { readyUrl }: ServerSpec, signal: AbortSignal): Promise<void> {
  const deadline = performance.now() + READY_MILLIS;
  while (performance.now() < deadline) {
    const response = await fetch(readyUrl, { signal }).catch(() => undefined);
    await response?.body?.cancel();
    if (response?.status === 200) return;
    if (hasEnded(child)) throw new Error('it ended at once');
    await pause(50, undefined, { signal });
  }
  throw new Error(`it is not ready after ${READY_MILLIS} ms`);
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
