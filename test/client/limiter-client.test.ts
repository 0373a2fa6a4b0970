import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { LimiterClient } from '../../client/index.ts';
import { eventually } from '../harness/eventually.ts';

const ANSWER = { action: 'ALLOW', allowed: true, reason: 'WITHIN_LIMIT' };

/** A process of its own, so that it answers while this one is stalled. */
let server: ChildProcess;
let endpoint: string;

beforeAll(async () => {
  const program = `
    const server = require('node:http').createServer((request, response) => {
      request.resume();
      request.once('end', () => response.end(${JSON.stringify(JSON.stringify(ANSWER))}));
    });
    server.listen(0, '127.0.0.1', () => process.send(server.address().port));`;
  server = spawn(process.execPath, ['-e', program], { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
  const [port]: number[] = await once(server, 'message');
  endpoint = `http://127.0.0.1:${port}`;
});
afterAll(() => server.kill('SIGKILL'));

/** Blocks the event loop for 60 ms and until the server has answered somebody who came later. */
function stallUntilServerAnswered(): void {
  const program = `fetch('${endpoint}').then(() => setTimeout(() => process.exit(0), 60))`;
  const { status } = spawnSync(process.execPath, ['-e', program]);
  if (status !== 0) throw new Error('the server did not answer');
}

describe('a client of a limiter', () => {
  it('counts no stall of its own process against a limiter that has answered', async () => {
    const client = new LimiterClient({ endpoints: [endpoint], timeoutMs: 20 });
    // From here on it has a connection, over which a question leaves in the turn in which it is asked.
    await eventually(() => client.check({ domain: 'payments' }));
    const outcomes: unknown[] = [];
    for (let round = 0; round < 5; round += 1) {
      const checked = client.check({ domain: 'payments' }).catch(String);
      await new Promise(setImmediate);
      stallUntilServerAnswered();
      outcomes.push(await checked);
    }
    expect(outcomes).toEqual(Array.from({ length: 5 }, () => ({ kind: 'decided', answer: ANSWER })));
    client.close();
  });

  it('needs to know at least one', () => {
    expect(() => new LimiterClient({ endpoints: [], timeoutMs: 50 })).toThrow(RangeError);
    expect(() => new LimiterClient({ endpoints: ['not a URL'], timeoutMs: 50 })).toThrow(TypeError);
  });
});
