import type { LimitOutcome } from '../policy/decision.ts';
import { degrades } from '../policy/health.ts';
import { tierFor } from '../policy/select.ts';
import type { RuleNote, SelectedRule } from '../policy/selection.ts';
import type { IndexedPolicy, IndexedRule, Snapshot } from '../policy/snapshot.ts';
import type { Checker, CheckRequest, CheckResult, CheckTrace } from './check.ts';

type Seconds = number | null;

/** Why a request would be decided as it would be now. Times are seconds, and RFC 3339 by the clock of Redis. */
export type Explanation = {
  readonly domain: string;
  readonly revision: number;
  readonly at: string | null;
  readonly decision: {
    readonly action: string;
    readonly reason: string;
    readonly triggered_by: string;
    readonly retry_after: Seconds;
    readonly penalty: string;
    readonly shadow: readonly string[];
  };
  readonly identity: {
    /** identified, invalid, missing or unavailable; null if nobody had to be asked. */
    readonly outcome: string | null;
    readonly consumer: string | null;
    readonly source: string | null;
    readonly tenant: string | null;
    readonly client_ip: string | null;
    /** Whether the caller's words are believed. */
    readonly trusted: boolean;
  };
  readonly tier: { readonly name: string | null; readonly source: 'caller' | 'consumer' | null };
  /** Why the counters could not be asked: then the failure policies decided. */
  readonly store_error: string | null;
  readonly policies: readonly ExplainedPolicy[];
};

export type ExplainedPolicy = {
  readonly policy: string;
  readonly exempted_by: string | null;
  readonly tier: { readonly name: string | null; readonly source: 'request' | 'default' | null };
  readonly health: {
    readonly mode: 'NORMAL' | 'DEGRADED';
    /** The SystemHealth objects that declare it. */
    readonly declared_by: readonly {
      readonly name: string;
      readonly reason: string | null;
      readonly until: string | null;
    }[];
  };
  readonly penalty: {
    readonly subject: string;
    readonly enforced: boolean;
    readonly state: string;
    readonly state_after: string;
    readonly ends_in: Seconds;
    readonly violations: number;
  } | null;
  readonly overrides: readonly {
    readonly override: string;
    readonly rule: string;
    readonly action: string;
    readonly reason: string | null;
    readonly until: string;
  }[];
  readonly rules: readonly ExplainedRule[];
};

export type ExplainedRule = {
  readonly rule: string;
  /**
   * Admitted, Denied, Forgiven, NotRun; NotMatched, InputMissing, Exempt, Overridden, NoLimits, CannotRun; NotJudged if
   * the counters were not asked.
   */
  readonly outcome: string;
  readonly why: string | null;
  readonly shadow: boolean;
  readonly algorithm: string;
  readonly cost: number | null;
  readonly after: readonly { readonly rule: string; readonly outcome: string }[];
  readonly limits: readonly {
    readonly window_seconds: number;
    readonly limit: number;
    readonly requests: number;
    readonly normal_limit: number;
    readonly mode: string;
    readonly remaining: number | null;
    readonly retry_after: Seconds;
    readonly reset_after: Seconds;
  }[];
};

type Noted = { readonly policy: IndexedPolicy; readonly rule: IndexedRule; readonly note: RuleNote };

/**
 * The full path of a decision as data: the same code decides, as a peek, and tells what it found out on the way.
 * Throws UnknownTier.
 */
export async function explain(checker: Checker, snapshot: Snapshot, request: CheckRequest): Promise<Explanation> {
  const notes: Noted[] = [];
  const trace: CheckTrace = { onRule: (policy, rule, note) => void notes.push({ policy, rule, note }) };
  const result = await checker.check(snapshot, { ...request, isPeek: true }, trace);
  const found = { ...trace, healths: snapshot.healths };
  return {
    domain: request.domain,
    revision: result.revision,
    at: timeOf(trace.verdict?.redisMicros ?? trace.nowMicros),
    decision: explainDecision(result),
    identity: explainIdentity(request, trace),
    tier: explainTier(request, trace),
    store_error: trace.storeError ?? null,
    policies: (trace.domain?.policies ?? []).map((policy) => explainPolicy(policy, found, notes)),
  };
}

function explainDecision({ decision }: CheckResult): Explanation['decision'] {
  return {
    action: decision.action,
    reason: decision.reason,
    triggered_by: decision.triggeredBy,
    retry_after: secondsOf(decision.retryAfterMicros),
    penalty: decision.penalty,
    shadow: decision.shadowDenied,
  };
}

function explainIdentity(
  { isTrusted }: CheckRequest,
  { identification, context }: CheckTrace,
): Explanation['identity'] {
  const known = identification !== undefined && 'consumer' in identification ? identification : undefined;
  return {
    outcome: identification?.kind ?? null,
    consumer: known?.consumer ?? null,
    source: known?.source ?? null,
    tenant: context?.tenant ?? null,
    client_ip: context?.clientIP ?? null,
    trusted: isTrusted,
  };
}

