import autocannon, { type Result } from 'autocannon';
import { orderFor } from './callers.ts';

export type Load = {
  readonly url: string;
  readonly bodies: readonly string[];
  /** What is wrong with an answer, undefined if nothing; asked for a sample of the answers. */
  readonly problemWith: (answer: string) => string | undefined;
  readonly signal: AbortSignal;
};

/** What the sender saw of one turn. */
export type LoadResult = {
  /** All answers, those of the first moments included. */
  readonly responses: number;
  /** From each request to its answer, milliseconds; without the first moments. */
  readonly waits: readonly number[];
  /** In which those came. */
  readonly seconds: number;
  /** Processor time of this process, and the time that passed, over all of the turn. */
  readonly senderCpuSeconds: number;
  readonly elapsedSeconds: number;
};

/** What happened is not what was to be measured: its speed means nothing. */
export class Unmeasurable extends Error {
  override readonly name = 'Unmeasurable';
}

export const CONNECTIONS = 50;

/** Length of one turn: short, so that what else the machine does meets all targets alike. */
export const TURN_SECONDS = 1;

/** Connections open and all callers begin at once: the first moments are not what is measured. */
const SETTLE_MILLIS = 200;
/** Every 16th answer is read. */
const SAMPLE_MASK = 15;

/** A closed loop: each connection sends its next request when it has its answer. Throws Unmeasurable. */
export async function drive(load: Load): Promise<LoadResult> {
  const { signal } = load;
  const stopwatch = new Stopwatch();
  let answers = 0;
  let problem: string | undefined;
  const verifyBody = (body: string): boolean => {
    answers += 1;
    if ((answers & SAMPLE_MASK) !== 0) return true;
    const found = load.problemWith(body);
    problem ??= found;
    return found === undefined;
  };
  let connection = 0;
  const cpuBefore = process.cpuUsage();
  const beganAt = performance.now();
  const instance = autocannon({
    url: load.url,
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    connections: CONNECTIONS,
    duration: TURN_SECONDS + SETTLE_MILLIS / 1000,
    sampleInt: 50,
    setupClient: (client) => client.setRequests(orderFor(connection++, load.bodies).map((body) => ({ body }))),
    verifyBody,
  }).on('response', (_client, _status, _bytes, millis) => stopwatch.note(millis));
  const stop = (): void => instance.stop();
  signal.addEventListener('abort', stop, { once: true });
  const result = await instance;
  signal.removeEventListener('abort', stop);
  signal.throwIfAborted();
  refuseFailures(result, problem);
  const cpu = process.cpuUsage(cpuBefore);
  const [senderCpuSeconds, elapsedSeconds] = [(cpu.user + cpu.system) / 1e6, (performance.now() - beganAt) / 1000];
  return { responses: result['2xx'], senderCpuSeconds, elapsedSeconds, ...stopwatch.read() };
}

function refuseFailures(result: Result, problem: string | undefined): void {
  const { errors, timeouts, non2xx, mismatches } = result;
  if (mismatches > 0) throw new Unmeasurable(`of a sample ${mismatches} answers are wrong, the first: ${problem}`);
  if (errors + timeouts + non2xx > 0)
    throw new Unmeasurable(`${errors} errors, ${timeouts} timeouts and ${non2xx} answers that are not 2xx`);
  if (result['2xx'] === 0) throw new Unmeasurable('there was no answer at all');
}

/** Times of answers. Not autocannon's own histogram: that one has whole milliseconds, and counts the first moments. */
class Stopwatch {
  readonly #waits: number[] = [];
  #countsFrom: number | undefined;
  #firstAt = 0;
  #lastAt = 0;

  note(millis: number): void {
    const now = performance.now();
    this.#countsFrom ??= now + SETTLE_MILLIS;
    if (now < this.#countsFrom) return;
    if (this.#waits.length === 0) this.#firstAt = now;
    this.#waits.push(millis);
    this.#lastAt = now;
  }

  read(): Pick<LoadResult, 'waits' | 'seconds'> {
    if (this.#lastAt <= this.#firstAt) throw new Unmeasurable('there were too few answers to measure');
    return { waits: this.#waits, seconds: (this.#lastAt - this.#firstAt) / 1000 };
  }
}
