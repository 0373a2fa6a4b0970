import type { Command } from 'commander';
import { firstLineOf, listedHashOf, newKey } from './key.ts';

/** `sluice key new` and `sluice key hash`. */
export function addKeyCommand(program: Command): void {
  const key = program.command('key').description('API keys of consumers');
  key
    .command('new')
    .description('print a new key for a client, and its hash for apiKeyHashes of a Consumer')
    .option('--json', 'as {"key": ..., "hash": ...}')
    .action(({ json }: { json?: true }) => {
      const made = newKey();
      process.stdout.write(json === true ? `${JSON.stringify(made)}\n` : `key:  ${made.key}\nhash: ${made.hash}\n`);
      if (json !== true) {
        process.stderr.write('The key is shown this once. Give it to the client; list the hash in the Consumer.\n');
      }
    });
  key
    .command('hash')
    .description('print the hash of a key, for apiKeyHashes of a Consumer; the key is read from standard input')
    .action(async () => {
      process.stdout.write(`${listedHashOf(await firstLineOf(process.stdin))}\n`);
    });
}
