import type { Logger } from 'pino';
import type { DoorSettings } from './door-settings.ts';

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
  /** Denials that are answered from memory for up to a second; 0 = none. Default: 50,000. */
  readonly maxRememberedDenials?: number | undefined;
  /** Subjects of one rule in its longest window that have counters of their own. Default: 1,000,000. */
  readonly maxSubjectsPerRule?: number | undefined;
  readonly log: Logger;
};
