// Another configuration comes into force under load: who asks meanwhile must not notice.
import { setTimeout as pause } from 'node:timers/promises';
import type { Figures } from '../figures.ts';
import { scrape } from '../prometheus.ts';
import { type Prepared, prepare, putInForce } from '../publish-policies.ts';
import type { Rig } from '../rig.ts';
import { Unmeasurable } from '../senders/load.ts';
import { MANY_POLICIES, nameOfPolicy, PLENTY, specsOf, type NamedSpecs } from '../worlds.ts';
import { loadTarget } from './load-target.ts';
import { limiter } from './servers.ts';
import type { Target } from './target.ts';

const WORLD = 'domains';
const SERVER = 'limiter-domains';
const REQUESTS_PER_SECOND = 500;
const LOAD_SECONDS = 2;
const SWAP_AFTER_MILLIS = 600;
const LOADED_MILLIS = 10_000;

type Variants = { readonly before: Prepared; readonly after: Prepared };

/** One turn puts `after` in force, the next one what was there before. */
function swapTarget(name: string, about: string, make: (() => Variants) | undefined): Target {
  const spec = limiter(name, about, { policy: nameOfPolicy(1), servers: [SERVER] });
  const load = loadTarget({ ...spec, seconds: LOAD_SECONDS, ratePerSecond: () => REQUESTS_PER_SECOND });
  let variants: Variants | undefined;
  let isAfter = false;
  return {
    name,
    about,
    prepare: async (rig) => {
      await load.prepare?.(rig);
      variants = make?.();
    },
    measure: async (rig) => {
      const [{ maxMillis, p50Millis, p99Millis }] = await Promise.all([load.measure(rig), swap(rig)]);
      return { maxMillis, p50Millis, p99Millis } as Figures;
    },
  };

  async function swap(rig: Rig): Promise<void> {
    if (variants === undefined) return;
    await pause(SWAP_AFTER_MILLIS, undefined, { signal: rig.signal });
    isAfter = !isAfter;
    const revision = await putInForce(rig.redis, WORLD, isAfter ? variants.after : variants.before);
    await untilLoaded(rig, revision);
  }
}

/** What was not loaded was not measured. */
async function untilLoaded(rig: Rig, revision: number): Promise<void> {
  const { metricsUrl } = await rig.server(SERVER);
  const deadline = performance.now() + LOADED_MILLIS;
  while (performance.now() < deadline) {
    if ((await scrape(metricsUrl)).get('sluice_snapshot_revision') === revision) return;
    // Seldom: to ask for the metrics takes time from those who are measured.
    await pause(200, undefined, { signal: rig.signal });
  }
  throw new Unmeasurable(`revision ${revision} was not loaded within ${LOADED_MILLIS} ms`);
}

function withLimits(specs: NamedSpecs, names: readonly string[]): NamedSpecs {
  const limits = PLENTY.map((limit) => ({ ...limit, requests: limit.requests + 1 }));
  const changed = names.map((name) => {
    const spec = specs[name];
    if (spec === undefined) throw new Error(`no policy ${name}`);
    return [name, { ...spec, rules: spec.rules.map((rule) => ({ ...rule, limits })) }] as const;
  });
  return { ...specs, ...Object.fromEntries(changed) };
}

function variantsOf(names: readonly string[]): Variants {
  const specs = specsOf(WORLD);
  return { before: prepare(specs), after: prepare(withLimits(specs, names)) };
}

const all = Array.from({ length: MANY_POLICIES }, (_, index) => nameOfPolicy(index));

export const SWAP_TARGETS: readonly Target[] = [
  swapTarget('swap-none', '10,000 policies at 500 requests a second, nothing changes', undefined),
  swapTarget('swap-one', 'the same, while one of the policies changes', () => variantsOf([nameOfPolicy(0)])),
  swapTarget('swap-all', 'the same, while all of them change', () => variantsOf(all)),
];
