import { Writable } from 'node:stream';
import { type Logger, pino } from 'pino';

/** What `sluice dev` prints: one line for each thing that a person wants to know. */
export type Console = {
  say(text: string): void;
  /** A logger whose lines are shown in the same form. */
  logger(component: string): Logger;
};

const LEVELS: Readonly<Record<number, string>> = { 40: 'warning: ', 50: 'error: ', 60: 'error: ' };

export function createConsole(write: (text: string) => void): Console {
  const say = (text: string): void => write(`${new Date().toTimeString().slice(0, 8)}  ${text}\n`);
  return {
    say,
    logger: (component) =>
      pino(
        { level: 'warn', base: {} },
        asLines((line) => say(`${component}  ${describe(line)}`)),
      ),
  };
}

function asLines(onLine: (line: string) => void): Writable {
  return new Writable({
    write(chunk: Buffer, _encoding, done) {
      for (const line of chunk.toString().split('\n')) if (line !== '') onLine(line);
      done();
    },
  });
}

function describe(line: string): string {
  const entry: unknown = JSON.parse(line);
  if (typeof entry !== 'object' || entry === null) return line;
  const field = (name: string): unknown => Reflect.get(entry, name);
  const error: unknown = field('err');
  const cause: unknown = typeof error === 'object' && error !== null ? Reflect.get(error, 'message') : undefined;
  const parts = [field('msg') ?? field('event'), cause].filter((part) => typeof part === 'string');
  return `${LEVELS[Number(field('level'))] ?? ''}${parts.join(': ')}`;
}
