import { decideOver } from '../policy/decide-over.ts';
import {
  type Decision,
  decideWithoutCounters,
  EXEMPT,
  IDENTITY_MISSING,
  NO_POLICY,
  UNKNOWN_DOMAIN,
  withExemptions,
} from '../policy/decision.ts';
import { partitionOf } from '../policy/hash.ts';
import { type RequestLimit, selectRequestLimit } from '../policy/request-limit.ts';
import { clientText, type IPAddress, parseIP } from '../policy/ip.ts';
import { isExemptForEveryone, selectRules, type Surroundings } from '../policy/select.ts';
import type { RequestContext, Selection, SelectionTrace } from '../policy/selection.ts';
import type { DomainIndex, Snapshot } from '../policy/snapshot.ts';
import type { RedisClock } from '../store/clock.ts';
import type { Decider, TimedVerdict } from '../store/decide.ts';
import { toStoreError } from '../store/errors.ts';
import type { Identification, Identifier, Identity } from './identify.ts';
import type { IPBlocks } from './ip-blocks.ts';
import type { FallbackRequest, LocalFallback } from './local-fallback.ts';
import type { LimiterMetrics } from './metrics.ts';
import type { SubjectBudget } from './subject-budget.ts';

/** A request as a door of the limiter understood it: parsed and bounded. */
export type CheckRequest = {
  readonly domain: string;
  /** What the caller says that it takes; undefined = what is usual for each rule. */
  readonly cost: number | undefined;
  /** The same answer, and nothing is charged or punished. */
  readonly isPeek: boolean;
  /** Whether the answer speaks of every limit that applied, not of the tightest only. */
  readonly needsAllLimits?: boolean | undefined;
  /** Whether the caller's words are believed: consumer, tenant, tier, clientIP, cost and headers that speak of them. */
  readonly isTrusted: boolean;
  /** The address of the connection. */
  readonly peerIP: string | undefined;
  readonly apiKey: string | undefined;
  /** The id that a caller vouches for, without a source. */
  readonly consumer: string | undefined;
  readonly tenant: string | undefined;
  readonly tier: string | undefined;
  /** A limit in the place of all that the policies have for it; of trusted callers only. */
  readonly limit?: RequestLimit | undefined;
  readonly context: {
    /** Upper case. */
    readonly method?: string | undefined;
    /** Normalised. */
    readonly path?: string | undefined;
    /** Lower case, without a port. */
    readonly host?: string | undefined;
    /** The address of the client, as a trusted caller says it. */
    readonly clientIP?: string | undefined;
    /** Names in lower case. */
    readonly headers?: ReadonlyMap<string, string> | undefined;
    readonly attributes?: ReadonlyMap<string, string> | undefined;
    readonly descriptors?: ReadonlyMap<string, string> | undefined;
  };
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
  readonly identifier: Identifier;
  readonly ipBlocks: IPBlocks;
  readonly clock: RedisClock;
  readonly metrics: LimiterMetrics;
  readonly fallback: LocalFallback;
  readonly subjects: SubjectBudget;
  readonly unknownDomain: 'Allow' | 'Deny';
};

/** What was found out on the way to a decision; filled for explanations only. */
export type CheckTrace = {
  domain?: DomainIndex;
  address?: IPAddress | undefined;
  identification?: Identification;
  context?: RequestContext;
  nowMicros?: number;
  selection?: Selection;
  verdict?: TimedVerdict;
  /** The hash tag of the counters that were asked. */
  partition?: string;
  /** Why the counters could not be asked. */
  storeError?: string;
  readonly onRule: SelectionTrace;
};

/** From request to decision: identity, tier, rules, one call of the script. */
export class Checker {
  readonly #parts: CheckerParts;

  constructor(parts: CheckerParts) {
    this.#parts = parts;
  }

