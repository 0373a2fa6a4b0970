import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';
import { SCENARIOS } from '../../bench/scenarios.ts';

const RUN = join(import.meta.dirname, '../../bench/run.ts');

/** One of each kind of target, of those that need no time to prepare and no program that a test may not find. */
const KINDS = ['one-rule', 'full', 'denied', 'grpc', 'middleware', 'cluster', 'latency'];

/** A busy machine takes long; nothing here says how long. */
const PATIENCE_MILLIS = 600_000;

async function bench(...args: string[]): Promise<{ readonly code: number; readonly output: string }> {
  const env = { ...process.env, SECONDS: '1', ROUNDS: '1' };
  try {
    const { stdout } = await promisify(execFile)(process.execPath, [RUN, ...args], { env });
    return { code: 0, output: stdout };
  } catch (error) {
    if (!(error instanceof Error) || !('code' in error && 'stdout' in error && 'stderr' in error)) throw error;
    return { code: Number(error.code), output: `${String(error.stdout)}${String(error.stderr)}` };
  }
}

/** Cells of the tables, by the name in the first column. */
const rowsOf = (output: string): Map<string, string[]> =>
  new Map(
    output
      .split('\n')
      .filter((line) => line.startsWith('| '))
      .map((line) => line.split('|').map((cell) => cell.trim()))
      .map(([, name = '', ...cells]) => [name, cells]),
  );

describe('the benchmark', () => {
  it(
    'measures every ratio of a scenario, with right answers only',
    async () => {
      const run = await bench('--only', KINDS.join(','));
      expect(run).toMatchObject({ code: 0 });
      const rows = rowsOf(run.output);
      const ratios = SCENARIOS.filter(({ name }) => KINDS.includes(name)).flatMap((scenario) =>
        Object.keys(scenario.ratios),
      );
      expect(ratios.length).toBeGreaterThan(KINDS.length);
      expect(ratios.filter((ratio) => !(Number(rows.get(ratio)?.[0]) > 0))).toEqual([]);
    },
    PATIENCE_MILLIS,
  );

  it('names what it can be asked when it is asked for something else', async () => {
    const { code, output } = await bench('--only', 'one-rules');
    expect(code).toBe(1);
    expect(output).toMatch(/--only "one-rules" is not allowed: must be some of one-rule, /);
  });
});
