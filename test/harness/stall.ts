import { spawnSync } from 'node:child_process';

/**
 * Blocks the event loop for at least so long, and until Redis, which does one thing after the other, has answered
 * somebody who came later: then the replies are there, and only this process is slow.
 */
export function stallUntilRedisAnswered(port: number, millis: number): void {
  const program = `
    const socket = require('node:net').connect(${port}, '127.0.0.1', () => socket.write('PING\\r\\n'));
    socket.once('data', () => setTimeout(() => socket.destroy(), ${millis}));`;
  const { status } = spawnSync(process.execPath, ['-e', program]);
  if (status !== 0) throw new Error('Redis did not answer');
}
