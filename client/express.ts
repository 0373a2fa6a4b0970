import type { NextFunction, Request, RequestHandler, Response } from 'express';
import { type CheckAnswer, type CheckInput, type CheckOutcome, LimiterClient } from './limiter-client.ts';

/** What the application learns of a request, in `request[requestPropertyName]`. */
export type RateLimitInfo = {
  readonly limit: number | null;
  readonly used: number | null;
  readonly remaining: number | null;
  readonly resetTime: Date | undefined;
  readonly answer: CheckAnswer;
};

export type SluiceOptions = {
  /** Base URL of a limiter, or several to use in turn. */
  readonly endpoint: string | readonly string[];
  readonly domain: string;
  /** What the limiter is told besides method, path, address and API key; overrides those. */
  readonly attributes?: (request: Request) => Partial<Omit<CheckInput, 'domain' | 'cost'>>;
  /** What the request takes from each limit. Default: 1. */
  readonly cost?: number | ((request: Request) => number);
  /** Milliseconds that the application waits for a decision. Default: 50. */
  readonly timeoutMs?: number;
  /** What happens to a request on which no decision could be had. Default: allow. */
  readonly onError?:
    | 'allow'
    | 'deny'
    | ((error: unknown, request: Request, response: Response, next: NextFunction) => void);
  /** As in express-rate-limit: true = allow, false = deny. `onError` says more. */
  readonly passOnStoreError?: boolean;
  readonly skip?: (request: Request) => boolean | Promise<boolean>;
  /** Who asks; the limiter counts it as `caller:…`. Default: by API key, else by address. */
  readonly keyGenerator?: (request: Request) => string | Promise<string>;
  /** The policy's rules may match or count by it, as attribute:rule. */
  readonly rule?: string;
  /** What was charged is given back when the response has failed. Default: false. */
  readonly skipFailedRequests?: boolean;
  /** What was charged is given back when the response has succeeded. Default: false. */
  readonly skipSuccessfulRequests?: boolean;
  /** Default: the status is below 400. */
  readonly requestWasSuccessful?: (request: Request, response: Response) => boolean;
  /** RateLimit and RateLimit-Policy of the IETF draft. Default: draft-11. */
  readonly standardHeaders?: 'draft-11' | boolean;
  /** X-RateLimit-*, with Reset in seconds since 1970. Default: true. */
  readonly legacyHeaders?: boolean;
  /** Of a denial. Default: 429. */
  readonly statusCode?: number;
  /** Body of a denial, instead of application/problem+json. */
  readonly message?: string | object;
  /** Answers a denied request. Default: statusCode with message, or with application/problem+json. */
  readonly handler?: (request: Request, response: Response, next: NextFunction, answer: CheckAnswer) => void;
  /** Told of every decision. */
  readonly onDecision?: (answer: CheckAnswer, request: Request) => void;
  /** Default: rateLimit. */
  readonly requestPropertyName?: string;
};

const API_KEY_HEADER = 'x-api-key';
const DEFAULT_TIMEOUT_MS = 50;

/**
 * Middleware that asks a limiter about every request. It holds no limits and no counters of its own.
 *
 * Policies compare paths exactly; Express by default does not: it serves /Data/ where a route says /data. Unless policies
 * match such paths too (Prefix, or no path at all), enable `strict routing` and `case sensitive routing`.
 */
export function sluice(options: SluiceOptions): RequestHandler {
  const endpoints = typeof options.endpoint === 'string' ? [options.endpoint] : options.endpoint;
  const client = new LimiterClient({ endpoints, timeoutMs: options.timeoutMs ?? DEFAULT_TIMEOUT_MS });
  return (request, response, next) => {
    void ask(client, options, { request, response, next });
  };
}

type Exchange = { readonly request: Request; readonly response: Response; readonly next: NextFunction };

/** Never rejects: what a callback of the application throws is an error of its request, not the end of the process. */
async function ask(client: LimiterClient, options: SluiceOptions, exchange: Exchange): Promise<void> {
  try {
    if ((await options.skip?.(exchange.request)) === true) {
      exchange.next();
      return;
    }
    const input = await inputOf(options, exchange.request);
    const outcome = await client.check(input).catch((error: unknown) => ({ error }));
    if ('error' in outcome) {
      fail(options, outcome.error, exchange);
      return;
    }
    if (outcome.kind === 'decided') refundLater(client, options, { ...exchange, answer: outcome.answer });
    answerWith(options, outcome, exchange);
  } catch (error) {
    exchange.next(error);
  }
}

/** Gives the charge back once it is known how the response ended, if that is asked for. */
function refundLater(
  client: LimiterClient,
  options: SluiceOptions,
  { request, response, answer }: Exchange & { readonly answer: CheckAnswer },
): void {
  if (answer.refundable !== true) return;
  const wasSuccessful = options.requestWasSuccessful ?? ((_request, { statusCode }) => statusCode < 400);
  // A client that went away got no answer: `close` comes then too, and `finish` does not.
  response.once('close', () => {
    const isSuccess = response.writableFinished && wasSuccessful(request, response);
    const isRefunded = isSuccess ? options.skipSuccessfulRequests : options.skipFailedRequests;
    // A refund that fails leaves the client with less for a while; there is nobody to tell.
    if (isRefunded === true) client.refund(answer.request_id).catch(() => undefined);
  });
}