  /** Throws UnknownTier. `trace` is told how the decision came about; it changes nothing. */
  async check(snapshot: Snapshot, request: CheckRequest, trace?: CheckTrace): Promise<CheckResult> {
    const domain = snapshot.domains.get(request.domain);
    const { revision } = snapshot.identity;
    if (domain === undefined) {
      const decision = this.#parts.unknownDomain === 'Deny' ? UNKNOWN_DOMAIN : NO_POLICY;
      return this.#finish('', { decision, tier: undefined, revision });
    }
    if (!request.isTrusted) this.#countUntrustedWords(domain, request);
    const asked = request.isTrusted ? request.tier : undefined;
    if (asked !== undefined && !domain.tiers.has(asked)) throw new UnknownTier(asked, [...domain.tiers]);
    const address = addressOf(request);
    if (trace) Object.assign(trace, { domain, address });
    if (isExemptForEveryone(domain, { ...request.context, address })) {
      return this.#finish(domain.domain, { decision: EXEMPT, tier: asked, revision });
    }
    const clientIP = address === undefined ? undefined : clientText(address, domain.settings.ipv6PrefixLength);
    const identifying = this.#parts.identifier.identify({ request, domain, clientIP });
    // Nearly always known at once: a promise for each request would be one too many.
    const identification = identifying instanceof Promise ? await identifying : identifying;
    if (trace) trace.identification = identification;
    switch (identification.kind) {
      case 'invalid': {
        const decision = await this.#judgeInvalid(domain, request, clientIP);
        return this.#finish(domain.domain, { decision, tier: undefined, revision });
      }
      case 'missing':
        return this.#finish(domain.domain, { decision: IDENTITY_MISSING, tier: undefined, revision });
      case 'unavailable':
        this.#parts.metrics.countStoreError('IDENTITY_UNAVAILABLE');
        break;
      case 'identified':
        break;
    }
    const context = contextOf(request, identification, { address, clientIP });
    const isKnown = identification.kind === 'identified';
    const { isPeek, needsAllLimits, limit } = request;
    const decision = await this.#decide(domain, context, {
      healths: snapshot.healths,
      onRule: trace?.onRule,
      isPeek,
      needsAllLimits,
      limit,
      isKnown,
      trace,
    });
    return this.#finish(domain.domain, { decision, tier: context.tier, revision });
  }

  async #decide(
    domain: DomainIndex,
    context: RequestContext,
    options: Surroundings &
      Pick<CheckRequest, 'isPeek' | 'needsAllLimits' | 'limit'> & {
        readonly isKnown: boolean;
        readonly trace: CheckTrace | undefined;
      },
  ): Promise<Decision> {
    const { decider, clock, metrics, subjects } = this.#parts;
    const { healths, isPeek, needsAllLimits, limit, isKnown, trace } = options;
    const nowMicros = clock.nowMicros();
    const selected =
      limit === undefined
        ? selectRules(domain, context, nowMicros, options)
        : selectRequestLimit(domain, context, nowMicros, { limit, healths });
    for (const { policy, rule, input } of selected.missing) metrics.countMissingInput(policy, rule, input);
    if (trace) Object.assign(trace, { context, nowMicros, selection: selected });
    const early = decideWithoutCounters(selected, nowMicros);
    if (early !== undefined) return early;
    // Whose counters these would be is not known: the failure policies decide, as they do without Redis.
    if (!isKnown) return unidentified(this.#failOver(domain, selected, { isPeek }));
    const selection = subjects.apply(selected, isPeek);
    if (trace) trace.selection = selection;
    try {
      const partition = partitionFor(domain, context);
      const verdict = await decider.decide({ partition, isPeek, selection });
      if (trace) Object.assign(trace, { verdict, partition });
      return decideOver(selection, verdict, verdict.redisMicros, needsAllLimits);
    } catch (error) {
      const { code, refusal } = toStoreError(error);
      metrics.countStoreError(code);
      if (trace) trace.storeError = code;
      // Whoever is not known can be many, and fill Redis: that must not open the door to them.
      const mayOpen = refusal !== 'OOM' || isAuthenticated(context.consumer);
      return withExemptions(selection, this.#failOver(domain, selection, { isPeek, mayOpen }));
    }
  }

  #judgeInvalid(domain: DomainIndex, request: CheckRequest, clientIP: string | undefined): Promise<Decision> {
    const { isTrusted, isPeek, peerIP, context } = request;
    // A gateway that names nobody behind it stands for all of its clients: it is never blocked.
    const client = isTrusted && context.clientIP === peerIP ? undefined : clientIP;
    // Only who is trusted may look without being counted: else keys could be tried that way.
    return this.#parts.ipBlocks.judge(domain.settings, client, isPeek && isTrusted);
  }

  /** What the failure policies say. */
  #failOver({ domain }: DomainIndex, { rules }: Selection, request: FallbackRequest): Decision {
    const decision = this.#parts.fallback.decide(rules, request);
    if (decision.reason === 'FAIL_OPEN') this.#parts.metrics.countFailOpen(domain);
    return decision;
  }

  #countUntrustedWords(
    { settings }: DomainIndex,
    { consumer, tenant, tier, cost, peerIP, context }: CheckRequest,
  ): void {
    const { metrics } = this.#parts;
    if (consumer !== undefined) metrics.countUntrustedWord('consumer');
    if (tenant !== undefined) metrics.countUntrustedWord('tenant');
    if (tier !== undefined) metrics.countUntrustedWord('tier');
    if (cost !== undefined) metrics.countUntrustedWord('cost');
    if (context.clientIP !== undefined && context.clientIP !== peerIP) metrics.countUntrustedWord('ip');
    const { headers } = context;
    if (headers !== undefined && settings.sources.some(({ type, name = '' }) => type === 'Header' && headers.has(name)))
      metrics.countUntrustedWord('header');
  }

  #finish(domain: string, result: CheckResult): CheckResult {
    this.#parts.metrics.countDecision(domain, result.decision, result.tier);
    return result;
  }
}

