import { randomInt } from 'node:crypto';
import { createServer } from 'node:net';
import { eventually } from '../harness/eventually.ts';

// Below the range that Linux and macOS take the ports of outgoing connections from: a server that is stopped finds its
// port still free when it is started again, however many connections the other tests open meanwhile.
const FIRST = 10_000;
const LAST = 32_000;

/** A port of 127.0.0.1 that nobody listens on. */
export function choosePort(): Promise<number> {
  return eventually(() => tryPort(randomInt(FIRST, LAST)));
}

function tryPort(port: number): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', reject);
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(port)));
  });
}
