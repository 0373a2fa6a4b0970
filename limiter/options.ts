import type { Logger } from 'pino';
import type { DoorSettings } from './door-settings.ts';
import type { MetricsDetail } from './metrics.ts';

/** Each takes 2.2 KB, as measured: all of them stay below 32 MiB. */
export const MAX_REMEMBERED_DENIALS = 14_000;

/** 16 MiB for a rule that has so many, in each pod. */
export const MAX_SUBJECTS_PER_RULE = 1_000_000;

/** Log lines about denials. */
export const LOG_DENIED_PER_SECOND = 10;

export type LimiterOptions = {
  readonly redisUrl: string;
  readonly installation: string;
  readonly owner: string;
  /** Name of this pod, unique in the installation. */
  readonly pod: string;
  /** The secret under which API keys are kept. */
  readonly pepper: string;
  /** While it is being replaced, the one before. */
  readonly previousPepper?: string | undefined;
  readonly host: string;
  readonly port: number;
  readonly opsPort: number;
  /** Domain of POST /check. */
  readonly checkDomain: string;
  /** What becomes of requests to a domain that no policy speaks of. Default: Allow. */
  readonly unknownDomain?: 'Allow' | 'Deny';
  readonly redisDeadlineMillis: number;
  /** Where the operator hands out the configuration in force, for a start while Redis is away. */
  readonly snapshotUrl?: string | undefined;
  /** What is not said here is as in DOOR_DEFAULTS. */
  readonly doors?: Partial<DoorSettings>;
  /** Denials that are answered from memory for up to a second; 0 = none. Default: MAX_REMEMBERED_DENIALS. */
  readonly maxRememberedDenials?: number | undefined;
  /** Subjects of one rule in its longest window that have counters of their own. Default: MAX_SUBJECTS_PER_RULE. */
  readonly maxSubjectsPerRule?: number | undefined;
  /** How finely metrics tell decisions apart. Default: Policy. */
  readonly metricsDetail?: MetricsDetail | undefined;
  /** Log lines a second about allowed requests. Default: 0. */
  readonly logAllowedPerSecond?: number | undefined;
  /** Log lines a second about denied requests. Default: LOG_DENIED_PER_SECOND. */
  readonly logDeniedPerSecond?: number | undefined;
  readonly log: Logger;
};
