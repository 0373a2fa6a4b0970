// What a request says, and what of the policies applies to it.
import type { CompiledPenalty, LimitNumbers } from './documents.ts';
import type { EffectiveLimit } from './effective-limits.ts';
import type { RequestFacts } from './match.ts';
import type { OverrideAction } from './schema/rate-limit-override.ts';
import type { Algorithm, FailurePolicy } from './schema/rate-limit-policy.ts';
import type { HealthMode } from './schema/system-health.ts';
import type { IndexedPolicy, IndexedRule } from './snapshot.ts';

/** Everything about a request that rules may match or count by. */
export type RequestContext = RequestFacts & {
  /** As the domain counts it: an IPv6 address stands for its network. */
  readonly clientIP?: string | undefined;
  readonly tier?: string | undefined;
  readonly descriptors?: ReadonlyMap<string, string> | undefined;
  /** What a trusted caller says that the request takes. */
  readonly cost?: number | undefined;
  /** Whether a header may say what the request takes. */
  readonly hasTrustedHeaders?: boolean | undefined;
  /** Limits that were agreed with the consumer. */
  readonly negotiated?: readonly NegotiatedLimits[] | undefined;
};

export type NegotiatedLimits = {
  /** `namespace/name` */
  readonly policy: string;
  readonly rule: string;
  readonly limits: readonly LimitNumbers[];
};

/** One limit that applies to a request, with the numbers that hold for it now. */
export type SelectedLimit = EffectiveLimit & {
  readonly policy: string;
  readonly rule: string;
  readonly algorithm: Algorithm;
  readonly subject: string;
  readonly field: string;
  readonly tier: string | undefined;
  readonly mode: HealthMode;
  /** When the mode ends (microseconds, Redis' clock), if that is known. */
  readonly modeUntilMicros: number | undefined;
};

/** How a rule ended: judged, or not run because nothing that it waits for came about. */
export type RuleOutcome = 'Admitted' | 'Denied' | 'NotRun' | 'Forgiven';

/** One rule that applies to a request, with the numbers that hold for it now. */
export type SelectedRule = {
  readonly policy: string;
  readonly rule: string;
  /** 0 = enforced, otherwise the group of shadow rules that it is charged with. */
  readonly group: number;
  /** Index into the penalties of the selection, of the one that governs it. */
  readonly penalty: number | undefined;
  /** Whether that penalty, in THROTTLE, cuts its limits. */
  readonly throttled: boolean;
  /** What the request takes from each of its limits. */
  readonly cost: number;
  /** Whether answers may speak of its limits. */
  readonly isShown: boolean;
  /** What it says while Redis cannot decide. */
  readonly failurePolicy: FailurePolicy;
  /**
   * It runs if one of these holds, or if there are none. Indexes are of rules before it; of itself, NotRun means that it
   * runs whatever becomes of the others, whose denials it may still forgive.
   */
  readonly after: readonly { readonly rule: number; readonly outcome: 'Admitted' | 'Denied' | 'NotRun' }[];
  readonly limits: readonly SelectedLimit[];
};

/** The penalty of one policy, for one request. */
export type SelectedPenalty = {
  readonly policy: string;
  readonly subject: string;
  /** Who it is, for people. */
  readonly text: string;
  readonly penalty: CompiledPenalty;
};

/** An override that changes what becomes of a request. */
export type AppliedOverride = {
  readonly policy: string;
  readonly rule: string;
  readonly override: string;
  readonly action: OverrideAction;
  readonly reason: string | undefined;
  readonly expiresAtMicros: number;
};

export type Selection = {
  readonly rules: readonly SelectedRule[];
  readonly penalties: readonly SelectedPenalty[];
  /** Rules (and penalties) that could not be judged, because the request lacks what they match or count by. */
  readonly missing: readonly { readonly policy: string; readonly rule: string; readonly input: string }[];
  /** Policies that leave the request alone. */
  readonly exemptions: readonly { readonly policy: string; readonly exemption: string }[];
  readonly overrides: readonly AppliedOverride[];
  /** Of the overrides that block it, the one that does so for longest. */
  readonly blockedBy: AppliedOverride | undefined;
};

/** Why a rule is or is not among those selected; for explanations. */
export type RuleNote =
  | { readonly kind: 'applies' }
  | { readonly kind: 'not-matched'; readonly by: string }
  | { readonly kind: 'input-missing'; readonly input: string }
  | { readonly kind: 'exempt'; readonly exemption: string }
  | { readonly kind: 'overridden'; readonly override: string; readonly action: 'Exempt' | 'Block' }
  | { readonly kind: 'no-limits'; readonly tier: string | undefined }
  | { readonly kind: 'cannot-run' };

/** Is told about every rule of the domain, in order. */
export type SelectionTrace = (policy: IndexedPolicy, rule: IndexedRule, note: RuleNote) => void;
