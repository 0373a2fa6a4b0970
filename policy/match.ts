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

/** Kinds of matchers are ANDed, entries of one kind ORed, header conditions ANDed. */
export function matches(match: Match | undefined, facts: RequestFacts): MatchResult {
  if (match === undefined) return MATCHED_ANYTHING;
  if (match.methods !== undefined) {
    if (facts.method === undefined) return missing('method');
    if (!methodMatches(match.methods, facts.method)) return NOT_MATCHED;
  }
  if (match.headers !== undefined) {
    if (facts.headers === undefined) return missing('headers');
    for (const matcher of match.headers) {
      if (!headerMatches(matcher, facts.headers)) return NOT_MATCHED;
    }
  }
  if (match.paths === undefined) return MATCHED_ANYTHING;
  if (facts.path === undefined) return missing('path');
  for (const matcher of match.paths) {
    if (pathMatches(matcher, facts.path)) return { kind: 'matched', route: matcher.value };
  }
  return NOT_MATCHED;
}

function missing(input: string): MatchResult {
  return { kind: 'input-missing', input };
}

function methodMatches(methods: readonly string[], method: string): boolean {
  return methods.includes(method) || (method === 'HEAD' && methods.includes('GET'));
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

function pathMatches(matcher: PathMatcher, path: string): boolean {
  switch (matcher.type) {
    case 'Exact':
      return path === matcher.value;
    case 'Prefix':
      return isBelow(matcher.value, path);
    case 'Template':
      return templatesOverlap(segmentsOf(matcher.value), path.slice(1).split('/'));
  }
}

/** Whether a path is the prefix itself or lies below it: /v1 covers /v1 and /v1/a, not /v1beta. */
export function isBelow(prefix: string, path: string): boolean {
  if (!path.startsWith(prefix)) return false;
  return path.length === prefix.length || prefix.endsWith('/') || path.charAt(prefix.length) === '/';
}

export function segmentsOf(template: string): readonly string[] {
  return template.slice(1).split('/');
}

/** Whether one path can match both; a literal path is a template without placeholders. */
export function templatesOverlap(one: readonly string[], other: readonly string[]): boolean {
  if (one.length !== other.length) return false;
  return one.every((segment, index) => segmentsAgree(segment, other[index] ?? ''));
}

/** A placeholder stands for one segment that is not empty. */
export function segmentsAgree(one: string, other: string): boolean {
  if (isPlaceholder(one)) return other !== '';
  if (isPlaceholder(other)) return one !== '';
  return one === other;
}

function isPlaceholder(segment: string): boolean {
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
