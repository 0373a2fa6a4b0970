import { pino } from 'pino';
import { startLimiter } from '../limiter/limiter.ts';
import { REDACTION } from '../limiter/redaction.ts';
import type { LimiterSettings } from './settings/limiter.ts';
import { untilStopped } from './until-stopped.ts';

/** Runs until a signal. */
export async function runLimiter(settings: LimiterSettings): Promise<void> {
  const { logLevel, ...options } = settings;
  const log = pino({ level: logLevel, redact: REDACTION, base: { role: 'limiter', pod: settings.pod } });
  const limiter = await startLimiter({ ...options, log });
  log.info({ event: 'stopping', cause: await untilStopped() });
  await limiter.stop();
}
