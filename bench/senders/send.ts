// Sends in a process of its own: wrk where it is, as it takes the least from whom it measures; our own sender for what
// wrk cannot do (a rate that does not wait, gRPC) and where there is no wrk.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { accessSync, constants } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { type Load, type LoadResult, refuseFailures, type SenderReport, Unmeasurable } from './load.ts';

const SCRIPT = join(import.meta.dirname, 'wrk.lua');
const OWN_SENDER = join(import.meta.dirname, 'own-sender.ts');

/** The file wrk on the PATH, if there is one. */
export function findWrk(path: string = process.env['PATH'] ?? ''): string | undefined {
  return path
    .split(delimiter)
    .map((folder) => join(folder, 'wrk'))
    .find((file) => {
      try {
        accessSync(file, constants.X_OK);
        return true;
      } catch {
        return false;
      }
    });
}

/** One turn. Throws Unmeasurable if any answer was a failure, or one of the sample is wrong. */
export async function send(load: Load, signal: AbortSignal): Promise<LoadResult> {
  const isForWrk = load.sender === 'fastest' && load.protocol === 'http' && load.ratePerSecond === undefined;
  const wrk = isForWrk ? findWrk() : undefined;
  const report = wrk === undefined ? await sendByUs(load, signal) : await sendByWrk(wrk, load, signal);
  refuseFailures(report);
  return report;
}

async function sendByWrk(wrk: string, load: Load, signal: AbortSignal): Promise<SenderReport> {
  const folder = await mkdtemp(join(tmpdir(), 'sluice-bench-'));
  try {
    const file = join(folder, 'requests');
    await writeFile(file, load.requests.map((request) => `${request}\0`).join(''));
    const options = [
      '-t1',
      `-c${load.connections}`,
      `-d${load.seconds}s`,
      '--timeout',
      '10s',
      '--latency',
      '-s',
      SCRIPT,
    ];
    const first = firstSubjectOf(load);
    const script = [file, String(load.subjects), String(first), String(load.count), ...load.fragments];
    return await reportOf(spawn(wrk, [...options, `http://127.0.0.1:${load.port}/`, '--', ...script]), signal);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function sendByUs(load: Load, signal: AbortSignal): Promise<SenderReport> {
  const child = spawn(process.execPath, [OWN_SENDER]);
  child.stdin.end(JSON.stringify({ ...load, firstSubject: firstSubjectOf(load) }));
  return reportOf(child, signal);
}

const firstSubjectOf = ({ subjects, firstSubject }: Load): number =>
  firstSubject ?? Math.floor(Math.random() * subjects);

/** The last line that a sender prints. */
async function reportOf(child: ChildProcess, signal: AbortSignal): Promise<SenderReport> {
  const stop = (): boolean => child.kill('SIGKILL');
  process.once('exit', stop);
  signal.addEventListener('abort', stop, { once: true });
  let [output, problems] = ['', ''];
  child.stdout?.on('data', (chunk: Buffer) => void (output += chunk.toString()));
  child.stderr?.on('data', (chunk: Buffer) => void (problems += chunk.toString()));
  await once(child, 'close');
  signal.removeEventListener('abort', stop);
  process.off('exit', stop);
  signal.throwIfAborted();
  const line = output.trim().split('\n').at(-1) ?? '';
  if (!line.startsWith('{')) throw new Unmeasurable(`the sender did not report: ${(problems + output).slice(-500)}`);
  return JSON.parse(line) as SenderReport;
}
