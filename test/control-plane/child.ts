import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { readFile } from 'node:fs/promises';

export type ChildOptions = {
  readonly cwd: string;
  readonly environment: NodeJS.ProcessEnv;
  /** Files that its output is appended to. */
  readonly stdout: string;
  readonly stderr: string;
};

/** How a process ended, in words for a message. */
export type Ending = { readonly isSuccess: boolean; readonly how: string };

export type Child = {
  /** Undefined while it runs. */
  ending(): Ending | undefined;
  /** Never rejects: a command that cannot be started has ended, too. */
  readonly ended: Promise<Ending>;
  /** Kills it and its children, without waiting for their end; for handlers of `exit`. */
  killNow(): void;
  /** The same, and resolves when it is gone. */
  kill(): Promise<void>;
};

/** Starts a process that does not outlive this one, also if this one crashes or is killed. */
export function startChild(command: string, args: readonly string[], options: ChildOptions): Child {
  const spawned = spawnDetached(command, args, options);
  let ending: Ending | undefined;
  const killNow = (): void => {
    // Once it has ended, its number may belong to somebody else.
    if (spawned.pid !== undefined && ending === undefined) killProcessGroup(spawned.pid);
  };
  process.once('exit', killNow);
  const guard = spawned.pid === undefined ? undefined : startGuard(spawned.pid);
  const ended = endOf(spawned).then((result) => {
    ending = result;
    process.off('exit', killNow);
    guard?.kill('SIGKILL');
    return result;
  });
  const kill = async (): Promise<void> => {
    killNow();
    await ended;
  };
  return { ending: () => ending, ended, killNow, kill };
}

/** The last lines of a file, shortened; for messages. */
export async function tail(file: string, lines = 15): Promise<string> {
  const text = await readFile(file, 'utf8').catch(() => '');
  const last = text.trimEnd().split('\n').slice(-lines);
  return last.map((line) => (line.length > 400 ? `${line.slice(0, 400)}…` : line)).join('\n');
}

/** `detached` makes it the head of a process group, which can be killed as one. */
function spawnDetached(command: string, args: readonly string[], options: ChildOptions): ChildProcess {
  const stdout = openSync(options.stdout, 'a', 0o600);
  const stderr = openSync(options.stderr, 'a', 0o600);
  try {
    const { cwd, environment } = options;
    return spawn(command, args, { cwd, env: environment, detached: true, stdio: ['ignore', stdout, stderr] });
  } finally {
    closeSync(stdout);
    closeSync(stderr);
  }
}

function endOf(spawned: ChildProcess): Promise<Ending> {
  return new Promise((resolve) => {
    spawned.once('error', (error) => resolve({ isSuccess: false, how: `could not be started: ${error.message}` }));
    spawned.once('exit', (code, signal) =>
      resolve({ isSuccess: code === 0, how: signal === null ? `ended with code ${code}` : `ended by ${signal}` }),
    );
  });
}

/**
 * A shell that kills the process group when its own input ends. That input is held open by this process alone, so it ends
 * even where no handler of ours can run: on SIGKILL, on a signal without a handler, on a crash.
 */
function startGuard(pid: number): ChildProcess {
  const guard = spawn('/bin/sh', ['-c', 'read -r line; kill -9 "-$1"', 'sh', String(pid)], {
    detached: true,
    stdio: ['pipe', 'ignore', 'ignore'],
  });
  // Without it the rest still works; only the case above is not covered.
  guard.on('error', () => undefined);
  guard.stdin?.on('error', () => undefined);
  return guard;
}

function killProcessGroup(pid: number): void {
  try {
    process.kill(-pid, 'SIGKILL');
  } catch (error) {
    // Both say that nothing of it runs any more; macOS says EPERM while the dead are not yet waited for.
    if (!(error instanceof Error && 'code' in error && (error.code === 'ESRCH' || error.code === 'EPERM'))) throw error;
  }
}
