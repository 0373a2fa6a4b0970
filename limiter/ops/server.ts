// What operators ask a pod: probes, metrics, explanations, penalties. On a port of its own that callers do not reach;
// whoever reaches it to read metrics may not ask for the rest.
import { readFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import express, {
  type ErrorRequestHandler,
  type Express,
  type NextFunction,
  type Request,
  type RequestHandler,
  type Response,
} from 'express';
import type { z } from 'zod';
import { problemsOf } from '../../policy/problems.ts';
import type { Snapshot } from '../../policy/snapshot.ts';
import { StoreError } from '../../store/errors.ts';
import type { Asked } from '../asked.ts';
import { type DoorParts, requestIdFrom } from '../door.ts';
import { type HttpAnswer, problemAnswer } from '../http/answer.ts';
import { asBadRequest, answerToMistake, notReady } from '../http/problem.ts';
import { BadRequest, decisionRequestSchema, parseWith, toAsked } from '../http/request.ts';
import { NoSuchPenalty, type Penalties } from '../penalties.ts';
import type { Networks } from '../trust.ts';
import { admitOperators } from './admission.ts';
import { idOf, send } from './answers.ts';
import { describeApi, type OpenApiDocument } from './openapi.ts';
import { deniedQuerySchema, pardonRequestSchema, penaltiesQuerySchema } from './requests.ts';

export type OpsParts = {
  readonly door: DoorParts;
  /** Who may ask for more than probes and metrics. */
  readonly operators: Networks;
  readonly penalties: Penalties;
  /** How a decision comes about, without counting. */
  readonly explain: (snapshot: Snapshot, asked: Asked) => Promise<unknown>;
  readonly isReady: () => boolean;
  readonly problem: () => string | undefined;
};

const MAX_LISTED = 100;
const API_VERSION = 'v1';

export function createOps(parts: OpsParts): Server {
  const app = express();
  app.disable('x-powered-by').disable('etag').set('query parser', 'simple');
  app.use((request, response, next) => {
    response.locals['requestId'] = requestIdFrom(request.headers['x-request-id']);
    response.set('x-request-id', idOf(response));
    next();
  });
  app.use(admitOperators(parts.operators));
  // The text as it came: the schemas of the callers' port read it, with the same errors.
  app.use(express.text({ type: () => true, limit: '256kb' }));
  addProbes(app, parts);
  addPenalties(app, parts);
  addExplanations(app, parts);
  addDescription(app);
  app.use((_request, response) => {
    const detail = 'there is no such endpoint on this port';
    send(response, problemAnswer({ status: 404, code: 'NOT_FOUND', title: 'Not found', detail }, idOf(response)));
  });
  app.use(onError(parts));
  return createServer({ headersTimeout: 5_000, requestTimeout: 10_000, connectionsCheckingInterval: 1_000 }, app);
}

function addProbes(app: Express, { door, isReady, problem }: OpsParts): void {
  const { registry } = door.metrics;
  // The event loop answers: nothing else may turn a pod dead, least of all Redis.
  app.get('/livez', (_request, response) => {
    response.json({ status: 'ok' });
  });
  app.get('/readyz', (_request, response) => {
    const ready = isReady();
    const trouble = problem();
    response
      .status(ready ? 200 : 503)
      .json({ status: ready ? 'ok' : 'starting', ...(trouble === undefined ? {} : { problem: trouble }) });
  });
  app.get('/metrics', async (_request, response) => {
    response.type(registry.contentType).send(await registry.metrics());
  });
}

function addPenalties(app: Express, { door, penalties }: OpsParts): void {
  app.get(
    '/penalties',
    answering(async (request) => {
      const { domain, value, limit = MAX_LISTED } = queryOf(penaltiesQuerySchema, request);
      const listed = await penalties.list(snapshotOf(door), domain, value, limit);
      return {
        penalties: listed.map(({ text, state, endsAtMicros }) => ({
          subject: text,
          state,
          ends_at: endsAtMicros === undefined ? null : new Date(endsAtMicros / 1000).toISOString(),
        })),
      };
    }),
  );
  app.post(
    '/penalty/pardon',
    answering(async (request) => {
      const { reason, ...asked } = parseWith(pardonRequestSchema, bodyOf(request));
      const { before } = await penalties.pardon(snapshotOf(door), asked);
      door.log.warn({ event: 'penalty_pardoned', ...asked, before, reason, by: request.socket.remoteAddress });
      return { before };
    }),
  );
  app.get('/denied', (request, response) => {
    const { domain } = queryOf(deniedQuerySchema, request);
    const denied = (door.denied.top(domain) ?? []).map(({ lastReason, lastAtMillis, ...entry }) => ({
      ...entry,
      last_reason: lastReason,
      last_at: new Date(lastAtMillis).toISOString(),
    }));
    response.json({ domain, denied });
  });
}

function addExplanations(app: Express, { door, explain }: OpsParts): void {
  app.post(
    '/explain',
    answering((request, requestId) => {
      const input = parseWith(decisionRequestSchema, bodyOf(request));
      // Whoever reaches this port asks what a trusted caller would get.
      const asked = toAsked(input, requestId, { peerIP: undefined, isTrusted: true });
      return explain(snapshotOf(door), { ...asked, isPeek: true, refundId: undefined });
    }),
  );
}

/** Answers with what is resolved, as JSON. */
function answering(answer: (request: Request, requestId: string) => Promise<unknown>): RequestHandler {
  return (request, response, next) => {
    void respond(answer, request, response, next);
  };
}

/** What is thrown at once is answered like what is thrown later. */
async function respond(
  answer: (request: Request, requestId: string) => Promise<unknown>,
  request: Request,
  response: Response,
  next: NextFunction,
): Promise<void> {
  try {
    response.json(await answer(request, idOf(response)));
  } catch (error) {
    next(error);
  }
}

/**
 * The description of the API, made when it is first asked for; and a page to read it, from files of ours: the page loads
 * nothing from elsewhere.
 */
function addDescription(app: Express): void {
  let description: OpenApiDocument | undefined;
  const folder = dirname(fileURLToPath(import.meta.resolve('swagger-ui-dist/package.json')));
  const page = readFileSync(new URL('index.html', `file://${folder}/`), 'utf8');
  app.get('/openapi.json', (_request, response) => {
    response.json((description ??= describeApi(API_VERSION)));
  });
  app.get('/docs', (request, response) => {
    // The page's own links are relative to its folder.
    if (request.path === '/docs') response.redirect(308, '/docs/');
    else response.type('html').send(page);
  });
  // The one that comes with the package shows somebody else's API.
  app.get('/docs/swagger-initializer.js', (_request, response) => {
    response.type('js').send(
      `window.onload = () => {
        window.ui = SwaggerUIBundle({url: '../openapi.json', dom_id: '#swagger-ui', validatorUrl: null,
          supportedSubmitMethods: [], presets: [SwaggerUIBundle.presets.apis]});
      };`,
    );
  });
  app.use('/docs', express.static(folder, { index: false, redirect: false }));
}

/** Nothing is loaded yet. */
class NotReady extends Error {
  override readonly name = 'NotReady';
}

function snapshotOf({ snapshot }: DoorParts): Snapshot {
  const loaded = snapshot();
  if (loaded === undefined) throw new NotReady();
  return loaded;
}

function onError({ door }: OpsParts): ErrorRequestHandler {
  return (error: unknown, _request, response, _next) => {
    const answer = answerTo(error, idOf(response));
    if (answer !== undefined) {
      send(response, answer);
      return;
    }
    door.log.error({ event: 'request_failed', door: 'ops', err: error });
    const detail = 'the limiter failed; see its log';
    const problem = { status: 500, code: 'INTERNAL', title: 'Internal error', detail };
    send(response, problemAnswer(problem, idOf(response)));
  };
}

function answerTo(error: unknown, requestId: string): HttpAnswer | undefined {
  if (error instanceof NotReady) return notReady(requestId);
  if (error instanceof NoSuchPenalty) {
    const problems = [{ path: error.field, reason: error.code, message: error.message }];
    return answerToMistake(new BadRequest('BAD_FIELD', error.message, problems), requestId);
  }
  if (error instanceof StoreError) {
    const detail = `Redis: ${error.message}`;
    return problemAnswer({ status: 503, code: error.code, title: 'Not available', detail }, requestId);
  }
  // What Express itself refuses: a body that is too large, an encoding that it does not know, a broken path.
  const status: unknown = error instanceof Error ? Reflect.get(error, 'status') : undefined;
  if (typeof status === 'number' && status >= 400 && status < 500) {
    const detail = error instanceof Error ? error.message : 'the request cannot be read';
    return problemAnswer({ status, code: 'BAD_REQUEST', title: 'Bad request', detail }, requestId);
  }
  return asBadRequest(error) === undefined ? undefined : answerToMistake(error, requestId);
}

function queryOf<S extends z.ZodType>(schema: S, request: Request): z.output<S> {
  const parsed = schema.safeParse({ ...request.query });
  if (parsed.success) return parsed.data;
  throw new BadRequest('BAD_FIELD', 'the query cannot be understood', problemsOf(parsed.error, request.query, ''));
}

const bodyOf = (request: Request): string => (typeof request.body === 'string' ? request.body : '');
