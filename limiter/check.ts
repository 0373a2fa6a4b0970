import { type Decision, decideOver, INVALID_API_KEY, NO_POLICY, NOTHING_APPLIES } from '../policy/decision.ts';
import { hashOfKey, recordNameOf } from '../policy/api-key.ts';
import { ownsDomain } from '../policy/resource.ts';
import { type RequestContext, selectRules } from '../policy/select.ts';
import type { DomainIndex, Snapshot } from '../policy/snapshot.ts';
import type { RedisClock } from '../store/clock.ts';
import type { KeyLookup } from '../store/consumer-keys.ts';
import type { Decider } from '../store/decide.ts';
import { toStoreError } from '../store/errors.ts';
import type { KeyCache } from './key-cache.ts';
import type { LocalFallback } from './local-fallback.ts';
import type { LimiterMetrics } from './metrics.ts';

/** A request as a door of the limiter understood it: parsed, bounded, canonical. */
export type CheckRequest = {
  readonly domain: string;
  readonly cost: number;
  /** The same answer, and nothing is charged or punished. */
  readonly isPeek: boolean;
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
  readonly fallback: LocalFallback;
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
    const decision = await this.#decide(domain, context, { ...request, isKnown: identification.kind === 'identified' });
    return this.#finish(domain, { decision, tier, revision });
  }

  async #decide(
    domain: DomainIndex,
    context: RequestContext,
    { cost, isPeek, isKnown }: { readonly cost: number; readonly isPeek: boolean; readonly isKnown: boolean },
  ): Promise<Decision> {
    const { decider, clock, metrics, fallback } = this.#parts;
    const selection = selectRules(domain, context, clock.nowMicros());
    for (const { policy, rule, input } of selection.missing) metrics.countMissingInput(policy, rule, input);
    if (selection.rules.length === 0) return NOTHING_APPLIES;
    // Whose counters these would be is not known: the failure policies decide, as they do without Redis.
    if (!isKnown) return unidentified(fallback.decide(selection.rules, { cost, isPeek }));
    try {
      const verdict = await decider.decide({ partition: domain.partition, cost, isPeek, selection });
      return decideOver(selection, verdict, { cost, nowMicros: verdict.redisMicros });
    } catch (error) {
      metrics.countStoreError(toStoreError(error).code);
      return fallback.decide(selection.rules, { cost, isPeek });
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
    const name = recordNameOf(this.#parts.pepper, hashOfKey(apiKey));
    const lookup: KeyLookup = await this.#parts.keys.lookUp(name);
    switch (lookup.kind) {
      case 'found':
        if (!ownsDomain(lookup.record.namespace, domain.domain)) return { kind: 'invalid' };
        return { kind: 'identified', consumer: `key:${lookup.record.consumer}`, tier: lookup.record.tier };
      case 'unknown':
        return { kind: 'invalid' };
      case 'unavailable':
        this.#parts.metrics.countStoreError('IDENTITY_UNAVAILABLE');
        // One key is one client, whoever it is.
        return { kind: 'unavailable', consumer: `unresolved:${name}`, tier: undefined };
    }
  }

  #finish(domain: DomainIndex | undefined, result: CheckResult): CheckResult {
    this.#parts.metrics.countDecision(domain?.domain ?? '', result.decision);
    return result;
  }
}

/** A denial of somebody whose key cannot be looked up now is no verdict on the key. */
function unidentified(decision: Decision): Decision {
  return decision.reason === 'FAIL_CLOSED' ? { ...decision, reason: 'IDENTITY_UNAVAILABLE' } : decision;
}
