import { isPlaceholder, segmentsOf } from './match.ts';
import type { PathMatcher } from './schema/match.ts';

type Node<T> = {
  readonly literal: Map<string, Node<T>>;
  /** Below a placeholder. */
  placeholder: Node<T> | undefined;
  /** Of matchers for exactly this path. */
  readonly exact: T[];
  /** Of prefixes that cover this path and everything below it. */
  readonly covering: T[];
  /** Of prefixes that end with a slash: they cover what is below this path only. */
  readonly inside: T[];
};

function newNode<T>(): Node<T> {
  return { literal: new Map(), placeholder: undefined, exact: [], covering: [], inside: [] };
}

/**
 * Finds what belongs to a path without looking at everything: a tree of the segments of paths. A segment of a request is
 * followed to its literal child and to the placeholder, so a lookup costs what the path is long.
 */
export class RouteIndex<T> {
  readonly #root = newNode<T>();

  add(matcher: PathMatcher, item: T): void {
    const { segments, isInside } = placeOf(matcher);
    let node = this.#root;
    for (const segment of segments) node = childFor(node, segment, matcher.type === 'Template');
    if (matcher.type !== 'Prefix') node.exact.push(item);
    else if (isInside) node.inside.push(item);
    else node.covering.push(item);
  }

  /** Items of all matchers that match a normalised path; an item may come more than once. */
  matching(path: string): T[] {
    const found: T[] = [];
    collectMatching(this.#root, segmentsOf(path), 0, found);
    return found;
  }

  /** Items of all matchers that some path matches together with this one; an item may come more than once. */
  overlapping(matcher: PathMatcher): T[] {
    if (matcher.type === 'Exact') return this.matching(matcher.value);
    const found: T[] = [];
    collectOverlapping(this.#root, { ...placeOf(matcher), type: matcher.type }, 0, found);
    return found;
  }
}

type Place = { readonly segments: readonly string[]; readonly isInside: boolean };

/** A prefix that ends with a slash stands at the path before the slash. */
function placeOf({ type, value }: PathMatcher): Place {
  const segments = segmentsOf(value);
  const isInside = type === 'Prefix' && segments.at(-1) === '';
  return { segments: isInside ? segments.slice(0, -1) : segments, isInside };
}

function childFor<T>(node: Node<T>, segment: string, isTemplate: boolean): Node<T> {
  if (isTemplate && isPlaceholder(segment)) return (node.placeholder ??= newNode());
  const known = node.literal.get(segment);
  if (known !== undefined) return known;
  const child = newNode<T>();
  node.literal.set(segment, child);
  return child;
}

function collectMatching<T>(node: Node<T>, segments: readonly string[], depth: number, found: T[]): void {
  found.push(...node.covering);
  const segment = segments[depth];
  if (segment === undefined) {
    found.push(...node.exact);
    return;
  }
  found.push(...node.inside);
  const literal = node.literal.get(segment);
  if (literal !== undefined) collectMatching(literal, segments, depth + 1, found);
  if (node.placeholder !== undefined && segment !== '') collectMatching(node.placeholder, segments, depth + 1, found);
}

type Query = Place & { readonly type: PathMatcher['type'] };

function collectOverlapping<T>(node: Node<T>, query: Query, depth: number, found: T[]): void {
  const segment = query.segments[depth];
  if (segment === undefined) {
    if (query.type === 'Prefix') collectAll(node, found, query.isInside);
    else found.push(...node.covering, ...node.exact);
    return;
  }
  found.push(...node.covering, ...node.inside);
  const isAnything = query.type === 'Template' && isPlaceholder(segment);
  for (const [name, child] of isAnything ? node.literal : literalOf(node, segment)) {
    if (!isAnything || name !== '') collectOverlapping(child, query, depth + 1, found);
  }
  if (node.placeholder !== undefined && segment !== '') collectOverlapping(node.placeholder, query, depth + 1, found);
}

function literalOf<T>(node: Node<T>, segment: string): [string, Node<T>][] {
  const child = node.literal.get(segment);
  return child === undefined ? [] : [[segment, child]];
}

/** Everything at and below a node, but what is for exactly its path if that is left out. */
function collectAll<T>(node: Node<T>, found: T[], isExactLeftOut: boolean): void {
  found.push(...node.covering, ...node.inside);
  if (!isExactLeftOut) found.push(...node.exact);
  for (const child of node.literal.values()) collectAll(child, found, false);
  if (node.placeholder !== undefined) collectAll(node.placeholder, found, false);
}
