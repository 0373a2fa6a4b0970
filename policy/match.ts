import { type IPAddress, isInside, type Network, parseNetwork } from './ip.ts';
import type { AttributeMatcher, HeaderMatcher, Match, PathMatcher } from './schema/match.ts';

/** What matching and counting may look at; absent fields are absent inputs. */
export type RequestFacts = {
  /** Normalised, see path.ts. */
  readonly path?: string | undefined;
  /** Upper case. */
  readonly method?: string | undefined;
  /** Lower case, without a port. */
  readonly host?: string | undefined;
  /** Names in lower case. */
  readonly headers?: ReadonlyMap<string, string> | undefined;
  /** The address of the client. */
  readonly address?: IPAddress | undefined;
  readonly attributes?: ReadonlyMap<string, string> | undefined;
  /** With its source: `key:acme`, `caller:user:123`, `ip:203.0.113.9`. */
  readonly consumer?: string | undefined;
  readonly tenant?: string | undefined;
};

/** A match, made ready for being asked often. */
export type Matcher = Omit<Match, 'sourceCIDRs'> & { readonly networks?: readonly Network[] };

/**
 * `matched` with the route (the value of the path matcher that matched; undefined if none was asked for),
 * `not-matched` with the first kind of matcher that excludes the request, or `input-missing` if a matcher asks for
 * something that the request does not carry.
 */
export type MatchResult =
  | { readonly kind: 'matched'; readonly route: string | undefined }
  | { readonly kind: 'not-matched'; readonly by: keyof Match }
  | { readonly kind: 'input-missing'; readonly input: string };

const MATCHED_ANYTHING: MatchResult = { kind: 'matched', route: undefined };

export function prepare(match: Match): Matcher {
  const { sourceCIDRs, ...rest } = match;
  if (sourceCIDRs === undefined) return rest;
  return { ...rest, networks: sourceCIDRs.flatMap((text) => parseNetwork(text) ?? []) };
}

/** Whether it can be answered before it is known who calls. */
export function needsIdentity(matcher: Matcher): boolean {
  return matcher.tiers !== undefined || matcher.tenants !== undefined || matcher.consumers !== undefined;
}

/**
 * Kinds of matchers are ANDed, entries of one kind ORed, conditions on headers and attributes ANDed. What one matcher
 * excludes is not matched, whatever another one lacks. `tier` is the one that holds for the policy in question.
 */
export function matches(matcher: Matcher | undefined, facts: RequestFacts, tier?: string): MatchResult {
  if (matcher === undefined) return MATCHED_ANYTHING;
  let missing: string | undefined;
  const { methods, hosts, headers, networks, attributes, tiers, tenants, consumers, paths } = matcher;
  if (methods !== undefined) {
    if (facts.method === undefined) missing = 'method';
    else if (!methodMatches(methods, facts.method)) return { kind: 'not-matched', by: 'methods' };
  }
  if (hosts !== undefined) {
    if (facts.host === undefined) missing ??= 'host';
    else if (!hostMatches(hosts, facts.host)) return { kind: 'not-matched', by: 'hosts' };
  }
  if (headers !== undefined) {
    if (facts.headers === undefined) missing ??= 'headers';
    else if (!valuesMatch(headers, facts.headers)) return { kind: 'not-matched', by: 'headers' };
  }
  if (networks !== undefined) {
    const { address } = facts;
    if (address === undefined) missing ??= 'ip';
    else if (!networks.some((network) => isInside(network, address))) return { kind: 'not-matched', by: 'sourceCIDRs' };
  }
  if (attributes !== undefined) {
    if (facts.attributes === undefined) missing ??= 'attributes';
    else if (!valuesMatch(attributes, facts.attributes)) return { kind: 'not-matched', by: 'attributes' };
  }
  if (tiers !== undefined) {
    if (tier === undefined) missing ??= 'tier';
    else if (!tiers.includes(tier)) return { kind: 'not-matched', by: 'tiers' };
  }
  if (tenants !== undefined) {
    if (facts.tenant === undefined) missing ??= 'tenant';
    else if (!tenants.includes(facts.tenant)) return { kind: 'not-matched', by: 'tenants' };
  }
  if (consumers !== undefined) {
    if (facts.consumer === undefined) missing ??= 'consumer';
    else if (!consumers.includes(facts.consumer)) return { kind: 'not-matched', by: 'consumers' };
  }
  let route: string | undefined;
  if (paths !== undefined) {
    if (facts.path === undefined) missing ??= 'path';
    else {
      route = routeOf(paths, facts.path);
      if (route === undefined) return { kind: 'not-matched', by: 'paths' };
    }
  }
  if (missing !== undefined) return { kind: 'input-missing', input: missing };
  return route === undefined ? MATCHED_ANYTHING : { kind: 'matched', route };
}

