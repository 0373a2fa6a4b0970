import type { HeaderMatcher, Match, PathMatcher } from './schema/rate-limit-policy.ts';

/** What matching and counting may look at; absent fields are absent inputs. */
export type RequestFacts = {
  /** Normalised, see path.ts. */
  readonly path?: string | undefined;
  /** Upper case. */
  readonly method?: string | undefined;
  /** Names in lower case. */
  readonly headers?: ReadonlyMap<string, string> | undefined;
};

/**
 * `matched` with the route (the value of the path matcher that matched; undefined if none was asked for),
 * `not-matched`, or `input-missing` if the matcher asks for something that the request does not carry.
 */
export type MatchResult =
  | { readonly kind: 'matched'; readonly route: string | undefined }
  | { readonly kind: 'not-matched' }
  | { readonly kind: 'input-missing'; readonly input: string };

const NOT_MATCHED: MatchResult = { kind: 'not-matched' };
const MATCHED_ANYTHING: MatchResult = { kind: 'matched', route: undefined };

/**
 * Kinds of matchers are ANDed, entries of one kind ORed, header conditions ANDed. What one matcher excludes is not
 * matched, whatever another one lacks.
 */
export function matches(match: Match | undefined, facts: RequestFacts): MatchResult {
  if (match === undefined) return MATCHED_ANYTHING;
  let missing: string | undefined;
  if (match.methods !== undefined) {
    if (facts.method === undefined) missing = 'method';
    else if (!methodMatches(match.methods, facts.method)) return NOT_MATCHED;
  }
  if (match.headers !== undefined) {
    if (facts.headers === undefined) missing ??= 'headers';
    else if (!headersMatch(match.headers, facts.headers)) return NOT_MATCHED;
  }
  let route: string | undefined;
  if (match.paths !== undefined) {
    if (facts.path === undefined) missing ??= 'path';
    else {
      route = routeOf(match.paths, facts.path);
      if (route === undefined) return NOT_MATCHED;
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

function headersMatch(matchers: readonly HeaderMatcher[], headers: ReadonlyMap<string, string>): boolean {
  for (const matcher of matchers) {
    if (!headerMatches(matcher, headers)) return false;
  }
  return true;
}

function headerMatches(matcher: HeaderMatcher, headers: ReadonlyMap<string, string>): boolean {
  const value = headers.get(matcher.name);
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
