import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';

export type SluiceProcess = {
  readonly pid: number;
  /** Everything that it printed so far. */
  output(): string;
  /** Resolves with its exit code when it ends by itself. */
  exited(): Promise<number | null>;
  /** Ends it in good order; resolves with its exit code. */
  stop(): Promise<number | null>;
  /** Ends it with SIGKILL. */
  kill(): Promise<void>;
};

const MAIN = join(import.meta.dirname, '../../cli/main.ts');

/** Runs `sluice` as users do: a process of its own, with the Node that runs the tests, of these sources or another build. */
export function startSluice(
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
  main = MAIN,
): SluiceProcess {
  const child = spawn(process.execPath, [main, ...args], {
    env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  child.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()));
  child.stderr.on('data', (chunk: Buffer) => (output += chunk.toString()));
  const killWithUs = (): boolean => child.kill('SIGKILL');
  process.once('exit', killWithUs);
  child.once('exit', () => process.off('exit', killWithUs));
  return {
    pid: child.pid ?? 0,
    output: () => output,
    exited: () => ended(child),
    stop: () => end(child, 'SIGTERM'),
    kill: async () => {
      await end(child, 'SIGKILL');
    },
  };
}

async function ended(child: ChildProcess): Promise<number | null> {
  if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
  return child.exitCode;
}

function end(child: ChildProcess, signal: NodeJS.Signals): Promise<number | null> {
  const exited = ended(child);
  child.kill(signal);
  return exited;
}
