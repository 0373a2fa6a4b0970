/** What is sent, and how it is known that the answers are right. */
export type Load = {
  readonly protocol: 'http' | 'grpc';
  readonly port: number;
  /** 'fastest': wrk where it can do it and is there; else our own. */
  readonly sender: 'fastest' | 'own';
  /** Whole HTTP requests, or the path and message of a call in base64. Sent one after the other, again and again. */
  readonly requests: readonly string[];
  /** Every "########" in a request becomes the next of so many numbers; 0 = nothing is replaced. */
  readonly subjects: number;
  /** Default: any of them, so that a turn does not ask again for what the last one asked for. */
  readonly firstSubject?: number;
  /** What every answer must contain `count` times: a sample is looked at. In gRPC: the code of the answer. */
  readonly fragments: readonly string[];
  readonly count: number;
  readonly connections: number;
  readonly seconds: number;
  /** Requests a second, sent whether or not answers come; absent: each connection sends when it has its answer. */
  readonly ratePerSecond?: number;
};

/** What the sender saw of one turn. */
export type LoadResult = {
  readonly responses: number;
  readonly seconds: number;
  /** From when a request was to be sent: one that had to wait for its turn has waited for its answer, too. */
  readonly p50Millis: number;
  readonly p99Millis: number;
  readonly maxMillis: number;
  /** Processor time of the sender. */
  readonly senderCpuSeconds: number;
};

/** What a sender prints: with it, what went wrong. */
export type SenderReport = LoadResult & {
  readonly failures: number;
  /** Answers that are not 200 (gRPC: not OK). */
  readonly refused: number;
  readonly wrong: number;
  readonly example: string;
};

/** What happened is not what was to be measured: its speed means nothing. */
export class Unmeasurable extends Error {
  override readonly name = 'Unmeasurable';
}

export const SUBJECT_PLACEHOLDER = '########';

export function refuseFailures({ failures, refused, wrong, example, responses }: SenderReport): void {
  if (wrong > 0) throw new Unmeasurable(`of a sample ${wrong} answers are wrong, the last: ${example}`);
  if (failures + refused > 0)
    throw new Unmeasurable(`${failures} connections or time-outs failed, ${refused} answers are refusals: ${example}`);
  if (responses === 0) throw new Unmeasurable('there was no answer at all');
}
