import { execFile } from 'node:child_process';
import { join } from 'node:path';

export type KubectlOptions = {
  /** What `-f -` reads. */
  readonly stdin?: string;
  /** The command has to fail; its stderr is the result. */
  readonly expectFailure?: boolean;
  /** After so long it is killed. */
  readonly timeoutMillis?: number;
};

export type Kubectl = (args: readonly string[], options?: KubectlOptions) => Promise<string>;

// Only a bound for a command that hangs.
const TIMEOUT_MILLIS = 120_000;
const MAX_OUTPUT_BYTES = 64 * 1024 * 1024;

/** A kubectl with the kubeconfig, which neither reads nor writes the user's own settings and cache. */
export function kubectlWith(binary: string, kubeconfigPath: string, folder: string): Kubectl {
  const env = {
    ...process.env,
    KUBECONFIG: kubeconfigPath,
    KUBECACHEDIR: join(folder, 'kubectl-cache'),
    KUBERC: 'off',
  };
  return (args, { stdin = '', expectFailure = false, timeoutMillis = TIMEOUT_MILLIS } = {}) =>
    new Promise((resolve, reject) => {
      const options = { env, timeout: timeoutMillis, killSignal: 'SIGKILL', maxBuffer: MAX_OUTPUT_BYTES } as const;
      const command = `kubectl ${args.join(' ')}`;
      const child = execFile(binary, [...args], options, (error, stdout, stderr) => {
        if (error === null) {
          if (expectFailure) reject(new Error(`${command} should have failed, but printed:\n${stdout}`));
          else resolve(stdout);
        } else if (expectFailure && typeof error.code === 'number') {
          resolve(stderr);
        } else {
          const how = typeof error.code === 'number' ? `exit code ${error.code}` : error.message;
          reject(new Error(`${command} failed (${how}):\n${stderr}`, { cause: error }));
        }
      });
      // A kubectl that refuses its arguments does not read what it is sent; its exit code tells.
      child.stdin?.on('error', () => undefined);
      child.stdin?.end(stdin);
    });
}
