import { statSync } from 'node:fs';
import { type Logger, pino } from 'pino';
import { z } from 'zod';
import { DirectorySource } from '../operator/directory/directory-source.ts';
import { OperatorMetrics } from '../operator/metrics/metrics.ts';
import { CONTROLLERS, Operator } from '../operator/operator.ts';
import { startOps } from '../operator/ops.ts';
import { idOf } from '../policy/resource.ts';
import type { OperatorSettings } from './settings/operator.ts';
import { SettingsError } from './settings/setting.ts';
import { untilStopped } from './until-stopped.ts';

/** The operator without Kubernetes: what is in the YAML files of a directory is in force. Runs until a signal. */
export async function runDirectoryOperator(settings: OperatorSettings, directory: string): Promise<void> {
  const { redisUrl, installation, owner, pepper, pod, host, opsPort, lease } = settings;
  if (typeof pepper !== 'string') {
    throw new SettingsError('--pepper-secret (SLUICE_PEPPER_SECRET) needs a cluster: give --pepper-file');
  }
  if (statSync(directory, { throwIfNoEntry: false })?.isDirectory() !== true) {
    throw new SettingsError(`--resources (SLUICE_RESOURCES) "${directory}": must be a directory of YAML files`);
  }
  const log = pino({ level: settings.logLevel, base: { role: 'operator', pod } });
  const stopped = untilStopped();
  const displaced = Promise.withResolvers<'displaced'>();
  const metrics = new OperatorMetrics({ controllers: CONTROLLERS, lease: lease.name });
  const source = new DirectorySource(directory, announcer(log));
  const onFatal = (): void => displaced.resolve('displaced');
  const operator = new Operator({ redisUrl, installation, owner, pepper, log, metrics, source, onFatal });
  const ops = await startOps({
    host,
    port: opsPort,
    registry: metrics.registry,
    problem: () => (operator.hasSynced() ? undefined : 'the files have not been read yet'),
    warnings: () => [],
    snapshot: () => operator.snapshot(),
  }).catch(async (error: unknown) => {
    // Its connections would keep this process, which nobody can ask anything, alive for ever.
    await operator.stop();
    throw error;
  });
  operator.start();
  log.info({ event: 'operator_started', ops_port: ops.port, resources: directory });
  const cause = await Promise.race([stopped, displaced.promise]);
  if (cause === 'displaced') process.exitCode = 1;
  log.info({ event: 'stopping', cause });
  await operator.stop();
  await ops.stop();
}

const withProblems = z.object({
  problems: z.array(z.object({ path: z.string(), reason: z.string(), message: z.string() })).default([]),
});

/** There is no status to look at: what is wrong is in the log, with the place where it stands. */
function announcer(log: Logger): ConstructorParameters<typeof DirectorySource>[1] {
  return {
    onFileProblems: (problems) => {
      for (const problem of problems) log.error({ event: 'file_refused', ...problem });
    },
    onStatus: (resource, status, placeOf) => {
      for (const problem of withProblems.parse(status).problems)
        log.error({ event: 'resource_refused', resource: idOf(resource), at: placeOf(problem), ...problem });
    },
  };
}
