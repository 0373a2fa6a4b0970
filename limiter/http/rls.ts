import type { DoorParts } from '../door.ts';
import { rlsAnswerBody, rlsRequestSchema } from '../rls/json.ts';
import { BadRlsRequest } from '../rls/request.ts';
import { shouldRateLimit } from '../rls/should-rate-limit.ts';
import { type HttpAnswer, jsonAnswer, problemAnswer } from './answer.ts';
import { callerOf } from './caller.ts';
import type { HttpRequest } from './http-request.ts';
import { answerToMistake, notReady } from './problem.ts';
import { MAX_BATCH_BYTES, parseWith } from './request.ts';

/** POST /json: Envoy's question, for those who do not speak gRPC. */
export async function decideRls(parts: DoorParts, request: HttpRequest, requestId: string): Promise<HttpAnswer> {
  try {
    const rls = parseWith(rlsRequestSchema, await request.readBody(MAX_BATCH_BYTES));
    const snapshot = parts.snapshot();
    if (snapshot === undefined) return notReady(requestId);
    const answer = await shouldRateLimit(parts, snapshot, rls, callerOf(parts, request));
    const written = jsonAnswer(answer.overallCode === 'OK' ? 200 : 429, rlsAnswerBody(answer), requestId);
    return { ...written, headers: { ...written.headers, ...answer.headers } };
  } catch (error) {
    if (error instanceof BadRlsRequest) {
      parts.metrics.countRefused(error.code);
      return problemAnswer({ status: 400, code: error.code, title: 'Bad request', detail: error.message }, requestId);
    }
    const mistake = answerToMistake(error, requestId);
    if (mistake === undefined) throw error;
    return mistake;
  }
}
