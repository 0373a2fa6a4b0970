import { randomUUID } from 'node:crypto';
import type { Snapshot } from '../../policy/snapshot.ts';
import { toStoreError } from '../../store/errors.ts';
import { NotUnderstood, UnknownTier } from '../asked.ts';
import { ask, type DoorParts } from '../door.ts';
import { rateLimitHeaders } from '../rate-limit-headers.ts';
import { type Answered, type RlsAnswer, statusesOf } from './answer.ts';
import { canBeKept, checkShape, questionsOf, type RlsCaller, type RlsRequest, toAsked } from './request.ts';

/**
 * Envoy's question: may this request pass? Throws BadRlsRequest when the gateway's configuration is wrong. What a client
 * can bring about is never an error, because gateways let through what their rate limit service fails on.
 */
export async function shouldRateLimit(
  parts: DoorParts,
  snapshot: Snapshot,
  asked: RlsRequest,
  caller: RlsCaller,
): Promise<RlsAnswer> {
  checkShape(asked);
  const request = withoutVainLimits(parts, asked, caller);
  try {
    const needsAllLimits = request.descriptors.length > 1 || parts.rlsHeaderFamilies.includes('ietf');
    const answered = await answerAll(parts, snapshot, request, { ...caller, needsAllLimits });
    return toAnswer(parts, snapshot, request, answered);
  } catch (error) {
    if (error instanceof NotUnderstood || error instanceof UnknownTier) return refused(parts, request, error);
    throw error;
  }
}

/** The request without limits that it brings in vain: they are counted, and what the policies say holds. */
function withoutVainLimits({ metrics }: DoorParts, request: RlsRequest, { isTrusted }: RlsCaller): RlsRequest {
  if (request.descriptors.every(({ limit }) => limit === undefined)) return request;
  if (!isTrusted) metrics.countUntrustedWord('limit');
  const descriptors = request.descriptors.map((descriptor) => {
    if (descriptor.limit === undefined || (isTrusted && canBeKept(descriptor.limit))) return descriptor;
    if (isTrusted) metrics.countRefused('BAD_LIMIT');
    return { ...descriptor, limit: undefined };
  });
  return { ...request, descriptors };
}

/** Questions that contradict each other are asked one by one; what some of them took is given back if any is denied. */
async function answerAll(
  parts: DoorParts,
  snapshot: Snapshot,
  request: RlsRequest,
  caller: RlsCaller,
): Promise<Answered[]> {
  const questions = questionsOf(request);
  const isAlone = questions.length === 1;
  const asking = questions.map((question) => {
    const canBeUndone = !isAlone && question.hits.kind === 'consume';
    return { question, asked: toAsked(request.domain, question, caller, canBeUndone ? randomUUID() : undefined) };
  });
  const answered = await Promise.all(
    asking.map(async ({ question, asked }) => {
      if (question.hits.kind === 'give-back') {
        // Whoever could give back what was charged to it would never be limited.
        if (caller.isTrusted) await orCounted(parts, parts.refunds.anonymously(snapshot, asked));
        else parts.metrics.countRefused('NOT_TRUSTED');
        return { question, asked, result: undefined };
      }
      return { question, asked, result: await ask(parts, snapshot, asked) };
    }),
  );
  if (!isAlone && answered.some(({ result }) => result !== undefined && result.decision.action !== 'ALLOW')) {
    const toUndo = answered.filter(({ result }) => result?.isRefundable === true);
    await Promise.all(toUndo.map(({ asked: { refundId = '' } }) => orCounted(parts, parts.refunds.byId(refundId))));
  }
  return answered;
}

/** A refund that fails leaves somebody with less than is his due for a while; that is no reason not to answer. */
async function orCounted(parts: DoorParts, refunding: Promise<unknown>): Promise<void> {
  try {
    await refunding;
  } catch (error) {
    parts.metrics.countStoreError(toStoreError(error).code);
  }
}

function toAnswer(parts: DoorParts, snapshot: Snapshot, request: RlsRequest, answered: readonly Answered[]): RlsAnswer {
  const statuses = statusesOf(request, answered, snapshot.domains.get(request.domain));
  const results = answered.flatMap(({ result }) => (result === undefined ? [] : [result]));
  const spoken = results.find(({ decision }) => decision.action !== 'ALLOW') ?? results[0];
  if (spoken === undefined) return { overallCode: 'OK', statuses, headers: {}, metadata: { action: 'ALLOW' } };
  const { decision, revision } = spoken;
  return {
    overallCode: decision.action === 'ALLOW' ? 'OK' : 'OVER_LIMIT',
    statuses,
    headers: rateLimitHeaders(decision, parts.rlsHeaderFamilies, parts.clock.nowMicros()),
    metadata: {
      action: decision.action,
      reason: decision.reason,
      triggered_by: decision.triggeredBy,
      revision,
      ...(decision.reported === undefined ? {} : { policy: decision.reported.policy, rule: decision.reported.rule }),
    },
  };
}

function refused(parts: DoorParts, request: RlsRequest, error: NotUnderstood | UnknownTier): RlsAnswer {
  parts.metrics.countRefused(error.code);
  const status = { currentLimit: undefined, limitRemaining: 0, secondsUntilReset: undefined };
  return {
    overallCode: 'OVER_LIMIT',
    statuses: request.descriptors.map(() => ({ code: 'OVER_LIMIT' as const, ...status })),
    headers: {},
    metadata: { action: 'BLOCK', reason: error.code, message: error.message },
  };
}
