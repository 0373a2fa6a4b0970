import { spawnSync } from 'node:child_process';

/**
 * Blocks the event loop for at least so long, and until Redis, which does one thing after the other, has answered
 * somebody who came later: then the replies are there, and only this process is slow. Returns what Redis answered to
 * `command`, the first bytes of it.
 */
export function stallUntilRedisAnswered(port: number, millis: number, command = 'PING'): string {
  const program = `
    const socket = require('node:net').connect(${port}, '127.0.0.1', () => socket.write('${command}\\r\\n'));
    socket.once('data', (answer) => {
      process.stdout.write(answer);
      setTimeout(() => socket.destroy(), ${millis});
    });`;
  const { status, stdout } = spawnSync(process.execPath, ['-e', program], { encoding: 'utf8' });
  if (status !== 0) throw new Error('Redis did not answer');
  return stdout;
}
