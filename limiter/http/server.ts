import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { Socket } from 'node:net';
import type { DoorSettings } from '../door-settings.ts';
import type { DoorParts } from '../door.ts';
import { requestIdFrom } from '../door.ts';
import { Turn } from '../turn.ts';
import { type HttpAnswer, jsonAnswer, problemAnswer } from './answer.ts';
import { KEEP_ALIVE_SECONDS } from './answer-text.ts';
import { authorize, authzTarget } from './authz.ts';
import { type Behind, Connection, type Reply } from './connection.ts';
import { decide, decideAll, decidePlain, refund } from './decision.ts';
import { type HttpRequest, NodeRequest } from './http-request.ts';
import { notAllowed, notFound } from './problem.ts';
import { decideRls } from './rls.ts';

/** The server for callers, and what its end needs. */
export type HttpDoors = {
  readonly server: Server;
  /** From now on every answer asks its caller to use another connection. */
  drain(): void;
  /** Closes the connections that are between two requests. */
  closeIdleConnections(): void;
  closeAllConnections(): void;
};

type Handler = (parts: DoorParts, request: HttpRequest, requestId: string) => HttpAnswer | Promise<HttpAnswer>;

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
  keepAliveTimeout: KEEP_ALIVE_SECONDS * 1_000,
};

/** The doors for callers. A framework would cost more than the decision, and even Node's own HTTP does. */
export function createDoors(parts: DoorParts, tls?: DoorSettings['tls']): HttpDoors {
  let isDraining = false;
  const doors: Doors = { parts, writing: new Turn((one) => write(parts, one)) };
  const asking = new Turn<Asking>(({ request, reply }) => void answer(doors, request, reply));
  const listener = (message: IncomingMessage, response: ServerResponse): void => {
    if (isDraining) response.shouldKeepAlive = false;
    void answer(doors, new NodeRequest(message), new NodeReply(response));
  };
  const server =
    tls === undefined
      ? createServer(LIMITS, listener)
      : createTlsServer(
          { ...LIMITS, ...tls, minVersion: 'TLSv1.2', handshakeTimeout: LIMITS.headersTimeout },
          listener,
        );
  server.maxConnections = 10_000;
  const connections = readFirst(server, tls === undefined ? 'connection' : 'secureConnection', {
    answer: (request, reply) => asking.add({ request, reply }),
    isDraining: () => isDraining,
  });
  return {
    server,
    drain: () => {
      isDraining = true;
    },
    closeIdleConnections: () => {
      for (const connection of connections) if (connection.isIdle) connection.destroy();
      server.closeIdleConnections();
    },
    closeAllConnections: () => {
      for (const connection of connections) connection.destroy();
      server.closeAllConnections();
    },
  };
}

/**
 * Reads the connections of a server before Node does, which gets those that are handed over. Returns those that are not.
 */
function readFirst(
  server: Server,
  event: 'connection' | 'secureConnection',
  doors: Pick<Behind, 'answer' | 'isDraining'>,
): ReadonlySet<Connection> {
  const connections = new Set<Connection>();
  const nodes = server.listeners(event);
  const behind: Behind = {
    ...doors,
    handOver: (connection, socket, unread) => {
      connections.delete(connection);
      socket.unshift(unread);
      for (const listener of nodes) Reflect.apply(listener, server, [socket]);
      if (socket.isPaused()) socket.resume();
    },
    onClose: (connection) => void connections.delete(connection),
  };
  server.removeAllListeners(event);
  server.on(event, (socket: Socket) => void connections.add(new Connection(socket, behind)));
  return connections;
}

type Doors = { readonly parts: DoorParts; readonly writing: Turn<Answered> };

type Asking = { readonly request: HttpRequest; readonly reply: Reply };

type Answered = { readonly requestId: string; readonly reply: Reply; readonly answer: HttpAnswer };

async function answer({ parts, writing }: Doors, request: HttpRequest, reply: Reply): Promise<void> {
  const requestId = requestIdFrom(request.headers.get('x-request-id'));
  try {
    writing.add({ requestId, reply, answer: await route(parts, request, requestId) });
  } catch (error) {
    if (request instanceof NodeRequest && request.isGivenUp) return;
    writing.add({ requestId, reply, answer: failed(parts, error, requestId) });
  }
}

function write(parts: DoorParts, { requestId, reply, answer: one }: Answered): void {
  try {
    reply.write(one);
  } catch (error) {
    // One that cannot be written must not take the others of its turn with it.
    reply.write(failed(parts, error, requestId));
  }
}

/** Where Node writes an answer. */
class NodeReply implements Reply {
  readonly #response: ServerResponse;

  constructor(response: ServerResponse) {
    this.#response = response;
  }

  write({ status, headers, body }: HttpAnswer): void {
    this.#response.writeHead(status, { ...headers, 'content-length': Buffer.byteLength(body) });
    this.#response.end(body);
  }
}

function failed(parts: DoorParts, error: unknown, requestId: string): HttpAnswer {
  parts.log.error({ event: 'request_failed', err: error, request_id: requestId });
  const detail = 'the limiter failed; see its log';
  return problemAnswer({ status: 500, code: 'INTERNAL', title: 'Internal error', detail }, requestId);
}

function route(parts: DoorParts, request: HttpRequest, requestId: string): HttpAnswer | Promise<HttpAnswer> {
  const { url, method } = request;
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
