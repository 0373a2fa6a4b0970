// Finds or fetches every program that the tests of this folder need; says in one line what cannot be had.
import { findEnvoy, findGateway, findValidator } from './programs.ts';

try {
  await findGateway('nginx');
  await findGateway('haproxy');
  await findEnvoy();
  await findValidator();
} catch (error) {
  const message = error instanceof Error ? error.message : String(error);
  process.stderr.write(`${message.split('\n')[0]}\n`);
  process.exitCode = 1;
}
