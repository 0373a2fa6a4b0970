import { pino } from 'pino';
import { ApiClient, loadKubeConfig } from '../operator/kubernetes/api-client.ts';
import { ClusterSource } from '../operator/kubernetes/cluster-source.ts';
import { Operator } from '../operator/operator.ts';
import type { OperatorSettings } from './settings.ts';
import { untilStopped } from './until-stopped.ts';

/** Runs until a signal, or until another operator took over. */
export async function runOperator(settings: OperatorSettings): Promise<void> {
  const log = pino({ level: settings.logLevel, base: { role: 'operator' } });
  const client = new ApiClient(loadKubeConfig(settings.kubeconfig));
  const { redisUrl, installation, owner, pepper } = settings;
  const displaced = Promise.withResolvers<'displaced'>();
  const operator = new Operator({
    redisUrl,
    installation,
    owner,
    pepper,
    log,
    source: new ClusterSource({ client, log }),
    onFatal: () => displaced.resolve('displaced'),
  });
  operator.start();
  const cause = await Promise.race([untilStopped(), displaced.promise]);
  log.info({ event: 'stopping', cause });
  await operator.stop();
  await client.close();
  // Whoever took over goes on; this process must not come back to life by itself.
  if (cause === 'displaced') process.exitCode = 1;
}
