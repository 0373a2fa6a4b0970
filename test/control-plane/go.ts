import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { startChild, tail } from './child.ts';
import { GO_ENVIRONMENT } from './recipe.ts';

// The first that fetches the Go which a module asks for.
const OLDEST_MINOR = 21;

/** Why Go cannot be used, or undefined if it can. */
export async function checkGo(environment: NodeJS.ProcessEnv): Promise<string | undefined> {
  const env = { ...environment, ...GO_ENVIRONMENT };
  let version: string;
  try {
    version = (await promisify(execFile)('go', ['env', 'GOVERSION'], { env })).stdout.trim();
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return 'there is no "go" on the PATH';
    return `"go env" fails: ${String(error)}`;
  }
  const [, major, minor] = /go(\d+)\.(\d+)/.exec(version) ?? [];
  const isNewEnough = Number(major) > 1 || (Number(major) === 1 && Number(minor) >= OLDEST_MINOR);
  return isNewEnough ? undefined : `the "go" on the PATH is ${version}, which is too old`;
}

/** Runs `go` in the folder, keeping its output there, and gives what it printed on stdout. */
export async function runGo(
  args: readonly string[],
  options: { readonly folder: string; readonly environment: NodeJS.ProcessEnv },
): Promise<string> {
  const stdout = join(options.folder, `${args[0] ?? ''}.out`);
  const stderr = join(options.folder, `${args[0] ?? ''}.log`);
  const environment = { ...options.environment, ...GO_ENVIRONMENT };
  const child = startChild('go', args, { cwd: options.folder, environment, stdout, stderr });
  const ending = await child.ended;
  // `go mod download -json` says on stdout what went wrong.
  if (!ending.isSuccess) {
    const said = [await tail(stdout), await tail(stderr)].filter((text) => text !== '');
    throw new Error([`go ${args.join(' ')}: ${ending.how}`, ...said].join('\n'));
  }
  return readFile(stdout, 'utf8');
}
