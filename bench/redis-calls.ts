// What Redis itself says of its calls: INFO commandstats, the histograms behind LATENCY, and SLOWLOG.
import type { Redis } from 'ioredis';
import type { Figures } from './figures.ts';

/** What takes longer than this holds everybody up. */
const SLOW_MICROS = 10_000;

/** Told of the calls of EVALSHA that `run` made; nothing else may ask for scripts meanwhile. */
export async function watchCalls(redis: Redis, decisions: number, run: () => Promise<Figures>): Promise<Figures> {
  await redis.config('SET', 'slowlog-log-slower-than', String(SLOW_MICROS));
  await redis.config('SET', 'slowlog-max-len', '1000');
  await redis.config('SET', 'latency-tracking-info-percentiles', '50 99 100');
  await redis.config('RESETSTAT');
  await redis.slowlog('RESET');
  const figures = await run();
  const stats = await redis.info('commandstats');
  const latencies = await redis.info('latencystats');
  return {
    ...figures,
    scriptMicros: numberIn(stats, /^cmdstat_evalsha:.*\busec=(\d+)/m) / decisions,
    callP50Micros: numberIn(latencies, /^latency_percentiles_usec_evalsha:.*\bp50=([\d.]+)/m),
    callP99Micros: numberIn(latencies, /^latency_percentiles_usec_evalsha:.*\bp99=([\d.]+)/m),
    callMaxMicros: numberIn(latencies, /^latency_percentiles_usec_evalsha:.*\bp100=([\d.]+)/m),
    slowCalls: Number(await redis.slowlog('LEN')),
  };
}

function numberIn(text: string, pattern: RegExp): number {
  const [, number] = pattern.exec(text) ?? [];
  if (number === undefined) throw new Error(`Redis says nothing that looks like ${pattern.source}`);
  return Number(number);
}
