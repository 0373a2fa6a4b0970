// Values that the chart refuses, and the words that name what is wrong.
import { MINIMAL, type Values } from './helm.ts';

export type Refused = { readonly name: string; readonly values: Values; readonly says: readonly string[] };

const refusedSets: Refused[] = [
  { name: 'no Redis', values: { redis: {} }, says: ['exactly one of redis.url', 'given: none'] },
  {
    name: 'two of Redis',
    values: { redis: { url: 'redis://r:6379', development: { enabled: true } } },
    says: ['given: redis.url, redis.development.enabled'],
  },
  {
    name: 'a Redis that is none',
    values: { redis: { url: 'http://r' } },
    says: ['redis.url must begin with redis://'],
  },
  {
    name: 'Sentinels without the name of the primary',
    values: { redis: { url: 'redis+sentinel://a:26379,b:26379' } },
    says: ['redis.url names Sentinels and no primary', 'redis+sentinel://host,host/primary'],
  },
  {
    name: 'a database of a Redis Cluster',
    values: { redis: { url: 'redis+cluster://a,b/1' } },
    says: ['redis.url names a database of a Redis Cluster'],
  },
  {
    name: 'several hosts of what is neither Sentinels nor a Cluster',
    values: { redis: { url: 'redis://a,b' } },
    says: ['redis.url names several hosts', 'redis+sentinel://', 'redis+cluster://'],
  },
  {
    name: 'a port of Redis that the network policies would close',
    values: {
      redis: { url: 'redis+sentinel://a:26379,b:26380/primary' },
      networkPolicy: { redisPorts: [6379, 26379] },
    },
    says: ['networkPolicy.redisPorts (6379, 26379) lacks 26380, which redis.url uses'],
  },
  {
    name: "the Sentinels' own port, which the network policies would close",
    values: { redis: { url: 'redis+sentinel://a/primary' } },
    says: ['networkPolicy.redisPorts (6379) lacks 26379, which redis.url uses'],
  },
  {
    name: 'a password of Sentinels in the values',
    values: { redis: { url: 'rediss+sentinel://app:secret@a/primary' } },
    says: ['redis.url holds a user name or password', 'redis.existingSecret'],
  },
  {
    name: 'a password in the values',
    values: { redis: { url: 'redis://app:secret@r:6379' } },
    says: ['redis.url holds a user name or password', 'redis.existingSecret'],
  },
  {
    name: 'a certificate authority without TLS',
    values: { redis: { url: 'redis://r:6379', caSecret: { name: 'ca' } } },
    says: ['redis.caSecret has no effect', 'rediss://'],
  },
  {
    name: 'a certificate authority of the development Redis',
    values: { redis: { development: { enabled: true }, caSecret: { name: 'ca' } } },
    says: ['the development Redis has no TLS'],
  },
  {
    name: 'a pepper that is replaced without the Secret that has both',
    values: { pepper: { isReplaced: true } },
    says: ['pepper.isReplaced needs the Secret'],
  },
  {
    name: 'fewer pods at most than at least',
    values: { limiter: { autoscaling: { minReplicas: 5, maxReplicas: 2 } } },
    says: ['minReplicas (5) is above maxReplicas (2)'],
  },
  {
    name: 'an autoscaler without a CPU request',
    values: { limiter: { resources: { requests: { cpu: null } } } },
    says: ['limiter.resources.requests.cpu'],
  },
  {
    name: 'no time to stop',
    values: { limiter: { preStopSeconds: 30, terminationGracePeriodSeconds: 30 } },
    says: ['limiter.terminationGracePeriodSeconds (30) is too short', 'preStopSeconds (30)', 'are 37'],
  },
  {
    name: 'a headless Service with another port than its pods',
    values: { limiter: { grpc: { port: 9000 } } },
    says: ["limiter.grpc.port (9000) cannot differ from the pods' 8081"],
  },
  {
    name: 'a detail that there is not',
    values: { limiter: { metricsDetail: 'Subject' } },
    says: ['/limiter/metricsDetail'],
  },
  { name: 'no subjects', values: { limiter: { maxSubjectsPerRule: 0 } }, says: ['/limiter/maxSubjectsPerRule'] },
  {
    name: 'a network that is none',
    values: { limiter: { trustedCallers: ['everyone'] } },
    says: ['/limiter/trustedCallers/0'],
  },
  {
    name: 'a budget of nothing',
    values: { operator: { podDisruptionBudget: { maxUnavailable: 0 } } },
    says: ['operator.podDisruptionBudget.maxUnavailable of 0'],
  },
  {
    name: 'a budget of no percent',
    values: { limiter: { podDisruptionBudget: { maxUnavailable: '0%' } } },
    says: ['limiter.podDisruptionBudget.maxUnavailable of 0'],
  },
  {
    name: 'a service account without a name',
    values: { operator: { serviceAccount: { create: false } } },
    says: ['operator.serviceAccount.name'],
  },
  {
    name: 'a variable that the chart sets',
    values: { limiter: { extraEnv: [{ name: 'SLUICE_REDIS_URL', value: 'x' }] } },
    says: ['limiter.extraEnv sets SLUICE_REDIS_URL'],
  },
  {
    name: 'a variable that the chart sets for one of the two only',
    values: { limiter: { extraEnv: [{ name: 'SLUICE_CHECK_DOMAIN', value: 'x' }] } },
    says: ['limiter.extraEnv sets SLUICE_CHECK_DOMAIN'],
  },
  { name: 'half a digest', values: { image: { digest: 'sha256:abc' } }, says: ['image.digest must be sha256:'] },
  {
    name: 'callers without a label',
    values: { networkPolicy: { callerLabels: { 'sluice.dev/caller': null } } },
    says: ['networkPolicy.callerLabels'],
  },
  {
    name: 'monitors that must be, and cannot',
    values: { metrics: { renderMode: 'FailIfMissing' } },
    says: ['metrics.renderMode is FailIfMissing', 'PodMonitor'],
  },
  {
    name: 'two contradictions, both named',
    values: { redis: {}, pepper: { isReplaced: true } },
    says: ['exactly one of redis.url', 'pepper.isReplaced'],
  },
  // Refused by values.schema.json.
  { name: 'an unknown value', values: { limitter: {} }, says: ['limitter'] },
  { name: 'an unknown value inside', values: { limiter: { replica: 3 } }, says: ['/limiter', 'replica'] },
  { name: 'a text for a number', values: { limiter: { replicas: 'two' } }, says: ['/limiter/replicas', 'integer'] },
  { name: 'no operator', values: { operator: { replicas: 0 } }, says: ['/operator/replicas', 'minimum'] },
  { name: 'an impossible port', values: { limiter: { service: { port: 70_000 } } }, says: ['/limiter/service/port'] },
  { name: 'an unknown log level', values: { limiter: { logLevel: 'loud' } }, says: ['/limiter/logLevel', "'trace'"] },
  { name: 'an installation that is no label', values: { installation: 'My App' }, says: ['/installation'] },
  { name: 'an unknown monitor', values: { metrics: { monitor: 'Both' } }, says: ['/metrics/monitor'] },
  { name: 'an interval without a unit', values: { metrics: { interval: '15' } }, says: ['/metrics/interval'] },
];

export const refused: readonly Refused[] = refusedSets.map((set) => ({
  ...set,
  values: { ...MINIMAL, ...set.values },
}));
