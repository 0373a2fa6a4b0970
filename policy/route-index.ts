import { isPlaceholder, segmentsOf } from './match.ts';
import type { PathMatcher } from './schema/match.ts';

type Node<T> = {
  /** Who may change it: what an index shares with its copy is nobody's. */
  readonly owner: object;
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

function newNode<T>(owner: object): Node<T> {
  return { owner, literal: new Map(), placeholder: undefined, exact: [], covering: [], inside: [] };
}

/** A node that this owner may change: the same one, or one like it. */
function owned<T>(node: Node<T>, owner: object): Node<T> {
  if (node.owner === owner) return node;
  const { literal, placeholder, exact, covering, inside } = node;
  return {
    owner,
    literal: new Map(literal),
    placeholder,
    exact: [...exact],
    covering: [...covering],
    inside: [...inside],
  };
}

/**
 * Finds what belongs to a path without looking at everything: a tree of the segments of paths. A segment of a request is
 * followed to its literal child and to the placeholder, so a lookup costs what the path is long.
 */
export class RouteIndex<T> {
  #owner: object = {};
  #root: Node<T> = newNode(this.#owner);

  /** One that can be changed without changing this one. What is changed in neither is shared. */
  copy(): RouteIndex<T> {
    const copy = new RouteIndex<T>();
    copy.#root = this.#root;
    this.#owner = {};
    return copy;
  }

  add(matcher: PathMatcher, item: T): void {
    const place = placeOf(matcher);
    listOf(this.#wayTo(place).node, place).push(item);
  }

  /** Takes away what was added with the same matcher. */
  remove(matcher: PathMatcher, item: T): void {
    const place = placeOf(matcher);
    const { node, parents } = this.#wayTo(place);
    const list = listOf(node, place);
    const index = list.indexOf(item);
    if (index >= 0) list.splice(index, 1);
    prune(parents, node, place);
  }

  /** The node of a place and those above it, from the root on, all of them ours to change. */
  #wayTo(place: Place): { readonly node: Node<T>; readonly parents: readonly Node<T>[] } {
    const parents: Node<T>[] = [];
    let node = (this.#root = owned(this.#root, this.#owner));
    for (const segment of place.segments) {
      const known = childOf(node, segment, place);
      const child = known === undefined ? newNode<T>(this.#owner) : owned(known, this.#owner);
      if (child !== known) setChild(node, segment, place, child);
      parents.push(node);
      node = child;
    }
    return { node, parents };
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
    collectOverlapping(this.#root, placeOf(matcher), 0, found);
    return found;
  }
}

/** Where in the tree a matcher stands. */
type Place = {
  readonly type: PathMatcher['type'];
  readonly segments: readonly string[];
  readonly isInside: boolean;
};

/** A prefix that ends with a slash stands at the path before the slash. */
function placeOf({ type, value }: PathMatcher): Place {
  const segments = segmentsOf(value);
  const isInside = type === 'Prefix' && segments.at(-1) === '';
  return { type, segments: isInside ? segments.slice(0, -1) : segments, isInside };
}

function listOf<T>(node: Node<T>, { type, isInside }: Place): T[] {
  if (type !== 'Prefix') return node.exact;
  return isInside ? node.inside : node.covering;
}

function childOf<T>(node: Node<T>, segment: string, { type }: Place): Node<T> | undefined {
  return type === 'Template' && isPlaceholder(segment) ? node.placeholder : node.literal.get(segment);
}

function setChild<T>(node: Node<T>, segment: string, { type }: Place, child: Node<T> | undefined): void {
  if (type === 'Template' && isPlaceholder(segment)) node.placeholder = child;
  else if (child === undefined) node.literal.delete(segment);
  else node.literal.set(segment, child);
}

/** Lets go of a node of which nothing is left, and of those above it that had nothing else. */
function prune<T>(parents: readonly Node<T>[], node: Node<T>, place: Place): void {
  let below = node;
  for (let depth = parents.length - 1; depth >= 0 && isEmpty(below); depth -= 1) {
    const [parent, segment] = [parents[depth], place.segments[depth]];
    if (parent === undefined || segment === undefined) return;
    setChild(parent, segment, place, undefined);
    below = parent;
  }
}

function isEmpty<T>({ literal, placeholder, exact, covering, inside }: Node<T>): boolean {
  return literal.size + exact.length + covering.length + inside.length === 0 && placeholder === undefined;
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

function collectOverlapping<T>(node: Node<T>, query: Place, depth: number, found: T[]): void {
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
