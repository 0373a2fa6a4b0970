import { randomUUID } from 'node:crypto';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { Logger } from 'pino';
import type { Snapshot } from '../../policy/snapshot.ts';
import type { RedisClock } from '../../store/clock.ts';
import { type Checker, UnknownTier } from '../check.ts';
import type { LimiterMetrics } from '../metrics.ts';
import { decisionAnswer, type HttpAnswer, jsonAnswer, plainAnswer, problemAnswer } from './answer.ts';
import { readBody } from './body.ts';
import { BadRequest, parseDecisionRequest, type ParsedRequest, parsePlainRequest } from './request.ts';

export type DoorParts = {
  readonly checker: Checker;
  readonly clock: RedisClock;
  readonly metrics: LimiterMetrics;
  readonly log: Logger;
  /** Domain of POST /check, which names none. */
  readonly checkDomain: string;
  readonly snapshot: () => Snapshot | undefined;
  readonly isRedisReachable: () => boolean;
};

const REQUEST_ID = /^[\x21-\x7e]{1,128}$/;

/** The doors for callers. Plain node:http: a framework would cost more than the decision. */
export function createDoors(parts: DoorParts): Server {
  const server = createServer(
    { headersTimeout: 5_000, requestTimeout: 10_000, maxHeaderSize: 16_384, keepAliveTimeout: 60_000 },
    (request, response) => {
      void handle(parts, request, response);
    },
  );
  server.maxConnections = 10_000;
  return server;
}

async function handle(parts: DoorParts, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const given = request.headers['x-request-id'];
  const requestId = typeof given === 'string' && REQUEST_ID.test(given) ? given : randomUUID();
  try {
    write(response, await route(parts, request, requestId));
  } catch (error) {
    if (request.destroyed && !request.complete) return;
    parts.log.error({ event: 'request_failed', err: error, request_id: requestId });
    const problem = {
      status: 500,
      code: 'INTERNAL',
      title: 'Internal error',
      detail: 'the limiter failed; see its log',
    };
    write(response, problemAnswer(problem, requestId));
  }
}

function route(parts: DoorParts, request: IncomingMessage, requestId: string): HttpAnswer | Promise<HttpAnswer> {
  switch (request.url) {
    case '/v1/decision/check':
      return request.method === 'POST' ? decide(parts, request, requestId) : notAllowed('POST', requestId);
    case '/check':
      return request.method === 'POST' ? decidePlain(parts, request, requestId) : notAllowed('POST', requestId);
    case '/health':
      return request.method === 'GET' || request.method === 'HEAD'
        ? health(parts, requestId)
        : notAllowed('GET', requestId);
    default:
      return problemAnswer(
        { status: 404, code: 'NOT_FOUND', title: 'Not found', detail: 'there is no such endpoint' },
        requestId,
      );
  }
}

function notAllowed(allowed: string, requestId: string): HttpAnswer {
  const detail = `this endpoint answers ${allowed}`;
  const answer = problemAnswer(
    { status: 405, code: 'METHOD_NOT_ALLOWED', title: 'Method not allowed', detail },
    requestId,
  );
  return { ...answer, headers: { ...answer.headers, allow: allowed } };
}

async function decide(parts: DoorParts, request: IncomingMessage, headerId: string): Promise<HttpAnswer> {
  let requestId = headerId;
  try {
    const parsed = parseDecisionRequest(await readBody(request));
    requestId = parsed.requestId ?? headerId;
    const snapshot = parts.snapshot();
    if (snapshot === undefined) return notReady(requestId);
    const result = await timed(parts, snapshot, parsed);
    if (result.decision.reason === 'INVALID_API_KEY') return invalidKey(requestId);
    return decisionAnswer(result, requestId);
  } catch (error) {
    if (error instanceof BadRequest) return badRequest(error, requestId);
    if (error instanceof UnknownTier) {
      const problems = [{ path: 'tier', reason: error.code, message: error.message }];
      return badRequest(new BadRequest('BAD_FIELD', 'the domain does not know this tier', problems), requestId);
    }
    throw error;
  }
}

async function decidePlain(parts: DoorParts, request: IncomingMessage, requestId: string): Promise<HttpAnswer> {
  try {
    const parsed = parsePlainRequest(await readBody(request), parts.checkDomain);
    const snapshot = parts.snapshot();
    if (snapshot === undefined) return jsonAnswer(503, { detail: 'no configuration is loaded yet' }, requestId);
    return plainAnswer(await timed(parts, snapshot, parsed), requestId, parts.clock.nowMicros());
  } catch (error) {
    if (error instanceof UnknownTier) return jsonAnswer(400, { detail: `tier: ${error.message}` }, requestId);
    if (!(error instanceof BadRequest)) throw error;
    const [problem] = error.problems;
    return jsonAnswer(
      400,
      { detail: problem === undefined ? error.message : `${problem.path}: ${problem.message}` },
      requestId,
    );
  }
}

async function timed(parts: DoorParts, snapshot: Snapshot, parsed: ParsedRequest) {
  const start = performance.now();
  const result = await parts.checker.check(snapshot, parsed.check);
  parts.metrics.observeDuration((performance.now() - start) / 1000);
  return result;
}

/** Serving means that a configuration is enforced; without Redis the failure policies are. */
function health(parts: DoorParts, requestId: string): HttpAnswer {
  const snapshot = parts.snapshot();
  const body = {
    status: snapshot === undefined ? 'starting' : 'ok',
    redis: parts.isRedisReachable() ? 'ok' : 'unreachable',
    postgres: 'not configured',
    revision: snapshot?.identity.revision ?? 0,
  };
  return jsonAnswer(snapshot === undefined ? 503 : 200, body, requestId);
}

function notReady(requestId: string): HttpAnswer {
  return problemAnswer(
    { status: 503, code: 'NOT_READY', title: 'Not ready', detail: 'no configuration is loaded yet' },
    requestId,
  );
}

function invalidKey(requestId: string): HttpAnswer {
  const detail = 'the API key is not valid for this domain';
  return problemAnswer({ status: 401, code: 'INVALID_API_KEY', title: 'Invalid API key', detail }, requestId);
}

function badRequest(error: BadRequest, requestId: string): HttpAnswer {
  const errors = error.problems.map(({ path, reason, message }) => ({ field: path, reason, message }));
  const [first] = errors;
  const detail = first === undefined ? error.message : `${first.field}: ${first.message}`;
  return problemAnswer(
    { status: 400, code: error.code, title: 'Bad request', detail, ...(errors.length > 0 ? { errors } : {}) },
    requestId,
  );
}

function write(response: ServerResponse, answer: HttpAnswer): void {
  response.writeHead(answer.status, { ...answer.headers, 'content-length': Buffer.byteLength(answer.body) });
  response.end(answer.body);
}
