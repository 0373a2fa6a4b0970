export type BenchSettings = {
  /** For each target in each round; taken in turns of one second. */
  readonly seconds: number;
  /** Rounds that count; one more is run before them and discarded. */
  readonly rounds: number;
};

const SECONDS = 4;
const ROUNDS = 7;

/** Shorter runs say whether everything works, not how fast it is: they do not replace the table in the docs. */
export const isQuotable = ({ seconds, rounds }: BenchSettings): boolean => seconds >= 2 && rounds >= 5;

/** From the environment variables SECONDS and ROUNDS. Throws RangeError. */
export function settingsFrom(env: Readonly<Record<string, string | undefined>>): BenchSettings {
  return {
    seconds: positive('SECONDS', env['SECONDS'], SECONDS),
    rounds: positive('ROUNDS', env['ROUNDS'], ROUNDS),
  };
}

function positive(name: string, text: string | undefined, preset: number): number {
  if (text === undefined || text === '') return preset;
  const value = Number(text);
  if (Number.isInteger(value) && value >= 1 && value <= 600) return value;
  throw new RangeError(`${name} ${JSON.stringify(text)} is not allowed: must be a whole number from 1 to 600`);
}
