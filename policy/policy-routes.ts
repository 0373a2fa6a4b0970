import { isMostlyNew, replaced } from './policy-order.ts';
import { RouteIndex } from './route-index.ts';
import type { PathMatcher } from './schema/match.ts';
import type { IndexedPolicy, PolicyRoutes } from './snapshot.ts';
import type { Steps } from './steps.ts';

/** Below so many policies, looking at each costs less than finding those that matter. */
const FEW_POLICIES = 4;

export type Replacement = {
  /** All of the domain now. */
  readonly policies: readonly IndexedPolicy[];
  readonly gone: readonly IndexedPolicy[];
  readonly fresh: readonly IndexedPolicy[];
};

/** Which policies may concern a path, after some were replaced. The held routes stay as they are. */
export function* routesAfter(
  held: PolicyRoutes | undefined,
  { policies, gone, fresh }: Replacement,
): Steps<PolicyRoutes | undefined> {
  if (policies.length <= FEW_POLICIES) return undefined;
  if (held === undefined || isMostlyNew(policies, gone, fresh)) {
    const byPath = new RouteIndex<IndexedPolicy>();
    const everywhere = yield* forPaths(policies, (path, policy) => byPath.add(path, policy));
    return { everywhere, byPath };
  }
  const byPath = held.byPath.copy();
  const goneEverywhere = yield* forPaths(gone, (path, policy) => byPath.remove(path, policy));
  const freshEverywhere = yield* forPaths(fresh, (path, policy) => byPath.add(path, policy));
  return { everywhere: yield* replaced(held.everywhere, goneEverywhere, freshEverywhere), byPath };
}

/** Tells each path and policy. Returns the policies that speak of every path. */
function* forPaths(
  policies: readonly IndexedPolicy[],
  onPath: (path: PathMatcher, policy: IndexedPolicy) => void,
): Steps<readonly IndexedPolicy[]> {
  const everywhere: IndexedPolicy[] = [];
  for (const policy of policies) {
    const paths = pathsOf(policy);
    if (paths === undefined) everywhere.push(policy);
    else for (const path of paths) onPath(path, policy);
    yield;
  }
  return everywhere;
}

/** The paths that a policy speaks of; undefined if a part of it speaks of every path. */
function pathsOf({ rules, exemptions }: IndexedPolicy): PathMatcher[] | undefined {
  const parts = [...rules, ...exemptions].map(({ matcher }) => matcher?.paths);
  const paths: PathMatcher[] = [];
  for (const part of parts) {
    if (part === undefined) return undefined;
    paths.push(...part);
  }
  return paths;
}
