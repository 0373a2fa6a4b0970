// The decision API: one check, many checks, and giving back what a check was charged.
import type { Snapshot } from '../../policy/snapshot.ts';
import { toStoreError } from '../../store/errors.ts';
import { type Asked, type AskedResult, UnknownTier } from '../asked.ts';
import { ask, type DoorParts, requestIdFrom } from '../door.ts';
import { decisionBody, type HttpAnswer, jsonAnswer, plainAnswer, problemAnswer } from './answer.ts';
import { callerOf } from './caller.ts';
import type { HttpRequest } from './http-request.ts';
import { answerToMistake, asBadRequest, denialProblem, notReady } from './problem.ts';
import {
  BadRequest,
  batchRequestSchema,
  type DecisionRequest,
  decisionRequestSchema,
  MAX_BATCH_BYTES,
  parseWith,
  plainRequestSchema,
  refundRequestSchema,
  toAsked,
  toPlainAsked,
} from './request.ts';
import { isBatchRequest, isDecisionRequest } from './shape.ts';

/** POST /v1/decision/check */
export async function decide(parts: DoorParts, request: HttpRequest, headerId: string): Promise<HttpAnswer> {
  let requestId = headerId;
  try {
    const input = parseWith(decisionRequestSchema, await request.readBody(), isDecisionRequest);
    requestId = input.request_id ?? headerId;
    const snapshot = parts.snapshot();
    if (snapshot === undefined) return notReady(requestId);
    const result = await ask(parts, snapshot, toAsked(input, requestId, callerOf(parts, request)));
    const { decision } = result;
    if (decision.reason === 'INVALID_API_KEY') return denialProblem(decision, requestId);
    return jsonAnswer(200, bodyOf(result, input, requestId), requestId);
  } catch (error) {
    return answerOrThrow(error, requestId);
  }
}

/** POST /v1/decision/batch: every check for itself, as if they had come one by one, and answers in their order. */
export async function decideAll(parts: DoorParts, request: HttpRequest, requestId: string): Promise<HttpAnswer> {
  try {
    const { checks } = parseWith(batchRequestSchema, await request.readBody(MAX_BATCH_BYTES), isBatchRequest);
    const snapshot = parts.snapshot();
    if (snapshot === undefined) return notReady(requestId);
    const caller = callerOf(parts, request);
    const asking = checks.map((input) => {
      const id = input.request_id ?? requestIdFrom(undefined);
      return { id, input, asked: toAsked(input, id, caller) };
    });
    // All of it is understood, or nothing is charged.
    asking.forEach(({ asked }, index) => refuseUnknownTier(snapshot, asked, index));
    const decisions = await Promise.all(
      asking.map(async ({ id, input, asked }) => bodyOf(await ask(parts, snapshot, asked), input, id)),
    );
    return jsonAnswer(200, { decisions }, requestId);
  } catch (error) {
    return answerOrThrow(error, requestId);
  }
}

function refuseUnknownTier(snapshot: Snapshot, { domain, tier, isTrusted }: Asked, index: number): void {
  const tiers = snapshot.domains.get(domain)?.tiers;
  if (!isTrusted || tier === undefined || tiers === undefined || tiers.has(tier)) return;
  const { code, message } = new UnknownTier(tier, [...tiers]);
  throw new BadRequest('BAD_FIELD', message, [{ path: `checks[${index}].tier`, reason: code, message }]);
}

function bodyOf(result: AskedResult, input: DecisionRequest, requestId: string): Readonly<Record<string, unknown>> {
  const body = decisionBody(result, requestId);
  return input.refundable === true ? { ...body, refundable: result.isRefundable } : body;
}

/** POST /v1/decision/refund */
export async function refund(parts: DoorParts, request: HttpRequest, requestId: string): Promise<HttpAnswer> {
  try {
    const { request_id: refundId } = parseWith(refundRequestSchema, await request.readBody());
    if (!callerOf(parts, request).isTrusted) return notTrusted(requestId);
    const outcome = await parts.refunds.byId(refundId);
    if (outcome === 'refunded') return jsonAnswer(200, { refunded: true, request_id: refundId }, requestId);
    const detail = 'no refundable request of the last minute has this id, or it was given back already';
    return problemAnswer({ status: 404, code: 'NOT_REFUNDABLE', title: 'Nothing to refund', detail }, requestId);
  } catch (error) {
    const mistake = answerToMistake(error, requestId);
    if (mistake !== undefined) return mistake;
    parts.metrics.countStoreError(toStoreError(error).code);
    const detail = 'Redis cannot be reached; whether the cost was given back is not known';
    return problemAnswer({ status: 503, code: 'STORE_UNAVAILABLE', title: 'Not available', detail }, requestId);
  }
}

function notTrusted(requestId: string): HttpAnswer {
  const detail = 'only trusted callers (setting trustedCallers) may give back what was charged';
  return problemAnswer({ status: 403, code: 'NOT_TRUSTED', title: 'Not allowed', detail }, requestId);
}

/** POST /check */
export async function decidePlain(parts: DoorParts, request: HttpRequest, requestId: string): Promise<HttpAnswer> {
  try {
    const input = parseWith(plainRequestSchema, await request.readBody());
    const snapshot = parts.snapshot();
    if (snapshot === undefined) return jsonAnswer(503, { detail: 'no configuration is loaded yet' }, requestId);
    const needsAllLimits = parts.headerFamilies.includes('ietf');
    const asked = { ...toPlainAsked(input, parts.checkDomain, callerOf(parts, request)), needsAllLimits };
    const result = await ask(parts, snapshot, asked);
    return plainAnswer(result, { requestId, nowMicros: parts.clock.nowMicros(), families: parts.headerFamilies });
  } catch (error) {
    const mistake = asBadRequest(error);
    if (mistake === undefined) throw error;
    const [problem] = mistake.problems;
    const detail = problem === undefined ? mistake.message : `${problem.path}: ${problem.message}`;
    return jsonAnswer(400, { detail }, requestId);
  }
}

function answerOrThrow(error: unknown, requestId: string): HttpAnswer {
  const answer = answerToMistake(error, requestId);
  if (answer === undefined) throw error;
  return answer;
}
