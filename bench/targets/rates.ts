// Requests at a part of what a server can answer at most: how long answers take before everything is full.
import { median } from '../figures.ts';
import type { Rig } from '../rig.ts';
import { send } from '../senders/send.ts';
import { type LoadSpec, loadOf, loadTarget } from './load-target.ts';
import { EVALSHA, ONE_RULE } from './servers.ts';
import type { Target } from './target.ts';

export const PERCENTS = [30, 50, 70, 90] as const;

/** The first of them are discarded: a part of what a server answers while it is new would be too little. */
const SATURATING_TURNS = { all: 6, counted: 3 };

/** By name of the server that is asked; measured by the sender that then sends less. */
const saturation = new Map<string, Promise<number>>();

async function saturate(rig: Rig, spec: LoadSpec): Promise<number> {
  const [name] = spec.servers;
  if (name === undefined) throw new Error(`${spec.name} has no server`);
  const load = loadOf({ ...spec, sender: 'own' }, await rig.server(name));
  const rates: number[] = [];
  for (let turn = 0; turn < SATURATING_TURNS.all; turn += 1) {
    const { responses, seconds } = await send(load, rig.signal);
    rates.push(responses / seconds);
  }
  return median(rates.slice(-SATURATING_TURNS.counted));
}

function atPercent(spec: LoadSpec, percent: number): Target {
  const name = `${spec.name}@${percent}%`;
  let perSecond = 0;
  const target = loadTarget({ ...spec, name, ratePerSecond: () => (perSecond * percent) / 100 });
  return {
    ...target,
    about: `${spec.name} at ${percent} % of the most that it answered, whether or not answers come`,
    prepare: async (rig) => {
      await target.prepare?.(rig);
      const known = saturation.get(spec.name) ?? saturate(rig, spec);
      saturation.set(spec.name, known);
      perSecond = await known;
    },
  };
}

export const RATE_TARGETS: readonly Target[] = [EVALSHA, ONE_RULE].flatMap((spec) =>
  PERCENTS.map((percent) => atPercent(spec, percent)),
);
