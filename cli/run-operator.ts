import { randomUUID } from 'node:crypto';
import { pino } from 'pino';
import { ApiClient } from '../operator/kubernetes/api-client.ts';
import { ClusterSource } from '../operator/kubernetes/cluster-source.ts';
import { loadKubeConfig } from '../operator/kubernetes/connection.ts';
import { DefinitionCheck } from '../operator/kubernetes/definition-check.ts';
import { ServiceEndpoints } from '../operator/kubernetes/endpoints.ts';
import { EventRecorder } from '../operator/kubernetes/event-recorder.ts';
import { LabelledSecrets } from '../operator/kubernetes/key-secrets.ts';
import { LeaderElection, timesFor } from '../operator/kubernetes/leader-election.ts';
import { PepperSecret } from '../operator/kubernetes/pepper-secret.ts';
import { OperatorMetrics } from '../operator/metrics/metrics.ts';
import { CONTROLLERS, Operator } from '../operator/operator.ts';
import { startOps } from '../operator/ops.ts';
import type { OperatorSettings } from './settings/operator.ts';
import { untilStopped } from './until-stopped.ts';

/** An orderly stop that takes longer has failed: what is under way is lost, and written by the next leader. */
const STOP_MILLIS = 9_000;

/** Runs until a signal, or until another operator took over. */
export async function runOperator(settings: OperatorSettings): Promise<void> {
  const log = pino({ level: settings.logLevel, base: { role: 'operator', pod: settings.pod } });
  const metrics = new OperatorMetrics({ controllers: CONTROLLERS, lease: settings.lease.name });
  const client = new ApiClient(loadKubeConfig(settings.kubeconfig), {
    perSecond: settings.apiRequestsPerSecond,
    burst: 2 * settings.apiRequestsPerSecond,
    observer: metrics.client,
  });
  const stopped = untilStopped();
  const displaced = Promise.withResolvers<'displaced'>();
  const events = new EventRecorder({ client, instance: settings.pod, log, observer: metrics });
  const definitions = new DefinitionCheck(client, log);
  const onFatal = (): void => displaced.resolve('displaced');
  const operator = createOperator(settings, { client, log, metrics, events, onFatal });
  const ops = await startOps({
    host: settings.host,
    port: settings.opsPort,
    registry: metrics.registry,
    problem: () => (operator.hasSynced() ? undefined : 'not all resources have been read yet'),
    warnings: () => definitions.problems,
    snapshot: () => operator.snapshot(),
  }).catch(async (error: unknown) => {
    // Their connections would keep this process, which nobody can ask anything, alive for ever.
    await operator.stop();
    await client.close();
    throw error;
  });
  log.info({ event: 'operator_started', ops_port: ops.port });
  events.start();
  definitions.start();
  operator.start();
  const cause = await Promise.race([stopped, displaced.promise]);
  // Whoever took over goes on; this process must not come back to life by itself.
  const exitCode = cause === 'displaced' ? 1 : 0;
  process.exitCode = exitCode;
  log.info({ event: 'stopping', cause });
  setTimeout(() => process.exit(exitCode), STOP_MILLIS).unref();
  await operator.stop();
  await Promise.all([events.stop(), definitions.stop(), ops.stop()]);
  await client.close();
}

type Parts = {
  readonly client: ApiClient;
  readonly log: pino.Logger;
  readonly metrics: OperatorMetrics;
  readonly events: EventRecorder;
  readonly onFatal: () => void;
};

function createOperator(settings: OperatorSettings, { client, log, metrics, events, onFatal }: Parts): Operator {
  const { redisUrl, installation, owner, pepper, lease, limiterService } = settings;
  const following = { log, observer: metrics.watch };
  return new Operator({
    redisUrl,
    installation,
    owner,
    pepper: typeof pepper === 'string' ? pepper : new PepperSecret({ client, secret: pepper.secret, log }),
    log,
    metrics,
    onFatal,
    onTransitions: (resource, transitions) => {
      for (const transition of transitions) events.record(resource, transition);
    },
    source: new ClusterSource({ client, ...following }),
    leadership: new LeaderElection({
      client,
      lease,
      identity: `${settings.pod}_${randomUUID()}`,
      log,
      times: timesFor(lease.seconds),
      observer: metrics.election,
    }),
    ...(settings.keyNamespaces.length === 0
      ? {}
      : { keySecrets: new LabelledSecrets(client, settings.keyNamespaces, following) }),
    ...(limiterService === undefined ? {} : { endpoints: new ServiceEndpoints(client, limiterService, following) }),
  });
}
