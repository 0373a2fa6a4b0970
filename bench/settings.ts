import { parseArgs } from 'node:util';
import { RIVALS, type Scenario, SCENARIOS } from './scenarios.ts';

export type BenchSettings = {
  /** For each target in each round; taken in turns of one second. */
  readonly seconds: number;
  /** Rounds that count; others are run before them and discarded. */
  readonly rounds: number;
};

export type Command =
  | { readonly kind: 'measure'; readonly scenarios: readonly Scenario[]; readonly settings: BenchSettings }
  /** Writes the page anew from the results that are there. */
  | { readonly kind: 'page' };

const SECONDS = 1;
const ROUNDS = 7;

/** Shorter runs say whether everything works, not how fast it is: they do not replace the results in the docs. */
export const isQuotable = ({ settings, scenarios }: Extract<Command, { kind: 'measure' }>): boolean =>
  settings.rounds >= 5 && SCENARIOS.every((scenario) => scenarios.includes(scenario));

/** From `--only a,b` or `--page`, and the variables SECONDS, ROUNDS and RIVAL_RATELIMIT (a program). Throws RangeError, TypeError. */
export function commandFrom(args: string[], env: Readonly<Record<string, string | undefined>>): Command {
  const { values } = parseArgs({ args, options: { only: { type: 'string' }, page: { type: 'boolean' } } });
  if (values.page === true) return { kind: 'page' };
  const settings = {
    seconds: positive('SECONDS', env['SECONDS'], SECONDS),
    rounds: positive('ROUNDS', env['ROUNDS'], ROUNDS),
  };
  const all = (env['RIVAL_RATELIMIT'] ?? '') === '' ? SCENARIOS : [...SCENARIOS, RIVALS];
  return { kind: 'measure', settings, scenarios: values.only === undefined ? all : only(values.only, all) };
}

function only(text: string, all: readonly Scenario[]): Scenario[] {
  return text.split(',').map((name) => {
    const found = all.find((scenario) => scenario.name === name);
    if (found !== undefined) return found;
    const names = all.map((scenario) => scenario.name).join(', ');
    throw new RangeError(`--only ${JSON.stringify(name)} is not allowed: must be some of ${names}`);
  });
}

export function positive(name: string, text: string | undefined, preset: number, max = 600): number {
  if (text === undefined || text === '') return preset;
  const value = Number(text);
  if (Number.isInteger(value) && value >= 1 && value <= max) return value;
  throw new RangeError(`${name} ${JSON.stringify(text)} is not allowed: must be a whole number from 1 to ${max}`);
}
