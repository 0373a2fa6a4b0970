// Another configuration comes into force under load: who asks meanwhile must not notice.
import { setTimeout as pause } from 'node:timers/promises';
import type { FigureName, Figures } from '../figures.ts';
import { scrape } from '../prometheus.ts';
import { type Prepared, prepare, putInForce } from '../publish-policies.ts';
import type { Rig } from '../rig.ts';
import { Unmeasurable } from '../senders/load.ts';
import { nameOfPolicy, PLENTY, specsOf, type NamedSpecs } from '../worlds.ts';
import { loadTarget } from './load-target.ts';
import { limiter } from './servers.ts';
import type { Target } from './target.ts';

const WORLD = 'domains';
const SERVER = 'limiter-domains';
const REQUESTS_PER_SECOND = 500;
/** Longer than a swap takes on a machine that has nothing else to do. */
const LOAD_SECONDS = 4;
const SWAP_AFTER_MILLIS = 600;
const OTHER_LIMITS = PLENTY.map((limit) => ({ ...limit, requests: limit.requests + 1 }));
const LOADED_MILLIS = 60_000;

/** Which policies have the other limits: the first, and all the others. */
type Variant = { readonly first: boolean; readonly others: boolean };
type Change = (inForce: Variant) => Variant;

const VARIANTS: readonly Variant[] = [false, true].flatMap((first) =>
  [false, true].map((others) => ({ first, others })),
);

/** They share a limiter: each changes what the one before it put in force, and only that much of it. */
function swapTargets(): Target[] {
  const prepared = new Map<string, Prepared>();
  let inForce: Variant = { first: false, others: false };

  function swapTarget(name: string, about: string, change: Change | undefined): Target {
    const spec = limiter(name, about, { policy: nameOfPolicy(1), servers: [SERVER] });
    const load = loadTarget({ ...spec, seconds: LOAD_SECONDS, ratePerSecond: () => REQUESTS_PER_SECOND });
    const prepareTarget = async (rig: Rig): Promise<void> => {
      await load.prepare?.(rig);
      if (change === undefined || prepared.size > 0) return;
      for (const variant of VARIANTS) prepared.set(keyOf(variant), prepare(specsIn(variant)));
    };
    const measure = async (rig: Rig): Promise<Figures> => {
      let isOver = change === undefined;
      const swapping = change === undefined ? undefined : swap(rig, change).finally(() => (isOver = true));
      const [figures] = await Promise.all([slowestOf(load, rig, () => isOver), swapping]);
      return figures;
    };
    return { ...load, prepare: prepareTarget, measure };
  }

  async function swap(rig: Rig, change: Change): Promise<void> {
    await pause(SWAP_AFTER_MILLIS, undefined, { signal: rig.signal });
    const before = prepared.get(keyOf(inForce));
    inForce = change(inForce);
    const next = prepared.get(keyOf(inForce));
    if (next === undefined) throw new Error('the configuration was not prepared');
    await untilLoaded(rig, await putInForce(rig.redis, WORLD, next, before));
  }

  return [
    swapTarget('swap-none', '10,000 policies at 500 requests a second, nothing changes', undefined),
    swapTarget('swap-one', 'the same, while one of the policies changes', ({ first, others }) => ({
      first: !first,
      others,
    })),
    swapTarget('swap-all', 'the same, while all of them change', ({ first, others }) => ({
      first: !first,
      others: !others,
    })),
  ];
}

export const SWAP_TARGETS: readonly Target[] = swapTargets();

/** Of turns under load until the swap is over: what comes after a turn's end is not seen in it. */
async function slowestOf(load: Target, rig: Rig, isOver: () => boolean): Promise<Figures> {
  const turns: Figures[] = [];
  do turns.push(await load.measure(rig));
  while (!isOver());
  const most = (name: FigureName): number => Math.max(...turns.map((figures) => figures[name] ?? Number.NaN));
  return { maxMillis: most('maxMillis'), p50Millis: most('p50Millis'), p99Millis: most('p99Millis') };
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

const keyOf = ({ first, others }: Variant): string => `${first} ${others}`;

function specsIn({ first, others }: Variant): NamedSpecs {
  const all = Object.entries(specsOf(WORLD)).map(([name, spec]) => {
    const isChanged = name === nameOfPolicy(0) ? first : others;
    return [name, isChanged ? { ...spec, rules: spec.rules.map((rule) => ({ ...rule, limits: OTHER_LIMITS })) } : spec];
  });
  return Object.fromEntries(all) as NamedSpecs;
}