function explainTier({ isTrusted, tier }: CheckRequest, { context }: CheckTrace): Explanation['tier'] {
  if (context?.tier === undefined) return { name: null, source: null };
  return { name: context.tier, source: isTrusted && tier !== undefined ? 'caller' : 'consumer' };
}

function explainPolicy(
  policy: IndexedPolicy,
  trace: CheckTrace & Pick<Snapshot, 'healths'>,
  notes: readonly Noted[],
): ExplainedPolicy {
  const { healths, selection, context, verdict, nowMicros = 0 } = trace;
  const tier = tierFor(policy, context?.tier);
  const declaring = healths.filter((health) => degrades(health, policy.document, tier, nowMicros));
  const penalty = selection?.penalties.findIndex((one) => one.policy === policy.id) ?? -1;
  const [selected, found] = [selection?.penalties[penalty], verdict?.penalties[penalty]];
  return {
    policy: policy.id,
    exempted_by: selection?.exemptions.find((one) => one.policy === policy.id)?.exemption ?? null,
    tier: { name: tier ?? null, source: tier === undefined ? null : tier === context?.tier ? 'request' : 'default' },
    health: {
      mode: declaring.length === 0 ? 'NORMAL' : 'DEGRADED',
      declared_by: declaring.map(({ name, reason, expiresAtMicros }) => ({
        name,
        reason: reason ?? null,
        until: timeOf(expiresAtMicros),
      })),
    },
    penalty:
      selected === undefined || found === undefined
        ? null
        : {
            subject: selected.text,
            enforced: selected.penalty.enforced,
            state: found.before,
            state_after: found.after,
            ends_in: found.endsInMicros < 0 ? null : secondsOf(found.endsInMicros),
            violations: found.violations,
          },
    overrides: (selection?.overrides ?? [])
      .filter((one) => one.policy === policy.id)
      .map(({ override, rule, action, reason, expiresAtMicros }) => ({
        override,
        rule,
        action,
        reason: reason ?? null,
        until: timeOf(expiresAtMicros) ?? '',
      })),
    rules: notes.filter((noted) => noted.policy === policy).map((noted) => explainRule(noted, trace)),
  };
}

function explainRule({ policy, rule, note }: Noted, { selection, verdict }: CheckTrace): ExplainedRule {
  const index = selection?.rules.findIndex((one) => one.policy === policy.id && one.rule === rule.name) ?? -1;
  const [selected, said] = [selection?.rules[index], verdict?.rules[index]];
  const { outcome, why } =
    note.kind === 'applies' ? { outcome: said?.outcome ?? 'NotJudged', why: null } : reasonOf(note);
  return {
    rule: rule.name,
    outcome,
    why,
    shadow: (selected?.group ?? rule.group) !== 0,
    algorithm: rule.algorithm,
    cost: selected?.cost ?? null,
    after: rule.after,
    limits: selected === undefined ? [] : explainLimits(selected, said?.limits),
  };
}

function explainLimits(rule: SelectedRule, outcomes: readonly LimitOutcome[] | undefined): ExplainedRule['limits'] {
  return rule.limits.map((limit, position) => {
    const outcome = outcomes?.[position];
    const wait = outcome?.retryAfterMicros;
    return {
      window_seconds: limit.windowSeconds,
      limit: limit.capacity,
      requests: limit.refill,
      normal_limit: limit.normalCapacity,
      mode: limit.mode,
      remaining: outcome?.remaining ?? null,
      retry_after: wait === undefined || wait < 0 ? null : secondsOf(wait),
      reset_after: secondsOf(outcome?.resetAfterMicros),
    };
  });
}

function reasonOf(note: Exclude<RuleNote, { kind: 'applies' }>): { readonly outcome: string; readonly why: string } {
  switch (note.kind) {
    case 'not-matched':
      return { outcome: 'NotMatched', why: `match.${note.by} excludes the request` };
    case 'input-missing':
      return { outcome: 'InputMissing', why: `the request does not carry ${note.input}` };
    case 'exempt':
      return { outcome: 'Exempt', why: `exemption ${note.exemption}` };
    case 'overridden':
      return { outcome: 'Overridden', why: `override ${note.override}: ${note.action}` };
    case 'no-limits':
      return {
        outcome: 'NoLimits',
        why: note.tier === undefined ? 'no tier is known' : `tier ${note.tier} has no limits`,
      };
    case 'cannot-run':
      return { outcome: 'CannotRun', why: 'nothing that it waits for can come about' };
  }
}

const secondsOf = (micros: number | undefined): Seconds => (micros === undefined ? null : micros / 1_000_000);

function timeOf(micros: number | undefined): string | null {
  return micros === undefined ? null : new Date(Math.floor(micros / 1000)).toISOString();
}
