import {
  type Decision,
  decideOver,
  FAIL_OPEN,
  INVALID_API_KEY,
  NO_POLICY,
  NOTHING_APPLIES,
} from '../policy/decision.ts';
import { hashOfKey, recordNameOf } from '../policy/api-key.ts';
import { ownsDomain } from '../policy/resource.ts';
import { type RequestContext, selectLimits } from '../policy/select.ts';
import type { DomainIndex, Snapshot } from '../policy/snapshot.ts';
import type { RedisClock } from '../store/clock.ts';
import type { KeyLookup } from '../store/consumer-keys.ts';
import type { Decider } from '../store/decide.ts';
import { toStoreError } from '../store/errors.ts';
import type { KeyCache } from './key-cache.ts';
import type { LimiterMetrics } from './metrics.ts';

/** A request as a door of the limiter understood it: parsed, bounded, canonical. */
export type CheckRequest = {
  readonly domain: string;
  readonly cost: number;
  readonly apiKey: string | undefined;
  /** The id that a caller vouches for, without a source. */
  readonly consumer: string | undefined;
  readonly tier: string | undefined;
  readonly context: Omit<RequestContext, 'consumer' | 'tier'>;
};

export type CheckResult = {
  readonly decision: Decision;
  readonly tier: string | undefined;
  readonly revision: number;
};

/** A tier was asked for that no policy of the domain knows. */
export class UnknownTier extends Error {
  override readonly name = 'UnknownTier';
  readonly code = 'UNKNOWN_TIER';
  readonly transient = false;
  readonly tier: string;
  readonly known: readonly string[];

  constructor(tier: string, known: readonly string[]) {
    const allowed = known.length === 0 ? 'the domain has no tiers' : `must be ${known.join(' or ')}`;
    super(`${JSON.stringify(tier)} is not allowed: ${allowed}`);
    this.tier = tier;
    this.known = known;
  }
}

export type CheckerParts = {
  readonly decider: Pick<Decider, 'decide'>;
  readonly keys: KeyCache;
  readonly clock: RedisClock;
  readonly metrics: LimiterMetrics;
  readonly pepper: string;
};

type Identity = { readonly consumer: string | undefined; readonly tier: string | undefined };

/** What is known of who calls: an identity, that the key is not valid, or that this cannot be known now. */
type Identification =
  | ({ readonly kind: 'identified' } & Identity)
  | { readonly kind: 'invalid' }
  | ({ readonly kind: 'unavailable' } & Identity);

/** From request to decision: identity, tier, rules, one call of the script. Throws UnknownTier. */
export class Checker {
  readonly #parts: CheckerParts;

  constructor(parts: CheckerParts) {
    this.#parts = parts;
  }

  async check(snapshot: Snapshot, request: CheckRequest): Promise<CheckResult> {
    const domain = snapshot.domains.get(request.domain);
    const { revision } = snapshot.identity;
    if (domain === undefined) return this.#finish(undefined, { decision: NO_POLICY, tier: request.tier, revision });
    if (request.tier !== undefined && !domain.tiers.has(request.tier))
      throw new UnknownTier(request.tier, [...domain.tiers]);
    const identification = await this.#identify(request, domain);
    if (identification.kind === 'invalid') {
      return this.#finish(domain, { decision: INVALID_API_KEY, tier: undefined, revision });
    }
    const tier = request.tier ?? identification.tier;
    const context = { ...request.context, consumer: identification.consumer, tier };
    const decision = await this.#decide(domain, context, request.cost);
    // The rules that count by consumer could not be judged; what the others deny stays denied.
    const isOpen = identification.kind === 'unavailable' && decision.action === 'ALLOW';
    return this.#finish(domain, { decision: isOpen ? { ...decision, ...openReason } : decision, tier, revision });
  }

  async #decide(domain: DomainIndex, context: RequestContext, cost: number): Promise<Decision> {
    const { decider, clock, metrics } = this.#parts;
    const { limits, missing } = selectLimits(domain, context, clock.nowMicros());
    for (const { policy, rule, input } of missing) metrics.countMissingInput(policy, rule, input);
    if (limits.length === 0) return NOTHING_APPLIES;
    try {
      const verdict = await decider.decide({ partition: domain.partition, cost, limits });
      return decideOver(limits, verdict.outcomes, { cost, nowMicros: verdict.redisMicros });
    } catch (error) {
      metrics.countStoreError(toStoreError(error).code);
      return FAIL_OPEN;
    }
  }

  /** An API key first, then the caller's word, then the address. */
  async #identify(request: CheckRequest, domain: DomainIndex): Promise<Identification> {
    if (request.apiKey !== undefined) return this.#identifyByKey(request.apiKey, domain);
    const { clientIP } = request.context;
    if (request.consumer !== undefined)
      return { kind: 'identified', consumer: `caller:${request.consumer}`, tier: undefined };
    return { kind: 'identified', consumer: clientIP === undefined ? undefined : `ip:${clientIP}`, tier: undefined };
  }

  async #identifyByKey(apiKey: string, domain: DomainIndex): Promise<Identification> {
    const lookup: KeyLookup = await this.#parts.keys.lookUp(recordNameOf(this.#parts.pepper, hashOfKey(apiKey)));
    switch (lookup.kind) {
      case 'found':
        if (!ownsDomain(lookup.record.namespace, domain.domain)) return { kind: 'invalid' };
        return { kind: 'identified', consumer: `key:${lookup.record.consumer}`, tier: lookup.record.tier };
      case 'unknown':
        return { kind: 'invalid' };
      case 'unavailable':
        this.#parts.metrics.countStoreError('IDENTITY_UNAVAILABLE');
        return { kind: 'unavailable', consumer: undefined, tier: undefined };
    }
  }

  #finish(domain: DomainIndex | undefined, result: CheckResult): CheckResult {
    this.#parts.metrics.countDecision(domain?.domain ?? '', result.decision);
    return result;
  }
}

const openReason = { reason: FAIL_OPEN.reason, triggeredBy: FAIL_OPEN.triggeredBy };
