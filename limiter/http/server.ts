import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { DoorSettings } from '../door-settings.ts';
import type { DoorParts } from '../door.ts';
import { requestIdFrom } from '../door.ts';
import { type HttpAnswer, jsonAnswer, problemAnswer } from './answer.ts';
import { authorize, authzTarget } from './authz.ts';
import { decide, decideAll, decidePlain, refund } from './decision.ts';
import { notAllowed, notFound } from './problem.ts';
import { decideRls } from './rls.ts';

/** The server for callers, and what its end needs. */
export type HttpDoors = {
  readonly server: Server;
  /** From now on every answer asks its caller to use another connection. */
  drain(): void;
};

type Handler = (parts: DoorParts, request: IncomingMessage, requestId: string) => HttpAnswer | Promise<HttpAnswer>;

const POST: ReadonlyMap<string, Handler> = new Map<string, Handler>([
  ['/v1/decision/check', decide],
  ['/v1/decision/batch', decideAll],
  ['/v1/decision/refund', refund],
  ['/check', decidePlain],
  ['/json', decideRls],
]);

/** A slow or silent client holds a connection for so long, and no longer. */
const LIMITS = {
  headersTimeout: 5_000,
  requestTimeout: 10_000,
  connectionsCheckingInterval: 1_000,
  maxHeaderSize: 32_768,
  keepAliveTimeout: 75_000,
};

/** The doors for callers. Plain node:http: a framework would cost more than the decision. */
export function createDoors(parts: DoorParts, tls?: DoorSettings['tls']): HttpDoors {
  let isDraining = false;
  const listener = (request: IncomingMessage, response: ServerResponse): void => {
    if (isDraining) response.shouldKeepAlive = false;
    void handle(parts, request, response);
  };
  const server =
    tls === undefined
      ? createServer(LIMITS, listener)
      : createTlsServer(
          { ...LIMITS, ...tls, minVersion: 'TLSv1.2', handshakeTimeout: LIMITS.headersTimeout },
          listener,
        );
  server.maxConnections = 10_000;
  return {
    server,
    drain: () => {
      isDraining = true;
    },
  };
}

async function handle(parts: DoorParts, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const requestId = requestIdFrom(request.headers['x-request-id']);
  try {
    writeLater({ parts, requestId, response, answer: await route(parts, request, requestId) });
  } catch (error) {
    if (request.destroyed && !request.complete) return;
    writeLater({ parts, requestId, response, answer: failed(parts, error, requestId) });
  }
}

function failed(parts: DoorParts, error: unknown, requestId: string): HttpAnswer {
  parts.log.error({ event: 'request_failed', err: error, request_id: requestId });
  const detail = 'the limiter failed; see its log';
  return problemAnswer({ status: 500, code: 'INTERNAL', title: 'Internal error', detail }, requestId);
}

function route(parts: DoorParts, request: IncomingMessage, requestId: string): HttpAnswer | Promise<HttpAnswer> {
  const { url = '', method } = request;
  const handler = POST.get(url);
  if (handler !== undefined)
    return method === 'POST' ? handler(parts, request, requestId) : notAllowed('POST', requestId);
  if (url === '/health') {
    return method === 'GET' || method === 'HEAD' ? health(parts, requestId) : notAllowed('GET', requestId);
  }
  const target = authzTarget(url);
  return target === undefined ? notFound(requestId) : authorize(parts, request, target, requestId);
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

type Answered = {
  readonly parts: DoorParts;
  readonly requestId: string;
  readonly response: ServerResponse;
  readonly answer: HttpAnswer;
};

let answered: Answered[] = [];

/**
 * Answers are written when all requests of this turn of the event loop were read: to read and to write by turns costs
 * half as much again for each, as the processor has to change from one code to the other.
 */
function writeLater(one: Answered): void {
  if (answered.push(one) === 1) setImmediate(writeAll);
}

function writeAll(): void {
  const all = answered;
  answered = [];
  for (const { parts, requestId, response, answer } of all) {
    try {
      write(response, answer);
    } catch (error) {
      // One that cannot be written must not take the others with it.
      write(response, failed(parts, error, requestId));
    }
  }
}

function write(response: ServerResponse, answer: HttpAnswer): void {
  response.writeHead(answer.status, { ...answer.headers, 'content-length': Buffer.byteLength(answer.body) });
  response.end(answer.body);
}
