// What callers are told when there is no decision, and what clients are told when it is a denial.
import type { Decision } from '../../policy/decision.ts';
import { NotUnderstood, UnknownTier } from '../asked.ts';
import { type HttpAnswer, problemAnswer, statusOfDenial } from './answer.ts';
import { BadRequest } from './request.ts';

/** The answer to an error that the caller made; undefined if it was not the caller's. */
export function answerToMistake(error: unknown, requestId: string): HttpAnswer | undefined {
  const mistake = asBadRequest(error);
  if (mistake === undefined) return undefined;
  const errors = mistake.problems.map(({ path, reason, message }) => ({ field: path, reason, message }));
  const [first] = errors;
  const detail = first === undefined ? mistake.message : `${first.field}: ${first.message}`;
  return problemAnswer(
    { status: 400, code: mistake.code, title: 'Bad request', detail, ...(errors.length > 0 ? { errors } : {}) },
    requestId,
  );
}

/** Any mistake of a caller in one form. */
export function asBadRequest(error: unknown): BadRequest | undefined {
  if (error instanceof BadRequest) return error;
  if (error instanceof UnknownTier) {
    const problems = [{ path: 'tier', reason: error.code, message: error.message }];
    return new BadRequest('BAD_FIELD', 'the domain does not know this tier', problems);
  }
  if (error instanceof NotUnderstood) {
    const path = error.code === 'BAD_PATH' ? 'path' : 'request';
    return new BadRequest('BAD_FIELD', error.message, [{ path, reason: error.code, message: error.message }]);
  }
  return undefined;
}

export function notReady(requestId: string): HttpAnswer {
  return problemAnswer(
    { status: 503, code: 'NOT_READY', title: 'Not ready', detail: 'no configuration is loaded yet' },
    requestId,
  );
}

export function notFound(requestId: string): HttpAnswer {
  return problemAnswer(
    { status: 404, code: 'NOT_FOUND', title: 'Not found', detail: 'there is no such endpoint' },
    requestId,
  );
}

export function notAllowed(allowed: string, requestId: string): HttpAnswer {
  const detail = `this endpoint answers ${allowed}`;
  const answer = problemAnswer(
    { status: 405, code: 'METHOD_NOT_ALLOWED', title: 'Method not allowed', detail },
    requestId,
  );
  return { ...answer, headers: { ...answer.headers, allow: allowed } };
}

const REGISTERED = 'https://iana.org/assignments/http-problem-types#';

/** A denial as the client of a gateway sees it: the types that the draft of the RateLimit headers registers. */
export function denialProblem(decision: Decision, requestId: string): HttpAnswer {
  const { reason, reported } = decision;
  const status = statusOfDenial(decision);
  if (status === 401) {
    const [title, detail] =
      reason === 'INVALID_API_KEY'
        ? ['Invalid API key', 'the API key is not valid for this domain']
        : ['Not identified', 'the request does not say who it is from'];
    return problemAnswer({ status, code: reason, title, detail }, requestId);
  }
  const kind = kindOf(decision);
  const extra = reported === undefined ? {} : { 'violated-policies': [reported.rule] };
  return problemAnswer(
    { status, code: reason, type: `${REGISTERED}${kind.type}`, title: kind.title, detail: kind.detail },
    requestId,
    extra,
  );
}

type Kind = { readonly type: string; readonly title: string; readonly detail: string };

const QUOTA: Kind = {
  type: 'quota-exceeded',
  title: 'Request cannot be satisfied as assigned quota has been exceeded',
  detail: 'too many requests',
};
const REDUCED: Kind = {
  type: 'temporary-reduced-capacity',
  title: 'Request cannot be satisfied due to temporary server capacity constraints',
  detail: 'less is allowed for the time being',
};
const ABNORMAL: Kind = {
  type: 'abnormal-usage-detected',
  title: 'Request cannot be satisfied due to unusual usage',
  detail: 'too many requests have been denied lately',
};

const KINDS: ReadonlyMap<string, Kind> = new Map([
  ['DEGRADED_SHED', REDUCED],
  ['FAIL_CLOSED', REDUCED],
  ['IDENTITY_UNAVAILABLE', REDUCED],
  ['IP_BLOCKED', ABNORMAL],
]);

function kindOf({ reason, triggeredBy }: Decision): Kind {
  return triggeredBy === 'PenaltyFSM' ? ABNORMAL : (KINDS.get(reason) ?? QUOTA);
}
