#!/usr/bin/env node
// The one entry point of all roles, and the only place that wires parts together. Each role is loaded when it is
// asked for, so that a limiter does not carry the operator's libraries.
import { readFileSync } from 'node:fs';
import { Command, CommanderError, Option } from 'commander';
import { addKeyCommand } from './key-command.ts';
import { addPardonCommand } from './pardon-command.ts';
import { limiterOptions, limiterSettings } from './settings/limiter.ts';
import { operatorOptions, operatorSettings } from './settings/operator.ts';
import { SettingsError } from './settings/setting.ts';

const program = new Command('sluice')
  .description('Kubernetes-native rate limiting and abuse decisions')
  .version(versionOf(new URL(import.meta.resolve('sluice/package.json'))))
  .exitOverride();

const operator = program
  .command('operator')
  .description('publish the resources of a cluster, and write back what is enforced');
for (const option of operatorOptions()) operator.addOption(option);
const fromFiles = new Option('--resources <directory>', 'directory of YAML files to publish instead of a cluster');
operator.addOption(fromFiles.env('SLUICE_RESOURCES'));
operator.action(async (raw: Record<string, string | undefined>) => {
  if (raw['resources'] !== undefined) {
    const { runDirectoryOperator } = await import('./run-directory-operator.ts');
    return runDirectoryOperator(operatorSettings(raw), raw['resources']);
  }
  const { runOperator } = await import('./run-operator.ts');
  await runOperator(operatorSettings(raw));
});

const limiter = program.command('limiter').description('decide about requests by the published configuration');
for (const option of limiterOptions()) limiter.addOption(option);
limiter.action(async (raw: Record<string, string | undefined>) => {
  const { runLimiter } = await import('./run-limiter.ts');
  await runLimiter(limiterSettings(raw));
});

program
  .command('demo')
  .description('the demo application alone')
  .addOption(new Option('--host <value>', 'address to listen on').env('SLUICE_HOST').default('0.0.0.0'))
  .addOption(new Option('--port <value>', 'port to listen on').env('SLUICE_PORT').default('3000'))
  .addOption(
    new Option('--limiters <urls>', 'URLs of limiters, with commas between')
      .env('SLUICE_LIMITERS')
      .default('http://127.0.0.1:8080'),
  )
  .action(async (raw: { host: string; port: string; limiters: string }) => {
    const { runDemo } = await import('./run-demo.ts');
    await runDemo(raw);
  });

program
  .command('dev')
  .description('everything on this machine: operator on a directory of YAML, two limiters, a demo application')
  .option('--resources <directory>', 'directory of YAML files', 'examples/dev')
  .action(async ({ resources }: { resources: string }) => {
    const { runDev } = await import('./dev/run-dev.ts');
    await runDev({ resources, env: process.env });
  });

addKeyCommand(program);
addPardonCommand(program);

try {
  await program.parseAsync();
} catch (error) {
  if (error instanceof CommanderError) process.exitCode = error.exitCode === 0 ? 0 : 2;
  else {
    const message = error instanceof Error ? error.message : String(error);
    process.stderr.write(`${error instanceof SettingsError ? 'wrong settings:\n' : 'sluice: '}${message}\n`);
    process.exitCode = error instanceof SettingsError ? 2 : 1;
  }
}

function versionOf(file: URL): string {
  const { version } = Object(JSON.parse(readFileSync(file, 'utf8')));
  return String(version);
}
