import { z } from 'zod';
import { digest } from './hash.ts';
import { domainName, label } from './schema/fields.ts';
import { allKinds } from './schema/kinds.ts';
import type { LabelSelector } from './schema/label-selector.ts';
import type { Match } from './schema/match.ts';

/** The format that this version writes, and the only one that it reads. */
export const FORMAT = 1;

/** Optional features of documents that this version understands. */
const FEATURES: ReadonlySet<string> = new Set();

const header = { format: z.literal(FORMAT), requires: z.array(z.string()) };

const compiledLimit = z.object({
  /** Field of the counter in the hash of its subject. */
  field: z.string(),
  windowSeconds: z.int(),
  requests: z.int(),
  /** What may be taken at once: burst, or requests. */
  capacity: z.int(),
  degraded: z.int(),
});

const compiledRule = z.object({
  name: label,
  /** What the rule is called among those of its policy when it is in shadow by itself: above 0. */
  shadowGroup: z.int(),
  /** The part of its subjects for which it is enforced. */
  enforcePercent: z.int(),
  /** Whether answers may speak of its limits. */
  isShown: z.boolean(),
  cost: z.object({ default: z.int(), max: z.int(), header: z.string().optional() }),
  /** Rules in shadow with the same group are charged together; 0 = enforced. */
  group: z.int(),
  /** Whether a penalty in THROTTLE cuts this rule's limits. */
  throttled: z.boolean(),
  failurePolicy: z.enum(['Open', 'Closed', 'LocalFallback']),
  after: z.array(z.object({ rule: label, outcome: z.enum(['Admitted', 'Denied', 'NotMatched']) })),
  match: z.custom<Match>().optional(),
  /** Sorted, so that one set of axes is one subject whatever the order in which it was written. */
  countBy: z.array(z.string()),
  algorithm: z.enum(['TokenBucket', 'SlidingWindow', 'SlidingWindowLog']),
  /** Limits for everyone, or by tier. */
  limits: z.union([z.array(compiledLimit), z.record(z.string(), z.array(compiledLimit))]),
});

/** As in the policy, with what was left out filled in; times in seconds. */
const compiledPenalty = z.object({
  enforced: z.boolean(),
  countBy: z.array(z.string()),
  tolerancePercent: z.int(),
  violationWindowSeconds: z.int(),
  minSecondsPerStep: z.int(),
  warn: z.object({ violations: z.int(), forSeconds: z.int() }).optional(),
  throttle: z.object({ violations: z.int(), forSeconds: z.int(), limitPercent: z.int() }).optional(),
  tempBlock: z.object({ violations: z.int(), forSeconds: z.int() }).optional(),
  block: z.object({ tempBlocks: z.int(), withinSeconds: z.int(), forSeconds: z.int() }).optional(),
});

const policyDocument = z.object({
  ...header,
  kind: z.literal('RateLimitPolicy'),
  namespace: z.string(),
  name: z.string(),
  domain: domainName,
  tiers: z.array(label),
  defaultTier: label.optional(),
  labels: z.record(z.string(), z.string()),
  exemptions: z.array(z.object({ name: label, match: z.custom<Match>() })),
  /** Each rule after those that it waits for. */
  rules: z.array(compiledRule),
  penalty: compiledPenalty.optional(),
});

/** What is one for a whole domain; what was left out is filled in. */
const domainDocument = z.object({
  ...header,
  kind: z.literal('RateLimitDomain'),
  namespace: z.string(),
  domain: domainName,
  sources: z.array(z.object({ type: z.enum(['ApiKey', 'Header', 'Caller', 'ClientIP']), name: z.string().optional() })),
  onMissing: z.enum(['ClientIP', 'Deny', 'SkipRule']),
  onInvalidKey: z.enum(['Deny', 'Anonymous']),
  ipv6PrefixLength: z.int(),
  ipBlock: z.object({
    invalidKeys: z.int(),
    withinSeconds: z.int(),
    forSeconds: z.int(),
    enforced: z.boolean(),
  }),
  partitionBy: z.enum(['consumer', 'tenant', 'clientIP']).optional(),
  /** Namespaces whose policies and consumers may belong to the domain, besides its own. */
  grants: z.array(z.string()),
});

