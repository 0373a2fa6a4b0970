// A sender as a process of its own: reads a Load as JSON, sends it, prints a SenderReport as JSON. Where a rate is
// given, requests are due at fixed times, and are waited for from then on, sent or not: a server that stalls cannot
// hide it by keeping the sender from asking.
import { text } from 'node:stream/consumers';
import { setTimeout as pause } from 'node:timers/promises';
import { GrpcLane } from './grpc-lane.ts';
import { HttpLane } from './http-lane.ts';
import type { Load, SenderReport } from './load.ts';
import { SUBJECT_PLACEHOLDER } from './load.ts';

/** Sends one request at a time; the answer's problem, undefined if there is none. */
export type Lane = {
  send(request: string): Promise<Answer>;
  close(): void;
};

export type Answer = { readonly isRefused: boolean; readonly problem: string | undefined };

/** Connections open at once: the first moments are not what is measured. */
const SETTLE_MILLIS = 200;
/** What is still under way at the end is waited for so long. */
const PATIENCE_MILLIS = 10_000;

class Sender {
  readonly #load: Load;
  readonly #free: Lane[] = [];
  readonly #due: number[] = [];
  readonly #waits: number[] = [];
  #subject: number;
  #sent = 0;
  #answered = 0;
  #failures = 0;
  #refused = 0;
  #wrong = 0;
  #example = '';
  #countsFrom = 0;

  constructor(load: Load & { readonly firstSubject: number }) {
    this.#load = load;
    this.#subject = load.firstSubject;
  }

  async run(lanes: readonly Lane[]): Promise<SenderReport> {
    const began = performance.now();
    this.#countsFrom = began + SETTLE_MILLIS;
    const until = this.#countsFrom + this.#load.seconds * 1_000;
    if (this.#load.ratePerSecond === undefined) await Promise.all(lanes.map((lane) => this.#loop(lane, until)));
    else await this.#atRate(lanes, { began, until, perMilli: this.#load.ratePerSecond / 1_000 });
    return this.#report();
  }

  async #loop(lane: Lane, until: number): Promise<void> {
    while (performance.now() < until) await this.#one(lane, performance.now());
  }

  async #atRate(
    lanes: readonly Lane[],
    { began, until, perMilli }: { readonly began: number; readonly until: number; readonly perMilli: number },
  ): Promise<void> {
    this.#free.push(...lanes);
    let scheduled = 0;
    for (let now = began; now < until; now = performance.now()) {
      for (; began + scheduled / perMilli <= now; scheduled += 1) this.#due.push(began + scheduled / perMilli);
      this.#dispatch();
      // To look all the time would take a processor from those who are measured. What this adds to a wait is a
      // millisecond or two, for every server alike.
      await pause(1);
    }
    const deadline = performance.now() + PATIENCE_MILLIS;
    while (this.#answered < scheduled && performance.now() < deadline) await pause(1);
    this.#failures += scheduled - this.#answered;
  }

  #dispatch(): void {
    while (this.#due.length > 0) {
      const lane = this.#free.pop();
      if (lane === undefined) return;
      const dueAt = this.#due.shift() ?? 0;
      void this.#one(lane, dueAt).then(() => {
        this.#free.push(lane);
        this.#dispatch();
      });
    }
  }

  /** Never rejects. */
  async #one(lane: Lane, dueAt: number): Promise<void> {
    try {
      const { isRefused, problem } = await lane.send(this.#nextRequest());
      if (isRefused) this.#refused += 1;
      else if (problem !== undefined) this.#wrong += 1;
      this.#example = problem ?? this.#example;
    } catch (error) {
      this.#failures += 1;
      this.#example = String(error);
    }
    this.#answered += 1;
    if (dueAt >= this.#countsFrom) this.#waits.push(performance.now() - dueAt);
  }

  #nextRequest(): string {
    const { requests, subjects } = this.#load;
    const request = requests[this.#sent % requests.length] ?? '';
    this.#sent += 1;
    if (subjects === 0) return request;
    return request.replaceAll(SUBJECT_PLACEHOLDER, () => {
      this.#subject = (this.#subject + 1) % subjects;
      return String(this.#subject).padStart(SUBJECT_PLACEHOLDER.length, '0');
    });
  }

  #report(): SenderReport {
    const waits = Float64Array.from(this.#waits).toSorted();
    const quantile = (part: number): number => waits[Math.max(0, Math.ceil(waits.length * part) - 1)] ?? Number.NaN;
    const { user, system } = process.cpuUsage();
    return {
      responses: this.#answered,
      seconds: (performance.now() - this.#countsFrom + SETTLE_MILLIS) / 1_000,
      p50Millis: quantile(0.5),
      p99Millis: quantile(0.99),
      maxMillis: quantile(1),
      senderCpuSeconds: (user + system) / 1e6,
      failures: this.#failures,
      refused: this.#refused,
      wrong: this.#wrong,
      example: this.#example,
    };
  }
}

const load = JSON.parse(await text(process.stdin)) as Load & { firstSubject: number };
const lanes = await Promise.all(
  Array.from({ length: load.connections }, () =>
    load.protocol === 'http' ? HttpLane.open(load) : GrpcLane.open(load),
  ),
);
const report = await new Sender(load).run(lanes);
for (const lane of lanes) lane.close();
console.log(`\n${JSON.stringify(report)}`);