/** The client's address as a trusted caller says it; one that is not trusted is the client itself. */
function addressOf({ isTrusted, peerIP, context }: CheckRequest): IPAddress | undefined {
  const text = isTrusted ? context.clientIP : peerIP;
  return text === undefined ? undefined : parseIP(text);
}

function contextOf(
  { isTrusted, tenant, tier, cost, context }: CheckRequest,
  identity: Identity,
  { address, clientIP }: { readonly address: IPAddress | undefined; readonly clientIP: string | undefined },
): RequestContext {
  return {
    method: context.method,
    path: context.path,
    host: context.host,
    headers: context.headers,
    attributes: context.attributes,
    descriptors: context.descriptors,
    address,
    clientIP,
    consumer: identity.consumer,
    tenant: identity.tenant ?? (isTrusted ? tenant : undefined),
    tier: (isTrusted ? tier : undefined) ?? identity.tier,
    cost: isTrusted ? cost : undefined,
    hasTrustedHeaders: isTrusted,
    negotiated: identity.negotiated,
  };
}

/** The hash tag of all counters of a request. Where the axis is missing, no rule applies. */
export function partitionFor({ domain, partition, settings }: DomainIndex, context: RequestContext): string {
  if (settings.partitionBy === undefined) return partition;
  return partitionOf(domain, settings.partitionBy, context[settings.partitionBy] ?? '');
}

/** Whether a key or a trusted caller says who it is; an address does not. */
function isAuthenticated(consumer: string | undefined): boolean {
  return consumer !== undefined && !consumer.startsWith('ip:');
}

/** A denial of somebody whose key cannot be looked up now is no verdict on the key. */
function unidentified(decision: Decision): Decision {
  return decision.reason === 'FAIL_CLOSED' ? { ...decision, reason: 'IDENTITY_UNAVAILABLE' } : decision;
}