/** The numbers of a limit that is not one of a rule: its counter is that of the rule's limit of that window. */
const limitNumbers = compiledLimit.omit({ field: true });

const overrideDocument = z.object({
  ...header,
  kind: z.literal('RateLimitOverride'),
  namespace: z.string(),
  name: z.string(),
  /** `namespace/name` */
  policy: z.string(),
  subject: z.object({ axis: z.enum(['consumer', 'tenant', 'clientIP']), value: z.string() }),
  rules: z.array(label).optional(),
  action: z.enum(['Replace', 'Scale', 'Exempt', 'Block']),
  limits: z.array(limitNumbers),
  percent: z.int(),
  reason: z.string().optional(),
  /** Microseconds since 1970 by the clock of Redis. */
  startsAtMicros: z.number(),
  expiresAtMicros: z.number(),
});

const healthDocument = z.object({
  ...header,
  kind: z.literal('SystemHealth'),
  name: z.string(),
  mode: z.enum(['NORMAL', 'DEGRADED']),
  reason: z.string().optional(),
  /** Microseconds since 1970 by the clock of Redis; absent = until edited. */
  expiresAtMicros: z.number().optional(),
  domains: z.array(z.string()).optional(),
  policySelector: z.custom<LabelSelector>().optional(),
  tiers: z.array(z.string()).optional(),
});

const document = z.discriminatedUnion('kind', [policyDocument, domainDocument, overrideDocument, healthDocument]);

/** One object in force: which generation of it, since which revision, and where its compiled form is. */
const manifestEntry = z.object({
  kind: z.enum(allKinds),
  namespace: z.string(),
  name: z.string(),
  uid: z.string(),
  generation: z.int(),
  revision: z.int(),
  document: z.string(),
});

const manifestShard = z.object({ ...header, entries: z.array(manifestEntry) });
const manifestIndex = z.object({ ...header, shards: z.array(z.string()) });

export type CompiledLimit = z.output<typeof compiledLimit>;
export type CompiledPenalty = z.output<typeof compiledPenalty>;
export type CompiledRule = z.output<typeof compiledRule>;
export type PolicyDocument = z.output<typeof policyDocument>;
export type LimitNumbers = z.output<typeof limitNumbers>;
export type DomainDocument = z.output<typeof domainDocument>;
export type OverrideDocument = z.output<typeof overrideDocument>;
export type HealthDocument = z.output<typeof healthDocument>;
export type Document = z.output<typeof document>;
export type ManifestEntry = z.output<typeof manifestEntry>;
export type ManifestShard = z.output<typeof manifestShard>;
export type ManifestIndex = z.output<typeof manifestIndex>;

/** A document as it is stored: text, and the name that is the hash of the text. */
export type StoredDocument = { readonly name: string; readonly text: string };

/** A document that this version cannot read; its pod keeps what it has and says so. */
export class UnreadableDocument extends Error {
  override readonly name = 'UnreadableDocument';
  readonly code = 'UNREADABLE_DOCUMENT';
  readonly transient = false;
}

export function toStored(content: Document | ManifestShard | ManifestIndex): StoredDocument {
  const text = JSON.stringify(content);
  return { name: digest(text), text };
}

export const readDocument = (text: string): Document => read(document, text);
export const readShard = (text: string): ManifestShard => read(manifestShard, text);
export const readIndex = (text: string): ManifestIndex => read(manifestIndex, text);

function read<S extends z.ZodType<{ requires: string[] }>>(schema: S, text: string): z.output<S> {
  const parsed = schema.safeParse(parseJson(text));
  if (!parsed.success) {
    throw new UnreadableDocument(
      `format ${FORMAT} is what this version reads: ${parsed.error.issues[0]?.message ?? 'unknown problem'}`,
    );
  }
  const unknown = parsed.data.requires.filter((feature) => !FEATURES.has(feature));
  if (unknown.length > 0) throw new UnreadableDocument(`needs features that this version lacks: ${unknown.join(', ')}`);
  return parsed.data;
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new UnreadableDocument('is not JSON');
  }
}