/** The first matcher that matches stands for the path. */
function routeOf(matchers: readonly PathMatcher[], path: string): string | undefined {
  for (const matcher of matchers) {
    if (pathMatches(matcher, path)) return matcher.value;
  }
  return undefined;
}

function methodMatches(methods: readonly string[], method: string): boolean {
  return methods.includes(method) || (method === 'HEAD' && methods.includes('GET'));
}

function hostMatches(hosts: readonly string[], host: string): boolean {
  for (const wanted of hosts) {
    if (wanted === host || (wanted.startsWith('*.') && host.endsWith(wanted.slice(1)))) return true;
  }
  return false;
}

function valuesMatch(
  matchers: readonly (HeaderMatcher | AttributeMatcher)[],
  values: ReadonlyMap<string, string>,
): boolean {
  for (const matcher of matchers) {
    if (!valueMatches(matcher, values.get(matcher.name))) return false;
  }
  return true;
}

function valueMatches(matcher: HeaderMatcher | AttributeMatcher, value: string | undefined): boolean {
  switch (matcher.type) {
    case 'Exact':
      return value === matcher.value;
    case 'Present':
      return value !== undefined;
    case 'Absent':
      return value === undefined;
  }
}

export function pathMatches(matcher: PathMatcher, path: string): boolean {
  switch (matcher.type) {
    case 'Exact':
      return path === matcher.value;
    case 'Prefix':
      return isBelow(matcher.value, path);
    case 'Template':
      return templateMatches(segmentsOf(matcher.value), segmentsOf(path));
  }
}

/** Whether a path is the prefix itself or lies below it: /v1 covers /v1 and /v1/a, not /v1beta. */
export function isBelow(prefix: string, path: string): boolean {
  if (!path.startsWith(prefix)) return false;
  return path.length === prefix.length || prefix.endsWith('/') || path.charAt(prefix.length) === '/';
}

/** A placeholder stands for one segment that is not empty. Braces in the path of a request are literal. */
function templateMatches(template: readonly string[], path: readonly string[]): boolean {
  if (template.length !== path.length) return false;
  return template.every((segment, index) => (isPlaceholder(segment) ? path[index] !== '' : path[index] === segment));
}

export function segmentsOf(path: string): readonly string[] {
  return path.slice(1).split('/');
}

export function isPlaceholder(segment: string): boolean {
  return segment.startsWith('{') && segment.endsWith('}');
}

/** What is wrong with a template, undefined if nothing. */
export function templateProblem(template: string): string | undefined {
  const segments = segmentsOf(template);
  const broken = segments.find((segment) => /[{}]/.test(segment) && !/^\{[A-Za-z0-9_-]+\}$/.test(segment));
  if (broken !== undefined) return `a placeholder is a whole segment like {id}, not "${broken}"`;
  if (segments.some((segment) => segment === '.' || segment === '..' || segment.includes('%'))) {
    return 'dot segments and escapes are not allowed in a template';
  }
  return segments.some(isPlaceholder) ? undefined : 'has no placeholder like {id}: use Exact';
}
