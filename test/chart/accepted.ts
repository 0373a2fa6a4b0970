// Values that the chart accepts, and what has to come of each. Merged over MINIMAL.
import { limiter } from './accepted/limiter.ts';
import { monitoring } from './accepted/monitoring.ts';
import { network } from './accepted/network.ts';
import type { Accepted } from './accepted/objects.ts';
import { pods } from './accepted/pods.ts';
import { redis } from './accepted/redis.ts';
import { release } from './accepted/release.ts';
import { MINIMAL } from './helm.ts';

/** Redis is one of three; a set that names another one has to be able to unname the minimal one. */
export const accepted: readonly Accepted[] = [...release, ...redis, ...limiter, ...pods, ...network, ...monitoring].map(
  (set) => ({ ...set, values: { ...MINIMAL, ...set.values } }),
);