async function inputOf(options: SluiceOptions, request: Request): Promise<CheckInput> {
  const apiKey = request.get(API_KEY_HEADER);
  const cost = typeof options.cost === 'function' ? options.cost(request) : options.cost;
  const consumer = await options.keyGenerator?.(request);
  const { attributes, ...given } = options.attributes?.(request) ?? {};
  const named = options.rule === undefined ? attributes : { rule: options.rule, ...attributes };
  return {
    domain: options.domain,
    method: request.method,
    path: pathOf(request.originalUrl),
    ...(request.ip === undefined ? {} : { ip: request.ip }),
    // Who is named is not also looked up.
    ...(consumer === undefined ? {} : { consumer }),
    ...(apiKey === undefined || apiKey === '' || consumer !== undefined ? {} : { api_key: apiKey }),
    ...(cost === undefined ? {} : { cost }),
    ...(options.skipFailedRequests === true || options.skipSuccessfulRequests === true ? { refundable: true } : {}),
    ...given,
    ...(named === undefined ? {} : { attributes: named }),
  };
}

/** Without the query: no limit looks at it, and its length must not make a request one that is not understood. */
function pathOf(url: string): string {
  const end = url.indexOf('?');
  return end === -1 ? url : url.slice(0, end);
}

function answerWith(options: SluiceOptions, outcome: CheckOutcome, exchange: Exchange): void {
  switch (outcome.kind) {
    case 'decided':
      proceed(options, outcome.answer, exchange);
      break;
    case 'unauthenticated':
      refuse(exchange.response, { status: 401, title: 'Invalid API key', detail: 'the API key is not valid' });
      break;
    case 'not-understood':
      // Letting it through would make a broken path a way around every limit.
      refuse(exchange.response, { status: 400, title: 'Bad request', detail: outcome.detail });
      break;
  }
}

function proceed(options: SluiceOptions, answer: CheckAnswer, { request, response, next }: Exchange): void {
  const resetTime = answer.reset_after === null ? undefined : new Date(Date.now() + answer.reset_after * 1000);
  const info: RateLimitInfo = {
    limit: answer.limit,
    used: answer.limit === null || answer.remaining === null ? null : Math.max(0, answer.limit - answer.remaining),
    remaining: answer.remaining,
    resetTime,
    answer,
  };
  Object.assign(request, { [options.requestPropertyName ?? 'rateLimit']: info });
  options.onDecision?.(answer, request);
  setHeaders(response, options, answer, resetTime);
  if (answer.allowed) next();
  else if (options.handler !== undefined) options.handler(request, response, next, answer);
  else deny(options, answer, response);
}

function deny({ statusCode = 429, message }: SluiceOptions, answer: CheckAnswer, response: Response): void {
  if (answer.reason === 'IDENTITY_MISSING') {
    refuse(response, { status: 401, title: 'Not identified', detail: 'the request does not say who it is from' });
    return;
  }
  if (message !== undefined) {
    response.status(statusCode).send(message);
    return;
  }
  const { reason, retry_after: retryAfter } = answer;
  const refusal = { status: statusCode, title: 'Too many requests', detail: denial(answer) };
  refuse(response, refusal, { reason, retry_after: retryAfter });
}

function setHeaders(
  response: Response,
  { legacyHeaders = true, standardHeaders = 'draft-11' }: SluiceOptions,
  answer: CheckAnswer,
  resetTime: Date | undefined,
): void {
  response.setHeader('X-Request-ID', answer.request_id);
  if (answer.retry_after !== null) response.setHeader('Retry-After', Math.ceil(answer.retry_after));
  const { limit, remaining, rule } = answer;
  if (limit === null || remaining === null || resetTime === undefined) return;
  if (legacyHeaders) {
    response.setHeader('X-RateLimit-Limit', limit);
    response.setHeader('X-RateLimit-Remaining', remaining);
    response.setHeader('X-RateLimit-Reset', Math.ceil(resetTime.getTime() / 1000));
    if (answer.strategy !== null) response.setHeader('X-RateLimit-Strategy', answer.strategy);
  }
  if (standardHeaders === false || rule === null || answer.window_seconds === null) return;
  const wait = answer.allowed ? answer.reset_after : answer.retry_after;
  response.setHeader('RateLimit-Policy', `"${rule}";q=${limit};w=${answer.window_seconds}`);
  response.setHeader('RateLimit', `"${rule}";r=${remaining}${wait === null ? '' : `;t=${Math.ceil(wait)}`}`);
}

function denial(answer: CheckAnswer): string {
  const { rule, policy, limit, retry_after: retryAfter } = answer;
  const wait = retryAfter === null ? '' : `; try again in ${Math.ceil(retryAfter)} s`;
  // A block speaks of no limit, nor does a rule that is hidden.
  const why =
    rule === null || limit === null ? 'too many requests' : `rule ${rule} of policy ${policy} allows ${limit} requests`;
  return `${why}${wait}`;
}

function fail(options: SluiceOptions, error: unknown, { request, response, next }: Exchange): void {
  const { onError = options.passOnStoreError === false ? 'deny' : 'allow' } = options;
  if (typeof onError === 'function') onError(error, request, response, next);
  else if (onError === 'allow') next();
  else
    refuse(response, { status: 503, title: 'Rate limiter unavailable', detail: 'no decision could be had; try again' });
}

type Refusal = { readonly status: number; readonly title: string; readonly detail: string };

function refuse(response: Response, refusal: Refusal, extra: object = {}): void {
  response
    .status(refusal.status)
    .type('application/problem+json')
    .send(JSON.stringify({ type: 'about:blank', ...refusal, ...extra }));
}
