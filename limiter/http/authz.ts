// Doors for gateways that ask with a plain HTTP request and look at the status: Envoy's ext_authz, Traefik's
// ForwardAuth, nginx' auth_request, HAProxy. The path that the gateway is configured with names the domain and, by its
// first part, the status of a denial. Nothing is ever taken from a query: that is the client's.
import { type Asked, hostOf, NotUnderstood, understoodPath, UnknownTier } from '../asked.ts';
import { ask, type DoorParts } from '../door.ts';
import { rateLimitHeaders } from '../rate-limit-headers.ts';
import { addressIn, clientBehind } from '../trust.ts';
import { type HttpAnswer, problemAnswer } from './answer.ts';
import type { HttpRequest } from './http-request.ts';
import { denialProblem, notFound, notReady } from './problem.ts';

type Target = {
  readonly domain: string;
  /** Statuses of denials other than 401 become this one, if any. */
  readonly denyStatus: 403 | undefined;
  /** What follows the domain: the path of the client's request, where the gateway appends it. */
  readonly rest: string;
};

const PREFIXES = [
  ['/authz/', undefined],
  ['/authz403/', 403],
] as const;

/** Where a request to one of these doors leads; undefined if it is for none of them. */
export function authzTarget(url: string): Target | undefined {
  const query = url.indexOf('?');
  const path = query === -1 ? url : url.slice(0, query);
  for (const [prefix, denyStatus] of PREFIXES) {
    if (!path.startsWith(prefix)) continue;
    const slash = path.indexOf('/', prefix.length);
    const end = slash === -1 ? path.length : slash;
    return { domain: path.slice(prefix.length, end), denyStatus, rest: path.slice(end) };
  }
  return undefined;
}

/** Exactly 200 on allow; 429 (or 403) or 401 on deny; 503 only while no configuration is loaded. */
export async function authorize(
  parts: DoorParts,
  request: HttpRequest,
  target: Target,
  requestId: string,
): Promise<HttpAnswer> {
  if (!/^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$/.test(target.domain)) return notFound(requestId);
  const snapshot = parts.snapshot();
  if (snapshot === undefined) return notReady(requestId);
  try {
    const { decision } = await ask(parts, snapshot, toAsked(parts, request, target));
    const headers = rateLimitHeaders(decision, parts.headerFamilies, parts.clock.nowMicros());
    if (decision.action === 'ALLOW')
      return { status: 200, headers: { ...headers, 'x-request-id': requestId }, body: '' };
    const problem = denialProblem(decision, requestId);
    return withStatus({ ...problem, headers: { ...problem.headers, ...headers } }, target);
  } catch (error) {
    if (!(error instanceof NotUnderstood || error instanceof UnknownTier)) throw error;
    parts.metrics.countRefused(error.code);
    const { code, message } = error;
    return withStatus(problemAnswer({ status: 400, code, title: 'Bad request', detail: message }, requestId), target);
  }
}

function withStatus(answer: HttpAnswer, { denyStatus }: Target): HttpAnswer {
  return denyStatus === undefined || answer.status === 401 ? answer : { ...answer, status: denyStatus };
}

function toAsked(parts: DoorParts, request: HttpRequest, target: Target): Asked {
  const peerIP = addressIn(request.socket.remoteAddress ?? '');
  const isTrusted = parts.trustedProxies.has(peerIP);
  const original = originalRequest(request, target, isTrusted);
  const { headers } = request;
  const forwardedFor = headers.get('x-forwarded-for');
  if (!isTrusted && FORWARDED.some((name) => headers.has(name))) parts.metrics.countUntrustedWord('forwarded');
  return {
    domain: target.domain,
    cost: undefined,
    isPeek: false,
    needsAllLimits: parts.headerFamilies.includes('ietf'),
    isTrusted,
    peerIP,
    // The domain says in which header keys are.
    apiKey: undefined,
    // A gateway passes headers of the client on: none of them can say who it is.
    consumer: undefined,
    tenant: undefined,
    tier: undefined,
    refundId: undefined,
    context: {
      method: original.method.toUpperCase(),
      path: understoodPath(original.path),
      host: original.host === undefined ? undefined : hostOf(original.host),
      clientIP: peerIP === undefined ? undefined : clientBehind(peerIP, forwardedFor, parts.trustedProxies),
      headers,
    },
  };
}

/** Headers in which a trusted gateway says what it was asked, and by whom. */
const FORWARDED = [
  'x-forwarded-for',
  'x-forwarded-host',
  'x-forwarded-method',
  'x-forwarded-uri',
  'x-original-method',
  'x-original-uri',
];

type Original = { readonly method: string; readonly path: string; readonly host: string | undefined };

/**
 * What the client asked the gateway for. A gateway either appends the client's path to the one that it is configured
 * with (Envoy), or says it in headers (Traefik: X-Forwarded-Uri and -Method; nginx and HAProxy, by our configuration:
 * X-Original-URI and -Method). Headers count only where no path was appended, so that a client which sends such headers
 * itself through the first kind of gateway changes nothing; but for `/`, which others are configured with, so that such a
 * gateway must not pass these headers on.
 */
function originalRequest({ headers, method }: HttpRequest, { rest }: Target, isTrusted: boolean): Original {
  const isAppended = rest !== '' && rest !== '/';
  if (isAppended || !isTrusted) return { method, path: rest === '' ? '/' : rest, host: headers.get('host') };
  return {
    method: said(headers, 'x-forwarded-method', 'x-original-method') ?? method,
    path: pathOf(said(headers, 'x-forwarded-uri', 'x-original-uri') ?? '/'),
    host: filled(headers.get('x-forwarded-host')) ?? headers.get('host'),
  };
}

/** What either of two headers says. One gateway sets one of them; if the other says something else, a client sent it. */
function said(headers: HttpRequest['headers'], one: string, other: string): string | undefined {
  const [first, second] = [filled(headers.get(one)), filled(headers.get(other))];
  if (first !== undefined && second !== undefined && first !== second) {
    throw new NotUnderstood(
      'BAD_VALUE',
      `${one} and ${other} contradict each other: the gateway must set or remove both`,
    );
  }
  return first ?? second;
}

function filled(header: string | undefined): string | undefined {
  return header === '' ? undefined : header;
}

/** Some gateways say a whole URL. */
function pathOf(uri: string): string {
  const path = /^[a-z][a-z0-9+.-]*:\/\/[^/?#]*(.*)$/i.exec(uri)?.[1];
  return path === undefined ? uri : path === '' ? '/' : path;
}
