import { randomUUID } from 'node:crypto';
import type { Logger } from 'pino';
import type { Snapshot } from '../policy/snapshot.ts';
import type { RedisClock } from '../store/clock.ts';
import type { Asked, AskedResult, Engine } from './asked.ts';
import type { DecisionLog } from './decision-log.ts';
import type { DeniedList } from './denied.ts';
import type { HeaderFamily } from './rate-limit-headers.ts';
import type { LimiterMetrics } from './metrics.ts';
import type { Networks } from './trust.ts';

/** Gives back what admitted requests were charged. Throws StoreError. */
export type Refunds = {
  /** What was charged under this id; once. */
  byId(refundId: string): Promise<'refunded' | 'unknown'>;
  /** The cost of a request like this one, which nobody remembers. */
  anonymously(snapshot: Snapshot, asked: Asked): Promise<void>;
};

/** What every door to the limiter needs. */
export type DoorParts = {
  readonly engine: Engine;
  readonly refunds: Refunds;
  readonly clock: RedisClock;
  readonly metrics: LimiterMetrics;
  readonly denied: DeniedList;
  readonly decisionLog: DecisionLog;
  readonly log: Logger;
  /** Domain of POST /check, which names none. */
  readonly checkDomain: string;
  /** Who is believed about consumers, tenants, tiers, addresses and costs. */
  readonly trustedCallers: Networks;
  /** Whose X-Forwarded-* headers are believed. */
  readonly trustedProxies: Networks;
  readonly headerFamilies: readonly HeaderFamily[];
  readonly rlsHeaderFamilies: readonly HeaderFamily[];
  readonly snapshot: () => Snapshot | undefined;
  readonly isRedisReachable: () => boolean;
};

/** What can be the id of a request. */
export const REQUEST_ID = /^[\x21-\x7e]{1,128}$/;

/** The id that a caller gave to its request, if it can be one, else a new one. */
export function requestIdFrom(given: unknown): string {
  return typeof given === 'string' && REQUEST_ID.test(given) ? given : randomUUID();
}

/** Asks the engine, and measures how long it takes. */
export async function ask(parts: DoorParts, snapshot: Snapshot, asked: Asked): Promise<AskedResult> {
  const start = performance.now();
  const result = await parts.engine.check(snapshot, asked);
  parts.metrics.observeDuration((performance.now() - start) / 1000);
  if (result.decision.action !== 'ALLOW') parts.denied.note(asked, result.decision);
  parts.decisionLog.note(asked, result);
  return result;
}
